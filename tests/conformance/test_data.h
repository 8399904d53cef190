// Reads the tensors, sequences and optionals that accompany ONNX's own test models, with code of
// its own: a mistake in the importer must not hide itself by being made twice.
#pragma once

#include <string>
#include <vector>

#include "base/result.h"
#include "dunlin/engine.h"

namespace dunlin::conformance {

// How a file of test data is to be read; the model's type of that input or output says which.
enum class ProtoKind { kTensor, kSequence, kOptionalTensor, kOptionalSequence };

struct Port {
  std::string name;
  ProtoKind kind = ProtoKind::kTensor;
  DType dtype = DType::kUndefined;  // as the model declares it, of a tensor
};

// What the runner needs to know of a model without trusting the engine's importer.
struct ModelFacts {
  std::vector<Port> inputs;   // those without an initializer, in the model's order
  std::vector<Port> outputs;  // in the model's order
  std::vector<std::string>
      operators;  // "Conv", "com.example.Foo": of all graphs in it, sorted, once each
};

Result<std::string> ReadFile(const std::string& path);
Result<ModelFacts> ReadModelFacts(const std::string& path);
// bf16 is stored as u16 bit patterns in some of the data; it is read as what the model declares.
Result<Value> ReadValue(const std::string& path, const Port& port);

}  // namespace dunlin::conformance
