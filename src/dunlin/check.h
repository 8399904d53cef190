// What a model file would do here: which operators run on which path, and what is missing.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "dunlin/engine.h"

namespace dunlin {

// All uses of one operator in the file.
struct OperatorUse {
  std::string name;  // "Conv", "com.microsoft.FusedConv"
  int count = 0;
  std::vector<std::string> types;    // of elements, of the first input: "f32"
  std::map<std::string, int> paths;  // "conv.direct", "in gemm.packed", "view", … and how many
};

struct MissingOperator {
  std::string name;
  int opset = 0;  // of its domain, as declared; 0: not declared
  int count = 0;
  std::vector<std::string> nodes;
  std::string advice;
};

// A step that takes the plain implementation.
struct SlowStep {
  std::string name, op, type, shape, why;
  int64_t macs = 0, bytes = 0;
};

struct ModelCheck {
  int64_t file_bytes = 0, ir_version = 0;
  std::string producer, graph;
  std::map<std::string, int> opsets;
  std::vector<PortInfo> inputs, outputs;
  int nodes = 0, functions = 0;  // sub-graphs included; functions of the model itself

  std::vector<OperatorUse> operators;  // sorted by name
  std::vector<MissingOperator> missing;
  // What else keeps it from running; the first is what Model::Load or a run would say.
  std::vector<Error> errors;
  std::vector<std::string> notes;

  // For the inputs that were chosen, when they could be and it runs:
  bool planned = false;
  std::vector<NamedTensor> used;
  int steps = 0, fast_steps = 0;  // copies and control flow not counted
  int64_t macs = 0, fast_macs = 0, bytes = 0, fast_bytes = 0;
  std::vector<SlowStep> slow;  // the heaviest first

  bool runs() const { return missing.empty() && errors.empty(); }
};

// Chooses inputs (their types and extents count).
using ChooseInputs = std::function<Result<std::vector<NamedTensor>>(std::span<const PortInfo>)>;

// An error only when there is nothing to be said of the file; what is wrong with the model stands
// in the result.
Result<ModelCheck> CheckModel(const std::string& path, const ChooseInputs& inputs);

}  // namespace dunlin
