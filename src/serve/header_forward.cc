#include "serve/header_forward.h"

#include <re2/re2.h>

namespace dunlin::serve {

Result<HeaderForward> HeaderForward::Create(std::string_view flag, const std::string& pattern) {
  HeaderForward forward;
  if (pattern.empty()) return forward;
  re2::RE2::Options options(re2::RE2::Quiet);
  options.set_case_sensitive(false);
  const auto compiled = std::make_shared<const re2::RE2>(pattern, options);
  if (!compiled->ok())
    return Fail(Code::kInvalidArgument, "{}: '{}' is no regular expression: {}", flag, pattern,
                compiled->error());
  forward.pattern_ = compiled;
  return forward;
}

void HeaderForward::Add(std::string_view name, std::string_view value,
                        InferRequest& request) const {
  if (!pattern_ || !re2::RE2::PartialMatch(re2::StringPiece(name.data(), name.size()), *pattern_))
    return;
  request.parameters.try_emplace(std::string(name), std::string(value));
}

}  // namespace dunlin::serve
