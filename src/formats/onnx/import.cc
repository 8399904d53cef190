// Walks a ModelProto: checks operators first, then builds the graph node by node, inferring types
// on the way.

#include <algorithm>
#include <deque>
#include <set>
#include <unordered_map>

#include "formats/onnx/internal.h"
#include "formats/onnx/messages.pb.h"
#include "ops/op.h"

namespace dunlin {
namespace onnx_import {
namespace {

// Sub-graphs deeper than this are refused: recursion on hostile files must end, and no exporter
// nests so deep.
constexpr int kMaxDepth = 48;

std::string NormalDomain(const std::string& d) { return d == "ai.onnx" ? std::string() : d; }
std::string Place(const onnx::NodeProto& n) {
  const std::string& name = !n.name().empty() ? n.name()
                            : n.output_size() ? n.output(0)
                                              : n.op_type();
  return fmt::format("node '{}' ({})", name, n.op_type());
}

// Names a graph reads but does not define, sub-graphs included, in first-use order.
void FreeNames(const onnx::GraphProto& g, std::vector<std::string>& out, int depth) {
  if (depth > kMaxDepth) return;
  std::set<std::string_view> defined;
  for (const auto& i : g.input()) defined.insert(i.name());
  for (const auto& i : g.initializer()) defined.insert(i.name());
  for (const auto& n : g.node())
    for (const auto& o : n.output()) defined.insert(o);
  const auto need = [&](const std::string& name) {
    if (!name.empty() && !defined.contains(name) &&
        std::find(out.begin(), out.end(), name) == out.end())
      out.push_back(name);
  };
  for (const auto& n : g.node()) {
    for (const auto& i : n.input()) need(i);
    for (const auto& a : n.attribute()) {
      if (!a.has_g()) continue;
      std::vector<std::string> inner;
      FreeNames(a.g(), inner, depth + 1);
      for (const auto& name : inner) need(name);
    }
  }
  for (const auto& o : g.output()) need(o.name());
}

// Nodes in an order in which names are defined before use; files should be written so, not all are.
Result<std::vector<const onnx::NodeProto*>> SortedNodes(const onnx::GraphProto& g) {
  std::unordered_map<std::string_view, int> producer;
  for (int i = 0; i < g.node_size(); ++i)
    for (const auto& o : g.node(i).output())
      if (!o.empty() && !producer.emplace(o, i).second)
        return Fail(Code::kInvalidArgument, "value '{}' is defined twice, the second time by {}", o,
                    Place(g.node(i)));
  std::vector<std::vector<int>> users(size_t(g.node_size()));
  std::vector<int> missing(size_t(g.node_size()), 0);
  for (int i = 0; i < g.node_size(); ++i) {
    const auto& n = g.node(i);
    const auto need = [&](const std::string& name) {
      const auto it = producer.find(name);
      if (it == producer.end()) return;
      users[size_t(it->second)].push_back(i);
      ++missing[size_t(i)];
    };
    for (const auto& name : n.input()) need(name);
    for (const auto& a : n.attribute()) {
      if (!a.has_g()) continue;
      std::vector<std::string> inner;
      FreeNames(a.g(), inner, 0);
      for (const auto& name : inner) need(name);
    }
  }
  std::set<int> ready;  // the smallest first, so that a sorted file keeps its order
  for (int i = 0; i < g.node_size(); ++i)
    if (missing[size_t(i)] == 0) ready.insert(i);
  std::vector<const onnx::NodeProto*> order;
  while (!ready.empty()) {
    const int i = *ready.begin();
    ready.erase(ready.begin());
    order.push_back(&g.node(i));
    for (const int u : users[size_t(i)])
      if (--missing[size_t(u)] == 0) ready.insert(u);
  }
  if (int(order.size()) != g.node_size())
    for (int i = 0; i < g.node_size(); ++i)
      if (missing[size_t(i)] > 0)
        return Fail(Code::kInvalidArgument, "the graph has a cycle through {}", Place(g.node(i)));
  return order;
}

struct Importer {
  const onnx::ModelProto& model;
  const StrippedModel& stripped;
  TensorSource source;
  std::map<std::string, int> opsets;

  struct Scope {
    Graph& graph;
    std::unordered_map<std::string, ValueId> names;
    Status Define(const std::string& name, ValueId v) {
      if (!names.emplace(name, v).second)
        return Fail(Code::kInvalidArgument, "value '{}' is defined twice", name);
      return {};
    }
  };

  // ---- operators that are missing, all in one message ----
  void CollectMissing(const onnx::GraphProto& g,
                      std::map<std::string, std::vector<std::string>>& missing, int depth) {
    if (depth > kMaxDepth) return;
    for (const auto& n : g.node()) {
      const std::string domain = NormalDomain(n.domain());
      if (!(domain.empty() && n.op_type() == "Constant") && !IsKnownOperator(n.op_type(), domain))
        missing[DescribeMissing(n.op_type(), domain)].push_back(
            n.name().empty() && n.output_size() ? n.output(0) : n.name());
      for (const auto& a : n.attribute())
        if (a.has_g()) CollectMissing(a.g(), missing, depth + 1);
    }
  }
  Status CheckOperators() {
    std::map<std::string, std::vector<std::string>> missing;
    CollectMissing(model.graph(), missing, 0);
    if (missing.empty()) return {};
    std::string list;
    for (const auto& [op, nodes] : missing) {
      list += fmt::format("{}{} (", list.empty() ? "" : ", ", op);
      for (size_t i = 0; i < nodes.size() && i < 4; ++i)
        list += fmt::format("{}'{}'", i ? ", " : "", nodes[i]);
      list += nodes.size() > 4 ? fmt::format(", and {} more)", nodes.size() - 4) : ")";
    }
    return Fail(Code::kUnimplemented, "unsupported operators: {}", list);
  }

  // ---- one node ----
  Status Constant(const onnx::NodeProto& n, Scope& scope) {
    if (n.attribute_size() != 1 || n.output_size() != 1)
      return Fail(Code::kInvalidArgument, "a Constant needs one value and one output");
    const AttrValue v = TRY(ReadAttribute(n.attribute(0), source));
    Tensor t;
    if (const auto* x = std::get_if<Tensor>(&v))
      t = *x;
    else if (const auto* i = std::get_if<int64_t>(&v))
      t = Tensor::Scalar<int64_t>(*i);
    else if (const auto* f = std::get_if<float>(&v))
      t = Tensor::Scalar<float>(*f);
    else if (const auto* s = std::get_if<std::string>(&v))
      t = Tensor::Of<std::string>(Dims{}, {*s});
    else if (const auto* is = std::get_if<std::vector<int64_t>>(&v))
      t = Tensor::Ints(*is);
    else if (const auto* fs = std::get_if<std::vector<float>>(&v))
      t = Tensor::Of<float>(Dims{int64_t(fs->size())}, std::span<const float>(*fs));
    else if (const auto* ss = std::get_if<std::vector<std::string>>(&v))
      t = Tensor::Of<std::string>(Dims{int64_t(ss->size())}, std::span<const std::string>(*ss));
    else
      return Fail(Code::kUnimplemented, "attribute '{}'", n.attribute(0).name());
    return scope.Define(n.output(0), scope.graph.AddConstant(n.output(0), std::move(t)));
  }

  using Bodies = std::vector<std::pair<std::string, const onnx::GraphProto*>>;

  // Names resolved, attributes read, sub-graphs apart.
  Result<RawNode> ReadNode(const onnx::NodeProto& n, const Scope& scope, Bodies& bodies) {
    RawNode raw{n.op_type(),
                NormalDomain(n.domain()),
                n.name().empty() && n.output_size() ? n.output(0) : n.name(),
                {},
                {},
                {}};
    for (const auto& name : n.input()) {
      if (name.empty()) {
        raw.inputs.push_back(ValueId::kNone);
        continue;
      }
      const auto it = scope.names.find(name);
      if (it == scope.names.end())
        return Fail(Code::kInvalidArgument,
                    "input '{}' is not defined by any node, input or initializer", name);
      raw.inputs.push_back(it->second);
    }
    while (!raw.inputs.empty() && raw.inputs.back() == ValueId::kNone) raw.inputs.pop_back();
    for (const auto& name : n.output()) raw.outputs.push_back(name);
    while (!raw.outputs.empty() && raw.outputs.back().empty()) raw.outputs.pop_back();
    for (const auto& a : n.attribute()) {
      // What an empty optional could hold; what it does hold is all that counts.
      if (n.op_type() == "Optional" && a.name() == "type") continue;
      AttrValue v = TRY(ReadAttribute(a, source));
      if (const auto* body = std::get_if<const onnx::GraphProto*>(&v))
        bodies.emplace_back(a.name(), *body);
      else if (!raw.attrs.emplace(a.name(), std::move(v)).second)
        return Fail(Code::kInvalidArgument, "attribute '{}' is given twice", a.name());
    }
    // If's branches by name: then first.
    std::sort(bodies.begin(), bodies.end(),
              [](const auto& x, const auto& y) { return x.first > y.first; });
    return raw;
  }

  Status ImportNode(const onnx::NodeProto& n, Scope& scope, int depth) {
    const std::string domain = NormalDomain(n.domain());
    if (domain.empty() && n.op_type() == "Constant") return Constant(n, scope);
    Graph& g = scope.graph;
    Bodies bodies;
    RawNode raw = TRY(ReadNode(n, scope, bodies));
    const auto opset = opsets.find(domain);
    TRY(Upgrade(raw, opset == opsets.end() ? 1 : opset->second, g));
    if (raw.results) {
      for (size_t i = 0; i < raw.outputs.size(); ++i)
        if (!raw.outputs[i].empty()) TRY(scope.Define(raw.outputs[i], raw.results->at(i)));
      return {};
    }
    const OpDef* op = FindOp(raw.op, raw.domain);
    if (op == nullptr) return Fail(Code::kUnimplemented, "operator {} is not supported", raw.op);
    const int inputs = int(raw.inputs.size()), outputs = int(raw.outputs.size());
    if (inputs < op->min_inputs || (op->max_inputs >= 0 && inputs > op->max_inputs))
      return Fail(Code::kInvalidArgument, "has {} inputs, the operator takes {} to {}", inputs,
                  op->min_inputs,
                  op->max_inputs < 0 ? "any number" : std::to_string(op->max_inputs));
    if (op->max_outputs >= 0 && outputs > op->max_outputs)
      return Fail(Code::kInvalidArgument, "has {} outputs, the operator has {}", outputs,
                  op->max_outputs);
    if (outputs == 0) return {};  // a result nobody can read
    if (int(bodies.size()) != op->subgraphs)
      return Fail(Code::kInvalidArgument, "has {} sub-graphs, the operator takes {}", bodies.size(),
                  op->subgraphs);
    auto attrs = DefaultAttrs(*op);
    TRY(FillAttrs(*attrs, raw.attrs));

    std::vector<std::string> captured;
    for (const auto& body : bodies) FreeNames(*body.second, captured, depth);
    std::vector<std::string> dynamic;
    for (const auto& name : captured) {
      const auto it = scope.names.find(name);
      if (it == scope.names.end())
        return Fail(Code::kInvalidArgument, "a sub-graph reads '{}', which is not defined", name);
      if (!g.value(it->second).is_constant() &&
          std::find(dynamic.begin(), dynamic.end(), name) == dynamic.end()) {
        dynamic.push_back(name);
        raw.inputs.push_back(it->second);
      }
    }
    std::vector<std::unique_ptr<Graph>> subgraphs;
    for (const auto& body : bodies) {
      auto sub = ImportSubgraph(*body.second, scope, captured, dynamic, depth + 1);
      if (!sub) return FailAt(body.first, sub.error());
      subgraphs.push_back(std::move(*sub));
    }
    // Formal inputs that were left out still have a place before the captures.
    Node& node = g.AddNode(*op, std::move(attrs), std::move(raw.inputs), raw.outputs, raw.name);
    node.captures = int(dynamic.size());
    node.subgraphs = std::move(subgraphs);
    for (size_t i = 0; i < raw.outputs.size(); ++i)
      if (!raw.outputs[i].empty()) TRY(scope.Define(raw.outputs[i], node.outputs[i]));
    NodeId id = node.id;
    if (auto s = node.op->subgraphs > 0 && depth > 0 ? Status() : InferNode(g, g.node(id)); !s) {
      // InferNode names the node already; do not name it twice.
      return tl::unexpected<Error>(Error{s.error().code, "\x01" + s.error().message});
    }
    return {};
  }

  // ---- graphs ----
  Status Body(const onnx::GraphProto& proto, Scope& scope, int depth) {
    for (const onnx::NodeProto* n : TRY(SortedNodes(proto))) {
      if (auto s = ImportNode(*n, scope, depth); !s) {
        if (s.error().message.starts_with('\x01'))
          return Fail(s.error().code, "{}", s.error().message.substr(1));
        return FailAt(Place(*n), s.error());
      }
    }
    for (const auto& o : proto.output()) {
      const auto it = scope.names.find(o.name());
      if (it == scope.names.end())
        return Fail(Code::kInvalidArgument, "graph output '{}' is not defined by any node",
                    o.name());
      scope.graph.AddOutput(it->second);
    }
    return {};
  }

  Status Initializers(const onnx::GraphProto& proto, Scope& scope, bool main) {
    if (proto.sparse_initializer_size())
      return Fail(Code::kUnimplemented, "sparse initializers are not supported");
    for (int i = 0; i < proto.initializer_size(); ++i) {
      const RawSpan* raw =
          main && size_t(i) < stripped.weights.size() ? &stripped.weights[size_t(i)] : nullptr;
      Tensor t = TRY(ReadTensor(proto.initializer(i), source, raw));
      TRY(scope.Define(proto.initializer(i).name(),
                       scope.graph.AddConstant(proto.initializer(i).name(), std::move(t))));
    }
    return {};
  }

  Result<std::unique_ptr<Graph>> ImportSubgraph(const onnx::GraphProto& proto, Scope& outer,
                                                const std::vector<std::string>& captured,
                                                const std::vector<std::string>& dynamic,
                                                int depth) {
    if (depth > kMaxDepth)
      return Fail(Code::kInvalidArgument, "sub-graphs are nested more than {} deep", kMaxDepth);
    auto graph = std::make_unique<Graph>(outer.graph.symbol_table());
    Scope scope{*graph, {}};
    TRY(Initializers(proto, scope, false));
    for (const auto& i : proto.input()) {
      if (scope.names.contains(i.name())) continue;
      const Type type = TRY(ReadType(i.type(), graph->symbols()));
      // What a body declares of its inputs' extents is often wrong; inference knows better.
      TRY(scope.Define(i.name(),
                       graph->AddInput(i.name(), Type{type.kind, type.dtype, false, {}})));
    }
    for (const auto& name : captured) {
      if (scope.names.contains(name)) continue;  // read by another branch only, defined here
      const GraphValue& v = outer.graph.value(outer.names.at(name));
      if (std::find(dynamic.begin(), dynamic.end(), name) != dynamic.end()) continue;
      TRY(scope.Define(name, graph->AddConstant(name, v.constant)));
    }
    for (const auto& name : dynamic) {
      const ValueId in = graph->AddInput(name, outer.graph.value(outer.names.at(name)).type);
      if (!scope.names.contains(name)) TRY(scope.Define(name, in));
    }
    TRY(Body(proto, scope, depth));
    return graph;
  }

  Result<ImportedModel> Import() {
    if (!model.has_graph())
      return Fail(Code::kInvalidArgument, "not an ONNX model: there is no graph in it");
    for (const auto& o : model.opset_import())
      opsets[NormalDomain(o.domain())] = int(std::min<int64_t>(o.version(), 1000));
    if (!opsets.contains("")) opsets[""] = model.ir_version() < 3 ? 1 : 21;
    if (opsets[""] > 24)
      return Fail(Code::kUnimplemented, "the model uses opset {}; up to 24 is known", opsets[""]);
    TRY(CheckOperators());
    ImportedModel out;
    out.graph = std::make_unique<Graph>();
    Scope scope{*out.graph, {}};
    const auto& proto = model.graph();
    TRY(Initializers(proto, scope, true));
    for (const auto& i : proto.input()) {
      if (scope.names.contains(i.name())) continue;  // an initializer that is also listed as input
      const auto type = ReadType(i.type(), out.graph->symbols());
      if (!type) return FailAt(fmt::format("input '{}'", i.name()), type.error());
      if (type->dtype == DType::kUndefined)
        return Fail(Code::kInvalidArgument, "input '{}' has no element type", i.name());
      TRY(scope.Define(i.name(), out.graph->AddInput(i.name(), *type)));
      out.inputs.push_back({i.name(), *type});
    }
    TRY(Body(proto, scope, 0));
    for (const auto& o : proto.output()) {
      const auto type = ReadType(o.type(), out.graph->symbols());
      if (!type) return FailAt(fmt::format("output '{}'", o.name()), type.error());
      out.outputs.push_back({o.name(), *type});
    }
    out.metadata["ir_version"] = std::to_string(model.ir_version());
    out.metadata["producer"] =
        model.producer_name() +
        (model.producer_version().empty() ? "" : " " + model.producer_version());
    for (const auto& [domain, version] : opsets)
      out.metadata[domain.empty() ? "opset" : "opset." + domain] = std::to_string(version);
    if (!proto.name().empty()) out.metadata["graph"] = proto.name();
    for (const auto& p : model.metadata_props()) out.metadata["model." + p.key()] = p.value();
    return out;
  }
};

}  // namespace
}  // namespace onnx_import

Result<ImportedModel> ImportOnnx(std::span<const std::byte> bytes, std::shared_ptr<Buffer> backing,
                                 const std::string& external_dir) {
  if (bytes.empty()) return Fail(Code::kInvalidArgument, "the model is empty");
  const auto stripped = onnx_import::StripWeights(bytes);
  if (!stripped) return Fail(stripped.error());
  onnx::ModelProto model;
  if (stripped->message.size() > size_t{0x7fffffff})
    return Fail(Code::kInvalidArgument, "the model without its weights is over 2 GiB");
  if (!model.ParseFromArray(stripped->message.data(), int(stripped->message.size())))
    return Fail(Code::kInvalidArgument,
                "not an ONNX model, or a damaged one: the protobuf message cannot be parsed");
  std::map<std::string, std::shared_ptr<Buffer>> files;
  onnx_import::Importer importer{model, *stripped, {std::move(backing), external_dir, &files}, {}};
  auto imported = importer.Import();
  if (imported)
    for (const auto& [name, file] : files)
      imported->external_files.push_back(external_dir + "/" + name);
  return imported;
}

}  // namespace dunlin
