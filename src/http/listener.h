// A listening socket, its connections and the threads that serve them. Knows HTTP/1.1 and nothing
// of what is asked: a handler answers.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "http/message.h"

namespace dunlin {
class TlsServer;
}
namespace dunlin::serve {
class AccessLog;
}

namespace dunlin::http {

struct ListenerOptions {
  std::string name = "http";  // of its threads and in the log
  std::string address = "0.0.0.0";
  int port = 0;  // 0: the system chooses
  int threads = 1;
  int64_t max_header_size = int64_t{64} << 10;
  int64_t max_json_size = int64_t{64} << 20;   // of bodies without a binary part
  int64_t max_body_size = int64_t{512} << 20;  // of any body
  int64_t max_inflight_size = int64_t{2} << 30;
  int max_connections = 4096;
  std::chrono::milliseconds idle_timeout{75000};
  std::chrono::milliseconds read_timeout{30000};  // of a head, also of a TLS handshake
  std::shared_ptr<const TlsServer> tls;           // null: plain HTTP
  serve::AccessLog* access_log = nullptr;         // outlives the listener; null: none
};

class Listener {
 public:
  // Gets a request on an I/O thread, which it must not block; calls the ReplyFn once, on any
  // thread. Cheapest during the call: such a reply is written at once.
  using Handler = std::function<void(const Request&, ReplyFn)>;

  // kUnavailable when the address cannot be had.
  static Result<std::unique_ptr<Listener>> Start(const ListenerOptions& options, Handler handler);
  // Closes every connection, whatever it is at. Requests still with the handler are answered to
  // nobody.
  ~Listener();

  int port() const;
  // No new connections. Open ones answer what has been sent, say `Connection: close`, and go; those
  // that say nothing go after a moment.
  void Drain();
  // After Drain: true when the last connection has gone, false when `timeout` came first.
  bool WaitUntilDrained(std::chrono::milliseconds timeout);

  struct Impl;

 private:
  explicit Listener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace dunlin::http
