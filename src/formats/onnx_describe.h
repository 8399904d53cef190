// What an ONNX file says of itself, also when it cannot be imported: header, ports, operators.
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "formats/onnx.h"

namespace dunlin {

struct OnnxNode {
  std::string domain, op;
  std::string name;  // the first output's where the node has none, as the importer names it
  int depth = 0;     // 0: of the main graph; of sub-graphs and model-local functions deeper
  std::string Operator() const { return domain.empty() ? op : domain + "." + op; }
};

struct OnnxDescription {
  int64_t ir_version = 0;
  std::string producer, graph;
  std::map<std::string, int> opsets;  // by domain, "" is ai.onnx
  std::shared_ptr<SymbolTable> symbols = std::make_shared<SymbolTable>();
  std::vector<DeclaredPort> inputs, outputs;  // without inputs that have a default
  std::vector<OnnxNode> nodes;                // in the file's order, sub-graphs behind their node
  int functions = 0;
  // Of `nodes`, those whose operator the importer does not know.
  std::vector<const OnnxNode*> Missing() const;
  // As the file declares; 0: it does not.
  int Opset(const std::string& domain) const;
};

// Only for what no protobuf parser takes there is no description.
Result<OnnxDescription> DescribeOnnx(std::span<const std::byte> bytes);

// What the importer refuses, at all places that do not depend on each other, up to 32. Parameters
// as ImportOnnx's.
std::vector<Error> ImportErrors(std::span<const std::byte> bytes, std::shared_ptr<Buffer> backing,
                                const std::string& external_dir);

// Why there is no such operator here, and what to do: a sentence without a full stop.
std::string AdviceForMissing(std::string_view domain, std::string_view op, int opset);

}  // namespace dunlin
