#include "http/channel.h"

#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

namespace dunlin::http {
namespace {

// kResourceExhausted: there are no more descriptors or ports on our side, whatever the server does.
tl::unexpected<Error> Broken(const char* what, int error) {
  const bool ours = error == EMFILE || error == ENFILE || error == EADDRNOTAVAIL;
  return Fail(ours ? Code::kResourceExhausted : Code::kUnavailable, "{}: {}", what,
              std::strerror(error));
}

tl::unexpected<Error> Ended(const char* what) {
  return Fail(Code::kUnavailable, "{}: the server closed the connection", what);
}

}  // namespace

Result<Peer> Peer::Find(const ServerUrl& url, const TlsClientOptions& tls,
                        const std::string& protocol) {
  Peer peer;
  peer.url = url;
  if (url.tls()) {
    peer.tls = TRY(TlsClient::Create(tls, protocol));
    std::signal(SIGPIPE, SIG_IGN);
  }
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int error = getaddrinfo(url.host.c_str(), url.port.c_str(), &hints, &found);
  if (error != 0) return Fail(Code::kUnavailable, "{}: {}", url.host, gai_strerror(error));
  for (const addrinfo* a = found; a != nullptr; a = a->ai_next) {
    Address address{{}, a->ai_addrlen};
    std::memcpy(&address.bytes, a->ai_addr, a->ai_addrlen);
    peer.addresses.push_back(address);
  }
  freeaddrinfo(found);
  return peer;
}

Channel::Channel(Channel&& other) noexcept
    : state_(std::exchange(other.state_, State::kClosed)),
      fd_(std::exchange(other.fd_, -1)),
      epoll_(other.epoll_),
      tag_(other.tag_),
      tried_(other.tried_),
      tls_(std::move(other.tls_)) {}

void Channel::Close() {
  tls_.reset();
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  state_ = State::kClosed;
}

Status Channel::Open(Peer& peer, int epoll, uint64_t tag) {
  Close();
  epoll_ = epoll;
  tag_ = tag;
  tried_ = 0;
  return Try(peer);
}

Status Channel::Try(Peer& peer) {
  Close();
  if (tried_++ > 0)
    std::rotate(peer.addresses.begin(), peer.addresses.begin() + 1, peer.addresses.end());
  const Peer::Address& address = peer.addresses.front();
  fd_ = ::socket(address.bytes.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd_ < 0) return Broken("connecting", errno);
  const int on = 1;
  ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.u64 = tag_;
  if (::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd_, &event) != 0) return Broken("connecting", errno);
  const auto* to = reinterpret_cast<const sockaddr*>(&address.bytes);
  state_ = State::kConnecting;
  if (::connect(fd_, to, address.length) == 0 || errno == EINPROGRESS) return {};
  const int error = errno;
  if (tried_ < peer.addresses.size()) return Try(peer);
  return Broken("connecting", error);
}

Status Channel::Advance(Peer& peer) {
  if (state_ == State::kConnecting) {
    int error = 0;
    socklen_t length = sizeof error;
    ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
    if (error != 0) {
      if (tried_ < peer.addresses.size()) return Try(peer);
      return Broken("connecting", error);
    }
    // An event may be of an attempt that has been given up.
    sockaddr_storage name;
    length = sizeof name;
    if (::getpeername(fd_, reinterpret_cast<sockaddr*>(&name), &length) != 0) return {};
    state_ = State::kOpen;
    if (peer.tls) {
      tls_ = peer.tls->Start(fd_, peer.url.host);
      if (tls_ == nullptr) return Fail(Code::kInternal, "TLS: {}", TlsErrorText());
      state_ = State::kHandshaking;
    }
  }
  return state_ == State::kHandshaking ? Handshake() : Status{};
}

Status Channel::Handshake() {
  ERR_clear_error();
  const int done = SSL_do_handshake(tls_.get());
  if (done == 1) {
    state_ = State::kOpen;
    return {};
  }
  const int error = SSL_get_error(tls_.get(), done);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return {};
  const auto verified = SSL_get_verify_result(tls_.get());
  if (verified != X509_V_OK)
    return Fail(Code::kUnavailable, "TLS handshake: the server's certificate is not trusted: {}",
                X509_verify_cert_error_string(verified));
  if (error == SSL_ERROR_SYSCALL) return Ended("TLS handshake");
  return Fail(Code::kUnavailable, "TLS handshake: {}", TlsErrorText());
}

Result<size_t> Channel::Read(char* to, size_t most) {
  if (tls_ == nullptr) {
    const ssize_t n = ::recv(fd_, to, most, 0);
    if (n > 0) return size_t(n);
    if (n == 0) return Ended("receiving");
    if (errno == EAGAIN || errno == EINTR) return size_t{0};
    return Broken("receiving", errno);
  }
  ERR_clear_error();
  size_t n = 0;
  const int done = SSL_read_ex(tls_.get(), to, most, &n);
  if (done == 1) return n;
  const int error = SSL_get_error(tls_.get(), done);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return size_t{0};
  if (error == SSL_ERROR_SSL) return Fail(Code::kUnavailable, "receiving: {}", TlsErrorText());
  return Ended("receiving");
}

Result<size_t> Channel::Write(const char* from, size_t most) {
  if (tls_ == nullptr) {
    const ssize_t n = ::send(fd_, from, most, MSG_NOSIGNAL);
    if (n >= 0) return size_t(n);
    if (errno == EAGAIN || errno == EINTR) return size_t{0};
    return Broken("sending", errno);
  }
  ERR_clear_error();
  size_t n = 0;
  const int done = SSL_write_ex(tls_.get(), from, most, &n);
  if (done == 1) return n;
  const int error = SSL_get_error(tls_.get(), done);
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return size_t{0};
  if (error == SSL_ERROR_SSL) return Fail(Code::kUnavailable, "sending: {}", TlsErrorText());
  return Ended("sending");
}

}  // namespace dunlin::http
