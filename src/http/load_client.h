// Many requests in flight to one server, driven by the thread that waits for them. Cheap: requests
// are bytes made beforehand, of an answer nothing is read but its head, no memory is taken once
// the connections are up.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "http/url.h"

namespace dunlin::http {

struct LoadOptions {
  size_t slots = 1;                             // requests in flight at most
  std::chrono::milliseconds timeout{60'000};    // for connecting and for each whole answer
  int64_t max_answer_bytes = int64_t{1} << 31;  // a larger answer is an error
  TlsClientOptions tls;
};

// How a request ended: with an answer, or without one.
struct LoadAnswer {
  uint32_t slot = 0;
  std::chrono::steady_clock::time_point at;  // when the last byte was here
  int status = 0;                            // of HTTP, or of gRPC; see ok
  bool ok = false;
  // Valid during the call; of HTTP with kBodyPadding readable bytes behind it. Of a gRPC call that
  // failed: its message.
  std::string_view body;
  // Of the body's JSON part as the server says, where other bytes follow it; else of the body.
  size_t json_bytes = 0;
  // Without an answer: why. kUnavailable, kDeadlineExceeded, kResourceExhausted (too large, no
  // descriptors left), kInternal (not HTTP).
  const Error* failure = nullptr;
};

class LoadClient {
 public:
  using Time = std::chrono::steady_clock::time_point;
  using OnAnswer = std::function<void(const LoadAnswer&)>;
  virtual ~LoadClient() = default;

  virtual Time Now() { return std::chrono::steady_clock::now(); }
  // Begins `request` in a slot that has none in flight. The bytes stay until its answer.
  virtual void Send(uint32_t slot, std::string_view request) = 0;
  // Returns when something has happened, at `until` at the latest. Calls `on_answer`, which may
  // Send.
  virtual void Wait(Time until, const OnAnswer& on_answer) = 0;
};

// HTTP/1.1, a connection per slot, opened when the slot is first used and again when the server has
// closed it. `request` is a whole request, head and body.
Result<std::unique_ptr<LoadClient>> MakeHttpLoadClient(const ServerUrl& url,
                                                       const LoadOptions& options);

using Headers = std::vector<std::pair<std::string, std::string>>;
// Head and body of a request; `headers` may replace Host. Content-Length is set for posts.
std::string HttpRequest(std::string_view method, std::string_view target, const ServerUrl& url,
                        const Headers& headers, std::string_view body);

// gRPC: unary calls over HTTP/2, a connection per 16 slots. `headers`, whose names are in small
// letters, go with each call. `request` is what GrpcRequest returns.
Result<std::unique_ptr<LoadClient>> MakeGrpcLoadClient(const ServerUrl& url,
                                                       const LoadOptions& options,
                                                       const Headers& headers);
// A call of the method at `path`, "/package.Service/Method", with a message's bytes.
std::string GrpcRequest(std::string_view path, std::string_view message);

}  // namespace dunlin::http
