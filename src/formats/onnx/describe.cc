#include "formats/onnx_describe.h"

#include <algorithm>
#include <set>

#include "formats/onnx/internal.h"
#include "formats/onnx/messages.pb.h"
#include "ops/op.h"

namespace dunlin {
namespace onnx_import {
namespace {

constexpr int kMaxDepth = 48;  // as the importer

std::string NormalDomain(const std::string& d) { return d == "ai.onnx" ? std::string() : d; }

struct Describer {
  const onnx::ModelProto& model;
  std::set<std::pair<std::string, std::string>> functions = {};
  OnnxDescription d = {};

  template <class Nodes>
  void Add(const Nodes& nodes, int depth) {
    if (depth > kMaxDepth) return;
    for (const auto& n : nodes) {
      OnnxNode node{NormalDomain(n.domain()), n.op_type(),
                    n.name().empty() && n.output_size() ? n.output(0) : n.name(), depth};
      if (!functions.contains({node.domain, node.op})) d.nodes.push_back(std::move(node));
      for (const auto& a : n.attribute())
        if (a.has_g()) Add(a.g().node(), depth + 1);
    }
  }

  std::vector<DeclaredPort> Ports(
      const google::protobuf::RepeatedPtrField<onnx::ValueInfoProto>& infos,
      const std::set<std::string>& leave) {
    std::vector<DeclaredPort> ports;
    for (const auto& i : infos) {
      if (leave.contains(i.name())) continue;
      const auto type = ReadType(i.type(), *d.symbols);
      ports.push_back({i.name(), type ? *type : Type{}});
    }
    return ports;
  }

  OnnxDescription Describe() {
    d.ir_version = model.ir_version();
    d.producer = model.producer_name();
    if (!model.producer_version().empty()) d.producer += " " + model.producer_version();
    d.graph = model.graph().name();
    for (const auto& o : model.opset_import())
      d.opsets[NormalDomain(o.domain())] = int(std::clamp<int64_t>(o.version(), 0, 1000));
    d.functions = model.functions_size();
    for (const auto& f : model.functions()) functions.emplace(NormalDomain(f.domain()), f.name());
    std::set<std::string> defaults;
    for (const auto& i : model.graph().initializer()) defaults.insert(i.name());
    d.inputs = Ports(model.graph().input(), defaults);
    d.outputs = Ports(model.graph().output(), {});
    Add(model.graph().node(), 0);
    for (const auto& f : model.functions()) Add(f.node(), 1);
    return std::move(d);
  }
};

}  // namespace
}  // namespace onnx_import

std::vector<const OnnxNode*> OnnxDescription::Missing() const {
  std::vector<const OnnxNode*> missing;
  for (const OnnxNode& n : nodes)
    if (!(n.domain.empty() && n.op == "Constant") && !onnx_import::IsKnownOperator(n.op, n.domain))
      missing.push_back(&n);
  return missing;
}

int OnnxDescription::Opset(const std::string& domain) const {
  const auto it = opsets.find(domain);
  return it == opsets.end() ? 0 : it->second;
}

Result<OnnxDescription> DescribeOnnx(std::span<const std::byte> bytes) {
  const auto stripped = TRY(onnx_import::StripWeights(bytes));
  onnx::ModelProto model;
  if (stripped.size() > size_t{0x7fffffff} ||
      !model.ParseFromArray(stripped.data(), int(stripped.size())))
    return Fail(Code::kInvalidArgument,
                "not an ONNX model, or a damaged one: the protobuf message cannot be parsed");
  return onnx_import::Describer{model}.Describe();
}

}  // namespace dunlin
