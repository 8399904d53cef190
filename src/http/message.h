// An HTTP request and its reply between the connection (listener.h) and the API (api.h), free of
// sockets.
#pragma once

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "tensor/tensor.h"

namespace dunlin::http {

// Bytes behind the end of Request::body that may be read (but say nothing): what the JSON parser
// needs.
inline constexpr size_t kBodyPadding = 64;

inline bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](unsigned char x, unsigned char y) {
    return std::tolower(x) == std::tolower(y);
  });
}

struct Request {
  std::string method;  // "GET"
  std::string target;  // as sent: "/v2/models/a%20b?x=1"
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::chrono::steady_clock::time_point arrival = std::chrono::steady_clock::now();
  std::shared_ptr<std::atomic<bool>> cancelled;  // set when the client has gone; may be null
  std::shared_ptr<void> lease;                   // the request's share of the memory limit

  // "" when there is none.
  std::string_view Header(std::string_view name) const {
    for (const auto& [k, v] : headers)
      if (EqualsIgnoreCase(k, name)) return v;
    return {};
  }
};

struct Reply {
  int status = 200;
  std::string content_type;  // "" for replies without body
  std::vector<std::pair<std::string, std::string>> headers;
  std::string body;
  std::vector<Tensor> tensors;  // their bytes follow the body
  bool close = false;           // end the connection after this reply

  size_t bytes() const {
    size_t n = body.size();
    for (const Tensor& t : tensors) n += size_t(t.bytes());
    return n;
  }
};
using ReplyFn = std::function<void(Reply)>;

// {"error": message}
Reply ErrorReply(int status, std::string_view message);
Reply ErrorReply(const Error& error);
int HttpStatus(Code code);
std::string_view ReasonPhrase(int status);

}  // namespace dunlin::http
