// A client's non-blocking connection, with or without TLS, in an epoll set. For one thread.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "base/result.h"
#include "http/tls_client.h"
#include "http/url.h"

namespace dunlin::http {

// Whom all connections go to.
struct Peer {
  struct Address {
    sockaddr_storage bytes;
    socklen_t length;
  };
  ServerUrl url;
  std::vector<Address> addresses;  // of the host, the ones that never answered last
  std::optional<TlsClient> tls;

  // Looks the host up, which may wait for a name server. With TLS the process ignores SIGPIPE from
  // here on, for OpenSSL writes without MSG_NOSIGNAL.
  static Result<Peer> Find(const ServerUrl& url, const TlsClientOptions& tls,
                           const std::string& protocol);
};

class Channel {
 public:
  enum class State : uint8_t { kClosed, kConnecting, kHandshaking, kOpen };

  Channel() = default;
  ~Channel() { Close(); }
  Channel(Channel&& other) noexcept;
  Channel& operator=(Channel&&) = delete;

  // Begins connecting; events in `epoll` carry `tag`. They are edge-triggered: after one, Advance
  // until open, then Read and Write until they return 0.
  Status Open(Peer& peer, int epoll, uint64_t tag);
  // The next steps of connecting. Errors begin with what was being done.
  Status Advance(Peer& peer);
  // 0: not now. kUnavailable when the connection ended or broke.
  Result<size_t> Read(char* to, size_t most);
  Result<size_t> Write(const char* from, size_t most);
  void Close();
  State state() const { return state_; }

 private:
  Status Try(Peer& peer);  // the next address
  Status Handshake();

  State state_ = State::kClosed;
  int fd_ = -1, epoll_ = -1;
  uint64_t tag_ = 0;
  size_t tried_ = 0;
  TlsClient::Session tls_;
};

}  // namespace dunlin::http
