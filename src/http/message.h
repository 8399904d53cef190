// An HTTP request and its reply between the connection (listener.h) and the API (api.h), free of
// sockets.
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "net/body.h"
#include "tensor/tensor.h"

namespace dunlin::serve {
class Trace;
}

namespace dunlin::http {

using net::kBodyPadding;

// Of ASCII, as header names are.
inline bool EqualsIgnoreCase(std::string_view a, std::string_view b) {
  if (a == b) return true;  // as most clients spell them
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? char(c + ('a' - 'A')) : c; };
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [&](char x, char y) { return lower(x) == lower(y); });
}

struct HeaderField {
  std::string_view name, value;
};

// What a handler is given. The views are good until the handler returns; what is needed longer is
// copied, but for the body, which `body_owner` keeps.
struct Request {
  std::string_view method;  // "GET"
  std::string_view target;  // as sent: "/v2/models/a%20b?x=1"
  std::vector<HeaderField> headers;
  std::string_view body;                   // kBodyPadding readable bytes follow
  std::shared_ptr<const void> body_owner;  // null: as the other views
  std::string_view peer_identity;          // of the client's TLS certificate (base/tls.h)
  std::chrono::steady_clock::time_point arrival{};
  std::shared_ptr<std::atomic<bool>> cancelled;  // set when the client has gone; may be null

  // "" when there is none.
  std::string_view Header(std::string_view name) const {
    for (const auto& [k, v] : headers)
      if (k.size() == name.size() && EqualsIgnoreCase(k, name)) return v;
    return {};
  }
};

struct Reply {
  int status = 200;
  std::string_view content_type;  // of static storage; "" for replies without body
  std::vector<std::pair<std::string_view, std::string>> headers;  // names of static storage
  std::string body;
  std::vector<Tensor> tensors;          // their bytes follow the body
  bool close = false;                   // end the connection after this reply
  std::shared_ptr<serve::Trace> trace;  // to be told when the reply is sent; may be null
  std::string request_id;               // for the access log; "" unknown

  size_t bytes() const {
    size_t n = body.size();
    for (const Tensor& t : tensors) n += size_t(t.bytes());
    return n;
  }
};
using ReplyFn = std::function<void(Reply)>;

Reply JsonReply(std::string json);
// {"error": message}
Reply ErrorReply(int status, std::string_view message);
Reply ErrorReply(const Error& error);
int HttpStatus(Code code);
std::string_view ReasonPhrase(int status);

}  // namespace dunlin::http
