// --http-header-forward-pattern: which headers of a request become its parameters.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "http/message.h"
#include "serve/infer.h"

namespace re2 {
class RE2;
}

namespace dunlin::http {

class HeaderPattern {
 public:
  // An RE2 expression that the name of a header must contain, whatever the case; "" matches none.
  static Result<std::shared_ptr<const HeaderPattern>> Create(const std::string& pattern);
  explicit HeaderPattern(std::unique_ptr<re2::RE2> expression);
  ~HeaderPattern();

  // Adds what matches to the parameters, as strings.
  void Forward(const std::vector<HeaderField>& headers,
               decltype(serve::InferRequest::parameters)& parameters) const;

 private:
  const std::unique_ptr<re2::RE2> expression_;  // null: none
};

}  // namespace dunlin::http
