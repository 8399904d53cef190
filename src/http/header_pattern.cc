#include "http/header_pattern.h"

#include <re2/re2.h>

namespace dunlin::http {

HeaderPattern::HeaderPattern(std::unique_ptr<re2::RE2> expression)
    : expression_(std::move(expression)) {}
HeaderPattern::~HeaderPattern() = default;

Result<std::shared_ptr<const HeaderPattern>> HeaderPattern::Create(const std::string& pattern) {
  std::unique_ptr<re2::RE2> expression;
  if (!pattern.empty()) {
    re2::RE2::Options options;
    options.set_case_sensitive(false);
    options.set_log_errors(false);
    expression = std::make_unique<re2::RE2>(pattern, options);
    if (!expression->ok())
      return Fail(Code::kInvalidArgument,
                  "--http-header-forward-pattern '{}' is not a regular expression: {}", pattern,
                  expression->error());
  }
  return std::make_shared<const HeaderPattern>(std::move(expression));
}

void HeaderPattern::Forward(const std::vector<HeaderField>& headers,
                            decltype(serve::InferRequest::parameters)& parameters) const {
  if (expression_ == nullptr) return;
  for (const auto& [name, value] : headers) {
    if (re2::RE2::PartialMatch(re2::StringPiece(name.data(), name.size()), *expression_))
      parameters[std::string(name)] = std::string(value);
  }
}

}  // namespace dunlin::http
