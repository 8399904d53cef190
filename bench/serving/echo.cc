// What the machine itself takes for an inference request over HTTP: one thread, one epoll set, no
// parsing beyond what is needed to find the tensor, which goes back as it came. A yardstick for
// bench/serving/overhead.py, which starts it; not a server: it trusts its client.
//
//   serving_echo     prints its port and serves until it is killed
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>

namespace {

struct Client {
  int fd;
  std::string in = std::string(64 << 10, '\0');  // a request, whole or not
  size_t received = 0;
  std::string head = {};         // of the reply
  std::string_view tensor = {};  // in `in`; the reply's rest
  size_t written = 0;
  bool blocked = false;
};

size_t HeaderNumber(std::string_view head, std::string_view name) {
  const size_t at = head.find(name);
  size_t number = 0;
  if (at != std::string_view::npos)
    std::from_chars(head.data() + at + name.size(), head.data() + head.size(), number);
  return number;
}

// The reply to the request in `c`, once it is whole.
bool Answer(Client& c) {
  const std::string_view data(c.in.data(), c.received);
  const size_t end = data.find("\r\n\r\n");
  if (end == std::string_view::npos) return false;
  const std::string_view head = data.substr(0, end + 2);
  const size_t length = HeaderNumber(head, "\r\nContent-Length: ");
  const size_t json = HeaderNumber(head, "\r\nInference-Header-Content-Length: ");
  const size_t whole = end + 4 + length;
  if (c.in.size() < whole) c.in.resize(whole);
  if (c.received < whole) return false;
  c.tensor = std::string_view(c.in).substr(end + 4 + json, length - json);
  char text[256], reply[512];
  const int n = std::snprintf(
      text, sizeof text,
      R"({"model_name":"identity","model_version":"1","outputs":[{"name":"y","datatype":"FP32",)"
      R"("shape":[1,%zu],"parameters":{"binary_data_size":%zu}}]})",
      c.tensor.size() / 4, c.tensor.size());
  const int m = std::snprintf(reply, sizeof reply,
                              "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n"
                              "Content-Type: application/octet-stream\r\n"
                              "Inference-Header-Content-Length: %d\r\n\r\n%s",
                              size_t(n) + c.tensor.size(), n, text);
  c.head.assign(reply, size_t(m));
  if (c.tensor.size() < 4096) {
    c.head += c.tensor;
    c.tensor = {};
  }
  c.received = c.written = 0;
  return true;
}

// False: the connection broke.
bool Flush(int epoll, Client& c) {
  iovec parts[2];
  int count = 0;
  size_t skip = c.written;
  for (const std::string_view part : {std::string_view(c.head), c.tensor}) {
    const size_t skipped = std::min(skip, part.size());
    skip -= skipped;
    if (part.size() > skipped)
      parts[count++] = {const_cast<char*>(part.data()) + skipped, part.size() - skipped};
  }
  msghdr message{};
  message.msg_iov = parts;
  message.msg_iovlen = size_t(count);
  const ssize_t n = ::sendmsg(c.fd, &message, MSG_NOSIGNAL);
  if (n < 0 && errno != EAGAIN) return false;
  c.written += size_t(std::max<ssize_t>(n, 0));
  const bool blocked = c.written < c.head.size() + c.tensor.size();
  if (blocked != c.blocked) {
    epoll_event event{.events = blocked ? EPOLLOUT : EPOLLIN, .data = {.ptr = &c}};
    ::epoll_ctl(epoll, EPOLL_CTL_MOD, c.fd, &event);
    c.blocked = blocked;
  }
  return true;
}

// False: the connection ended.
bool Serve(int epoll, Client& c) {
  if (c.blocked) return Flush(epoll, c);
  const ssize_t n = ::recv(c.fd, c.in.data() + c.received, c.in.size() - c.received, 0);
  if (n <= 0) return n < 0 && errno == EAGAIN;
  c.received += size_t(n);
  return !Answer(c) || Flush(epoll, c);
}

void Accept(int epoll, int listener) {
  for (;;) {
    const int fd = ::accept4(listener, nullptr, nullptr, SOCK_NONBLOCK);
    if (fd < 0) return;
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    epoll_event event{.events = EPOLLIN, .data = {.ptr = new Client{.fd = fd}}};
    ::epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &event);
  }
}

}  // namespace

int main() {
  const int listener = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* const where = reinterpret_cast<sockaddr*>(&address);
  if (::bind(listener, where, size) != 0 || ::listen(listener, SOMAXCONN) != 0 ||
      ::getsockname(listener, where, &size) != 0) {
    std::perror("serving_echo: cannot listen");
    return 1;
  }
  std::printf("%d\n", ntohs(address.sin_port));
  std::fflush(stdout);
  const int epoll = ::epoll_create1(0);
  epoll_event event{.events = EPOLLIN, .data = {.ptr = nullptr}};  // null: the listener
  ::epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
  for (;;) {
    epoll_event events[128];
    const int n = ::epoll_wait(epoll, events, 128, -1);
    for (int i = 0; i < n; ++i) {
      auto* const client = static_cast<Client*>(events[i].data.ptr);
      if (client == nullptr) {
        Accept(epoll, listener);
      } else if (!Serve(epoll, *client)) {
        ::close(client->fd);
        delete client;
      }
    }
  }
}
