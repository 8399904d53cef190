// Stream: the bytes of one connected socket, plain or TLS, never blocking.
#pragma once

#include <sys/types.h>
#include <sys/uio.h>

#include <cstddef>
#include <memory>
#include <string>

struct ssl_ctx_st;  // OpenSSL's SSL_CTX
struct ssl_st;      // SSL

namespace dunlin::net {

class Stream {
 public:
  static constexpr ssize_t kWouldBlock = -1;
  static constexpr ssize_t kFailed = -2;

  // Owns the socket, which does not block. With `tls` the first reads are the handshake.
  explicit Stream(int fd, std::shared_ptr<ssl_ctx_st> tls = nullptr);
  ~Stream() { Close(); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  int fd() const { return fd_; }
  // Bytes read, 0 at the end, or one of the above.
  ssize_t Read(void* to, size_t bytes);
  // Fills one part after the other; over TLS only the first.
  ssize_t Read(const iovec* parts, int count);
  // Bytes written, or one of the above.
  ssize_t Write(const iovec* parts, int count);
  // Bytes that Read would return although the socket has none.
  size_t pending() const;
  // False until the handshake is over.
  bool established() const;
  // Whether the peer has sent bytes that were not read.
  bool HasInput() const;
  // The names in the client's verified certificate (base/tls.h), "" without one.
  std::string PeerIdentity() const;
  // No more from us.
  void End();
  void Close();

 private:
  int fd_;
  std::shared_ptr<ssl_ctx_st> context_;
  std::unique_ptr<ssl_st, void (*)(ssl_st*)> ssl_;
};

// Of the socket's other end: "10.0.0.7:51234", "[::1]:51234".
std::string PeerAddress(int fd);

}  // namespace dunlin::net
