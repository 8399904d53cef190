#include "net/stream.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <new>

#include "base/tls.h"

namespace dunlin::net {
namespace {

ssize_t Outcome(ssize_t n) {
  if (n >= 0) return n;
  return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR ? Stream::kWouldBlock
                                                                   : Stream::kFailed;
}

ssize_t TlsOutcome(ssl_st* ssl, int n) {
  if (n > 0) return n;
  const int error = SSL_get_error(ssl, n);
  ERR_clear_error();  // or the next connection on this thread would find it
  if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) return Stream::kWouldBlock;
  return error == SSL_ERROR_ZERO_RETURN ? 0 : Stream::kFailed;
}

}  // namespace

Stream::Stream(int fd, std::shared_ptr<ssl_ctx_st> tls)
    : fd_(fd), context_(std::move(tls)), ssl_(nullptr, SSL_free) {
  if (context_ == nullptr) return;
  ssl_.reset(SSL_new(context_.get()));
  if (ssl_ == nullptr || SSL_set_fd(ssl_.get(), fd) != 1) throw std::bad_alloc();
  // Idle connections hold no buffers; and what is written again need not lie where it lay.
  SSL_set_mode(ssl_.get(), SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                               SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_set_accept_state(ssl_.get());
}

ssize_t Stream::Read(void* to, size_t bytes) {
  if (ssl_ == nullptr) return Outcome(::recv(fd_, to, bytes, 0));
  return TlsOutcome(ssl_.get(), SSL_read(ssl_.get(), to, int(std::min<size_t>(bytes, INT_MAX))));
}

ssize_t Stream::Read(const iovec* parts, int count) {
  if (count == 1 || ssl_ != nullptr) return Read(parts->iov_base, parts->iov_len);
  return Outcome(::readv(fd_, parts, count));
}

ssize_t Stream::Write(const iovec* parts, int count) {
  if (ssl_ != nullptr)
    return TlsOutcome(ssl_.get(), SSL_write(ssl_.get(), parts->iov_base,
                                            int(std::min<size_t>(parts->iov_len, INT_MAX))));
  if (count == 1) return Outcome(::send(fd_, parts->iov_base, parts->iov_len, MSG_NOSIGNAL));
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts);
  message.msg_iovlen = size_t(count);
  return Outcome(::sendmsg(fd_, &message, MSG_NOSIGNAL));
}

size_t Stream::pending() const { return ssl_ == nullptr ? 0 : size_t(SSL_pending(ssl_.get())); }

bool Stream::established() const {
  return ssl_ == nullptr || SSL_is_init_finished(ssl_.get()) == 1;
}

bool Stream::HasInput() const {
  char byte = 0;
  return pending() > 0 || ::recv(fd_, &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
}

std::string Stream::PeerIdentity() const {
  return ssl_ == nullptr ? std::string() : dunlin::PeerIdentity(ssl_.get());
}

void Stream::End() {
  if (ssl_ != nullptr && established()) {
    SSL_shutdown(ssl_.get());
    ERR_clear_error();
  }
  ::shutdown(fd_, SHUT_WR);
}

void Stream::Close() {
  if (fd_ < 0) return;
  ssl_.reset();
  ::close(fd_);
  fd_ = -1;
}

std::string PeerAddress(int fd) {
  sockaddr_storage peer{};
  socklen_t length = sizeof peer;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&peer), &length) != 0) return {};
  char text[INET6_ADDRSTRLEN] = "";
  if (peer.ss_family == AF_INET) {
    const auto* v4 = reinterpret_cast<const sockaddr_in*>(&peer);
    ::inet_ntop(AF_INET, &v4->sin_addr, text, sizeof text);
    return fmt::format("{}:{}", text, ntohs(v4->sin_port));
  }
  const auto* v6 = reinterpret_cast<const sockaddr_in6*>(&peer);
  ::inet_ntop(AF_INET6, &v6->sin6_addr, text, sizeof text);
  return fmt::format("[{}]:{}", text, ntohs(v6->sin6_port));
}

}  // namespace dunlin::net
