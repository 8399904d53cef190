// The protocol over gRPC: a port, the threads that serve it, and what is asked of a Service.
#pragma once

#include <chrono>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/tls.h"
#include "serve/header_forward.h"
#include "serve/service.h"

namespace dunlin::grpc {

enum class Compression : uint8_t { kNone, kLow, kMedium, kHigh };

struct ServerOptions {
  std::string address = "0.0.0.0";
  int port = 0;     // 0: the system chooses
  int threads = 1;  // each serves its share of the connections
  bool reuse_port = false;
  int max_message_size = std::numeric_limits<int32_t>::max();  // each way
  int64_t max_inflight_size = int64_t{2} << 30;  // messages of all requests in progress together
  int max_inflight_calls = 4096;                 // a stream counts as one
  int max_connections = 4096;
  std::chrono::milliseconds read_timeout{30'000};  // of a handshake, of a message that has begun
  Compression response_compression = Compression::kNone;  // of inference replies
  std::chrono::milliseconds keepalive_time{7'200'000}, keepalive_timeout{20'000};
  bool keepalive_permit_without_calls = false;
  int http2_max_pings_without_data = 2;
  std::chrono::milliseconds http2_min_recv_ping_interval_without_data{300'000};
  int http2_max_ping_strikes = 2;
  std::chrono::milliseconds max_connection_age{0}, max_connection_age_grace{0};  // 0: no limit
  serve::HeaderForward header_forward;   // metadata that models see as parameters
  std::shared_ptr<const TlsServer> tls;  // null: plain text
};

class Server {
 public:
  // kUnavailable when the address cannot be had. The service must outlive the server.
  static Result<std::unique_ptr<Server>> Start(const ServerOptions& options,
                                               const serve::Service& service);
  // Cancels what is still going on and waits for the models to have answered.
  ~Server();

  int port() const;
  // No new connections, and clients are told to leave the open ones. New calls are refused, but for
  // health; those in progress finish, streams as soon as what they were asked is answered.
  void Drain();
  // After Drain: true when the last connection has gone, false when `timeout` came first.
  bool WaitUntilDrained(std::chrono::milliseconds timeout);

  struct Impl;

 private:
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace dunlin::grpc
