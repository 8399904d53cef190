// Which headers of a request a model sees as parameters: the flags --http-header-forward-pattern
// and --grpc-header-forward-pattern.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/infer.h"

namespace re2 {
class RE2;
}

namespace dunlin::serve {

// Immutable, thread-safe.
class HeaderForward {
 public:
  // A regular expression of RE2 that names must contain a match of, in any case. "" matches none.
  // kInvalidArgument names the flag.
  static Result<HeaderForward> Create(std::string_view flag, const std::string& pattern);
  bool any() const { return pattern_ != nullptr; }
  // Adds the header as a parameter if its name matches and the client gave no such parameter.
  void Add(std::string_view name, std::string_view value, InferRequest& request) const;

 private:
  std::shared_ptr<const re2::RE2> pattern_;
};

}  // namespace dunlin::serve
