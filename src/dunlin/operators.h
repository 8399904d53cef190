// Which operators run, in which versions and types and on which path: found out by running the
// sample of each (formats/onnx_operators.h), so that it is never another thing than what happens.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"

namespace dunlin {

struct OperatorSupport {
  std::string domain, name;  // "": ai.onnx
  // Opsets in which its form or types changed; one in between has the form of the lower.
  std::vector<int> versions, refused;
  // With which element types the newest of `versions` runs, at the places T and U of its form.
  std::vector<DType> types, second_types;
  // "conv.direct", "reference", "view", "control flow", …; and for which of `types`.
  std::map<std::string, std::vector<DType>> paths;
  std::vector<std::string> rewritten;  // the operators that the importer makes of it
  std::string error;                   // what the newest version says when nothing runs

  bool runs() const { return !versions.empty(); }
  std::string FullName() const { return domain.empty() ? name : domain + "." + name; }
};

// Those with `filter` in their full names, upper or lower case; "" is all, which takes a second or
// two.
std::vector<OperatorSupport> SupportedOperators(std::string_view filter);
// What the sample says of that version with elements of this type as its first input; nothing when
// it runs, or when there is no such sample.
std::optional<Error> Refusal(std::string_view op, std::string_view domain, int opset, DType first);
// The opset in which the operator came; 0: no operator of that name is known.
int FirstVersion(std::string_view op, std::string_view domain);

}  // namespace dunlin
