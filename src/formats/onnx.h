// ONNX in: a ModelProto becomes a Graph in the internal form (operators as of opset 21, typed
// attributes, functions inlined).
#pragma once

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "formats/export.h"
#include "ir/graph.h"

namespace dunlin {

struct DeclaredPort {
  std::string name;
  Type type;                       // as the file declares it
  bool optional_sequence = false;  // an optional that holds sequences, which Type does not tell
};

struct ImportedModel {
  std::unique_ptr<Graph> graph;
  std::vector<DeclaredPort> inputs, outputs;  // parallel to the graph's
  std::vector<DeclaredPort> defaults;         // inputs that have an initializer, as constants
  std::map<std::string, Tensor> fed_values;  // what inputs of ImportOptions::fed are initialised to
  std::map<std::string, std::string> metadata;  // producer, opset, ir_version, the model's own keys
  std::vector<std::string> external_files;      // that weights lie in, as paths
};

struct ImportOptions {
  // Where the model file really lies when its path is a symbolic link: external data may lie there.
  std::string real_dir;
  // Inputs with an initializer that shall be inputs, without a default.
  std::set<std::string> fed;
};

// bytes: a serialised ModelProto; weights stay in `backing` (which owns the bytes, e.g. a mapped
// file) where their alignment allows. external_dir: where external data lies; "" refuses it. Any
// opset; operators that are newer than 24 are refused by name. What the file declares of values
// inside the graph and of its outputs is not needed and not believed. Errors: kInvalidArgument with
// the place for a malformed file, kUnimplemented listing every missing operator with its nodes.
Result<ImportedModel> ImportOnnx(std::span<const std::byte> bytes, std::shared_ptr<Buffer> backing,
                                 const std::string& external_dir,
                                 const ImportOptions& options = {});

// ONNX out: writes a model's graph, which may have been transformed since it was read, with weights
// streamed from where they lie. Operators that the opset has not, or that are our own, become
// others that mean the same. Errors: kUnimplemented naming the nodes, and the least opset, of what
// the opset cannot express; kFailedPrecondition or kResourceExhausted when a file cannot be
// written; kCancelled.
Result<ExportReport> ExportOnnx(const ImportedModel& model, const std::string& path,
                                const ExportOptions& options);
// The same as the bytes of one file, all weights in it.
Result<std::string> ExportOnnxBytes(const ImportedModel& model, const ExportOptions& options);

// The operators that have no internal form of their own: they are rewritten into others while a
// model is read. Sorted by domain and name.
struct RewrittenOperator {
  std::string_view domain, name;
};
std::vector<RewrittenOperator> RewrittenOperators();

}  // namespace dunlin
