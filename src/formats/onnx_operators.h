// The operators that ONNX files may name: since which opset, and for each version a model of one
// node that uses it, from which is found out what runs.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "tensor/dtype.h"

namespace dunlin {

struct OnnxOperator {
  std::string_view domain, name;  // "": ai.onnx
  // The opsets of its domain in which it came, or its form or types changed: "1 6 13".
  std::string_view versions;
  // How a node is written; see formats/onnx/sample.cc.
  std::string_view forms;

  std::vector<int> Versions() const;
  std::string FullName() const;  // "Conv", "ai.onnx.ml.Scaler"
};

// By domain and name. Of ai.onnx up to opset 24, ai.onnx.ml up to 5, com.microsoft 1.
std::span<const OnnxOperator> OnnxOperators();
// nullptr: the table has none of this name.
const OnnxOperator* FindOnnxOperator(std::string_view op, std::string_view domain);

// All element types that files may have.
std::vector<DType> OnnxTypes();

// The element types that stand where a form says T and U.
struct SampleTypes {
  DType t = DType::kF32, u = DType::kF32;
};
// Whether the form of this version has this one of them.
enum class TypePlace : char { kT = 'T', kU = 'U' };
bool HasType(const OnnxOperator& op, int version, TypePlace place);
// Whether the first input of this version's form is a tensor of type T.
bool FirstIsVaried(const OnnxOperator& op, int version);
// Models of one node, alternatives to each other, as bytes of files. An error where a value cannot
// be written in that type.
Result<std::vector<std::string>> SampleModels(const OnnxOperator& op, int version,
                                              const SampleTypes& types);

}  // namespace dunlin
