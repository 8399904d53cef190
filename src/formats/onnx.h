// ONNX in: a ModelProto becomes a Graph in the internal form (operators as of opset 21, typed
// attributes).
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace dunlin {

struct DeclaredPort {
  std::string name;
  Type type;  // as the file declares it
};

struct ImportedModel {
  std::unique_ptr<Graph> graph;
  std::vector<DeclaredPort> inputs, outputs;    // parallel to the graph's
  std::map<std::string, std::string> metadata;  // producer, opset, ir_version, the model's own keys
};

// bytes: a serialised ModelProto; weights stay in `backing` (which owns the bytes, e.g. a mapped
// file) where their alignment allows. external_dir: where external data lies; "" refuses it. Opsets
// 7–21 of ai.onnx (older and newer ones as far as their operators are unchanged). Errors:
// kInvalidArgument with the place for a malformed file, kUnimplemented listing every missing
// operator with its nodes.
Result<ImportedModel> ImportOnnx(std::span<const std::byte> bytes, std::shared_ptr<Buffer> backing,
                                 const std::string& external_dir);

}  // namespace dunlin
