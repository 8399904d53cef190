// Walks a ModelProto: checks operators first, then builds the graph node by node, inferring types
// on the way.

#include <algorithm>
#include <deque>
#include <set>
#include <unordered_map>

#include "formats/onnx/internal.h"
#include "formats/onnx/messages.pb.h"
#include "formats/onnx_describe.h"
#include "ops/op.h"

namespace dunlin {
namespace onnx_import {
namespace {

// Inlined calls may cost this much memory, and kInlinedPerByte times the file's size. Functions
// that call functions grow exponentially; no exporter's do.
constexpr size_t kMaxInlinedBytes = size_t{256} << 20, kInlinedPerByte = 16;
// Of a node in the graph, beside the bytes it has in the file.
constexpr size_t kNodeBytes = 1024;
// Names of inlined nodes have their calls' names before them, up to this length.
constexpr size_t kMaxPrefix = 256;
// The newest opset whose operators are all known. Later ones are read as this one: what they add is
// refused by name.
constexpr int kNewestOpset = 24;

// Operators of these domains that exist here are taken before a function of the same name.
bool IsStandard(const std::string& domain) {
  return domain.empty() || domain == "ai.onnx.ml" || domain == "com.microsoft";
}

bool HoldsSequence(const onnx::ValueInfoProto& v) {
  return v.type().has_optional_type() && v.type().optional_type().elem_type().has_sequence_type();
}

struct Importer {
  const onnx::ModelProto& model;
  TensorSource source;
  const std::set<std::string>& fed;
  Opsets opsets;
  FunctionTable functions;
  size_t inlined = 0, max_inlined = 0;   // bytes
  std::vector<Error>* errors = nullptr;  // where those go that do not end the import
  std::set<std::string> unknown = {};    // values of the main graph that errors left undefined
  std::map<std::string, Tensor> fed_values = {};

  struct Scope {
    Graph& graph;
    const CallFrame& frame;
    std::unordered_map<std::string, ValueId> names;  // kNone: an input that the call leaves out
    Status Define(const std::string& name, ValueId v) {
      if (!names.emplace(name, v).second)
        return Fail(Code::kInvalidArgument, "value '{}' is defined twice", name);
      return {};
    }
    std::string Named(const std::string& name) const {
      return name.empty() ? name : frame.prefix + name;
    }
  };

  // The function that a node calls; nullptr: it is an operator.
  const Function* Callee(const onnx::NodeProto& n) const {
    const Function* f = functions.Find(n);
    if (f == nullptr || !n.overload().empty()) return f;
    return IsStandard(NormalDomain(n.domain())) && IsOperator(n) ? nullptr : f;
  }
  static bool IsOperator(const onnx::NodeProto& n) {
    const std::string domain = NormalDomain(n.domain());
    if (domain.empty() && n.op_type() == "Constant") return true;
    // What passes make of operators has no place in a file.
    return domain != "dunlin" && IsKnownOperator(n.op_type(), domain);
  }

  // ---- operators that are missing, all in one message ----
  struct Check {
    std::map<std::string, std::vector<std::string>> missing;  // operator → nodes
    std::set<const Function*> done, active;
  };
  Status CheckNodes(const NodeList& nodes, Check& check) const {
    for (const auto& n : nodes) {
      if (const Function* f = Callee(n)) {
        TRY(CheckFunction(*f, check));
      } else if (!IsOperator(n)) {
        check.missing[DescribeMissing(n.op_type(), NormalDomain(n.domain()))].push_back(
            n.name().empty() && n.output_size() ? n.output(0) : n.name());
      }
      for (const auto& a : n.attribute())
        if (a.has_g()) TRY(CheckNodes(a.g().node(), check));
    }
    return {};
  }
  Status CheckFunction(const Function& f, Check& check) const {
    const std::string name = QualifiedName(NormalDomain(f.proto->domain()), f.proto->name());
    if (check.active.contains(&f))
      return Fail(Code::kInvalidArgument, "function '{}' calls itself", name);
    if (check.active.size() >= size_t(kMaxDepth))
      return Fail(Code::kInvalidArgument, "function '{}': calls are nested more than {} deep", name,
                  kMaxDepth);
    if (!check.done.insert(&f).second) return {};
    check.active.insert(&f);
    TRY(CheckNodes(f.proto->node(), check));
    check.active.erase(&f);
    return {};
  }
  Status CheckOperators() const {
    Check check;
    TRY(CheckNodes(model.graph().node(), check));
    if (check.missing.empty()) return {};
    std::string list;
    for (const auto& [op, nodes] : check.missing) {
      list += fmt::format("{}{} (", list.empty() ? "" : ", ", op);
      for (size_t i = 0; i < nodes.size() && i < 4; ++i)
        list += fmt::format("{}'{}'", i ? ", " : "", nodes[i]);
      list += nodes.size() > 4 ? fmt::format(", and {} more)", nodes.size() - 4) : ")";
    }
    return Fail(Code::kUnimplemented, "unsupported operators: {}{}", list, NewerOpset());
  }
  // Behind a message that a newer opset may be the reason for.
  std::string NewerOpset() const {
    const int opset = opsets.at("");
    return opset <= kNewestOpset
               ? std::string()
               : fmt::format("; the model uses opset {}, operators are known up to {}", opset,
                             kNewestOpset);
  }

  // ---- one node ----
  Status Constant(const onnx::NodeProto& n, Scope& scope) {
    const onnx::AttributeProto* value = nullptr;
    for (const auto& a : n.attribute()) {
      if (IsAnnotation(a.name())) continue;
      if (value != nullptr) return Fail(Code::kInvalidArgument, "a Constant has one value");
      value = scope.frame.Resolve(a);
      if (value == nullptr)
        return Fail(Code::kInvalidArgument,
                    "its value is attribute '{}', which the call of {} does not give",
                    a.ref_attr_name(), scope.frame.function_name);
    }
    if (value == nullptr || n.output_size() != 1)
      return Fail(Code::kInvalidArgument, "a Constant needs one value and one output");
    const AttrValue v = TRY(ReadAttribute(*value, source));
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
      return Fail(Code::kUnimplemented, "attribute '{}'", value->name());
    return scope.Define(n.output(0),
                        scope.graph.AddConstant(scope.Named(n.output(0)), std::move(t)));
  }

  using Bodies = std::vector<std::pair<std::string, const onnx::GraphProto*>>;

  // Names resolved, attributes read, sub-graphs apart.
  Result<RawNode> ReadNode(const onnx::NodeProto& n, const Scope& scope, Bodies& bodies) {
    RawNode raw{n.op_type(),
                NormalDomain(n.domain()),
                scope.Named(n.name().empty() && n.output_size() ? n.output(0) : n.name()),
                {},
                {},
                {}};
    for (const auto& name : n.input()) {
      raw.inputs.push_back(TRY(Lookup(name, scope)));
    }
    while (!raw.inputs.empty() && raw.inputs.back() == ValueId::kNone) raw.inputs.pop_back();
    for (const auto& name : n.output()) raw.outputs.push_back(name);
    while (!raw.outputs.empty() && raw.outputs.back().empty()) raw.outputs.pop_back();
    for (const auto& a : n.attribute()) {
      if (IsAnnotation(a.name())) continue;
      const onnx::AttributeProto* value = scope.frame.Resolve(a);
      if (value == nullptr) {
        if (!scope.frame.function_name.empty()) continue;  // the call leaves it out
        return Fail(Code::kInvalidArgument,
                    "attribute '{}' refers to '{}' of a function, but the node is in none",
                    a.name(), a.ref_attr_name());
      }
      // What an empty optional could hold; what it does hold is all that counts.
      if (value->has_tp()) continue;
      AttrValue v = TRY(ReadAttribute(*value, source));
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

  // What a node of an inlined function costs.
  Status Charge(const onnx::NodeProto& n, const CallFrame& frame) {
    if (frame.calls == 0) return {};
    inlined += kNodeBytes + n.ByteSizeLong();
    if (inlined <= max_inlined) return {};
    return Fail(Code::kResourceExhausted,
                "inlining the model's functions takes more than {} bytes: too many calls in calls",
                max_inlined);
  }

  Status ImportCall(const onnx::NodeProto& n, const Function& f, Scope& scope, int depth) {
    const onnx::FunctionProto& proto = *f.proto;
    if (n.input_size() > proto.input_size() || n.output_size() > proto.output_size())
      return Fail(Code::kInvalidArgument,
                  "has {} inputs and {} outputs, function {} takes {} and gives {}", n.input_size(),
                  n.output_size(), proto.name(), proto.input_size(), proto.output_size());
    CallFrame frame;
    TRY(frame.Bind(f, n, scope.frame));
    const std::string& name = n.name().empty() ? n.op_type() : n.name();
    frame.prefix = (scope.frame.prefix + name).substr(0, kMaxPrefix) + "/";
    Scope callee{scope.graph, frame, {}};
    for (int i = 0; i < proto.input_size(); ++i) {
      const bool given = i < n.input_size();
      const ValueId value = given ? TRY(Lookup(n.input(i), scope)) : ValueId::kNone;
      TRY(callee.Define(proto.input(i), value));
    }
    TRY(Nodes(proto.node(), callee, depth));
    for (int i = 0; i < n.output_size(); ++i) {
      if (n.output(i).empty()) continue;
      const auto it = callee.names.find(proto.output(i));
      if (it == callee.names.end())
        return Fail(Code::kInvalidArgument, "output '{}' of function {} is not defined in it",
                    proto.output(i), proto.name());
      TRY(scope.Define(n.output(i), it->second));
    }
    return {};
  }

  static Result<ValueId> Lookup(const std::string& name, const Scope& scope) {
    if (name.empty()) return ValueId::kNone;
    const auto it = scope.names.find(name);
    if (it == scope.names.end())
      return Fail(Code::kInvalidArgument,
                  "input '{}' is not defined by any node, input or initializer", name);
    return it->second;
  }

  // An input that may be left out stands behind those that may not. Microsoft's operators have
  // others in between, and check that themselves.
  static Status CheckArity(const OpDef& op, const RawNode& raw) {
    const int inputs = int(raw.inputs.size()), outputs = int(raw.outputs.size());
    if (inputs < op.min_inputs || (op.max_inputs >= 0 && inputs > op.max_inputs))
      return Fail(Code::kInvalidArgument, "has {} inputs, the operator takes {} to {}", inputs,
                  op.min_inputs, op.max_inputs < 0 ? "any number" : std::to_string(op.max_inputs));
    if (op.max_outputs >= 0 && outputs > op.max_outputs)
      return Fail(Code::kInvalidArgument, "has {} outputs, the operator has {}", outputs,
                  op.max_outputs);
    const bool all = op.max_inputs < 0 && op.subgraphs == 0;
    for (int i = 0; i < (all ? inputs : op.min_inputs); ++i)
      if (raw.inputs[size_t(i)] == ValueId::kNone && raw.domain != "com.microsoft")
        return Fail(Code::kInvalidArgument, "input {} is left out, but the operator needs it", i);
    return {};
  }

  Status ImportNode(const onnx::NodeProto& n, Scope& scope, int depth) {
    const std::string domain = NormalDomain(n.domain());
    TRY(Charge(n, scope.frame));
    if (const Function* f = Callee(n)) return ImportCall(n, *f, scope, depth);
    if (domain.empty() && n.op_type() == "Constant") return Constant(n, scope);
    Graph& g = scope.graph;
    Bodies bodies;
    RawNode raw = TRY(ReadNode(n, scope, bodies));
    const auto opset = scope.frame.opsets->find(domain);
    TRY(Upgrade(raw, opset == scope.frame.opsets->end() ? 1 : opset->second, g));
    if (raw.results) {
      if (raw.outputs.size() > raw.results->size())
        return Fail(Code::kInvalidArgument, "has {} outputs, the operator has {}",
                    raw.outputs.size(), raw.results->size());
      for (size_t i = 0; i < raw.outputs.size(); ++i)
        if (!raw.outputs[i].empty()) TRY(scope.Define(raw.outputs[i], raw.results->at(i)));
      return {};
    }
    const OpDef* op = FindOp(raw.op, raw.domain);
    if (op == nullptr) return Fail(Code::kUnimplemented, "operator {} is not supported", raw.op);
    TRY(CheckArity(*op, raw));
    if (raw.outputs.empty()) return {};  // a result nobody can read
    if (int(bodies.size()) != op->subgraphs)
      return Fail(Code::kInvalidArgument, "has {} sub-graphs, the operator takes {}", bodies.size(),
                  op->subgraphs);
    auto attrs = DefaultAttrs(*op);
    TRY(FillAttrs(*attrs, raw.attrs));

    const Captures captures = TRY(CapturesOf(bodies, scope));
    for (const auto& [name, value] : captures.dynamic) raw.inputs.push_back(value);
    std::vector<std::unique_ptr<Graph>> subgraphs;
    for (const auto& body : bodies) {
      auto sub = ImportSubgraph(*body.second, scope, captures, depth + 1);
      if (!sub) return FailAt(body.first, sub.error());
      subgraphs.push_back(std::move(*sub));
    }
    // Formal inputs that were left out still have a place before the captures.
    std::vector<std::string> outputs_named;
    for (const std::string& name : raw.outputs) outputs_named.push_back(scope.Named(name));
    Node& node = g.AddNode(*op, std::move(attrs), std::move(raw.inputs), outputs_named, raw.name);
    node.captures = int(captures.dynamic.size());
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

  // What the sub-graphs of one node read of the graph around them.
  struct Captures {
    std::vector<std::pair<std::string, ValueId>> known;  // constants, and inputs that are left out
    std::vector<std::pair<std::string, ValueId>> dynamic;  // inputs of the node and of each body
  };
  static Result<Captures> CapturesOf(const Bodies& bodies, const Scope& scope) {
    Captures out;
    std::set<std::string> seen;
    for (const auto& body : bodies)
      for (const std::string& name : FreeNames(*body.second)) {
        if (!seen.insert(name).second) continue;
        const auto it = scope.names.find(name);
        if (it == scope.names.end())
          return Fail(Code::kInvalidArgument, "a sub-graph reads '{}', which is not defined", name);
        const bool known =
            it->second == ValueId::kNone || scope.graph.value(it->second).is_constant();
        (known ? out.known : out.dynamic).emplace_back(name, it->second);
      }
    return out;
  }

  // ---- errors that are independent of each other ----
  // Whether the import goes on after this one, to find more.
  bool Keep(const Error& error) {
    constexpr size_t kMostErrors = 32;
    if (errors == nullptr) return false;
    errors->push_back(error);
    return error.code != Code::kResourceExhausted && errors->size() < kMostErrors;
  }
  bool ReadsUnknown(const onnx::NodeProto& n) const {
    const auto is_unknown = [&](const std::string& name) { return unknown.contains(name); };
    if (std::ranges::any_of(n.input(), is_unknown)) return true;
    return std::ranges::any_of(n.attribute(), [&](const onnx::AttributeProto& a) {
      return a.has_g() && std::ranges::any_of(FreeNames(a.g()), is_unknown);
    });
  }
  Status MainNodes(const NodeList& nodes, Scope& scope) {
    if (errors == nullptr) return Nodes(nodes, scope, 0);
    for (const onnx::NodeProto* n : TRY(SortedNodes(nodes))) {
      const bool skip = ReadsUnknown(*n);
      auto s = skip ? Status() : WithPlace(*n, ImportNode(*n, scope, 0), scope);
      if (!s && !Keep(s.error())) return s;
      if (skip || !s) unknown.insert(n->output().begin(), n->output().end());
    }
    return {};
  }

  // ---- graphs ----
  static Status WithPlace(const onnx::NodeProto& n, Status s, const Scope& scope) {
    if (s) return s;
    const std::string& message = s.error().message;
    if (!message.starts_with('\x01')) return FailAt(Place(n), s.error());
    // A failing node of a function is named with the call.
    if (scope.frame.calls > 0) return s;
    return Fail(s.error().code, "{}", message.substr(1));
  }
  Status Nodes(const NodeList& nodes, Scope& scope, int depth) {
    for (const onnx::NodeProto* n : TRY(SortedNodes(nodes)))
      TRY(WithPlace(*n, ImportNode(*n, scope, depth), scope));
    return {};
  }

  Status Outputs(const onnx::GraphProto& proto, Scope& scope) {
    for (const auto& o : proto.output()) {
      const auto it = scope.names.find(o.name());
      if (it == scope.names.end() && unknown.contains(o.name())) continue;
      if (it == scope.names.end() || it->second == ValueId::kNone)
        return Fail(Code::kInvalidArgument, "graph output '{}' is not defined by any node",
                    o.name());
      scope.graph.AddOutput(it->second);
    }
    return {};
  }

  // Of the same name twice, the later one counts.
  Status Initializers(const onnx::GraphProto& proto, Scope& scope) {
    const bool main = &proto == &model.graph();
    const auto define = [&](const std::string& name, auto read, const auto& from) -> Status {
      auto t = read(from, source);
      if (!t && (!main || !Keep(t.error()))) return Fail(t.error());
      if (!t)
        unknown.insert(name);
      else if (main && fed.contains(name))
        fed_values[name] = std::move(*t);
      else if (!name.empty())
        scope.names[name] = scope.graph.AddConstant(scope.Named(name), std::move(*t));
      return {};
    };
    for (const auto& t : proto.initializer()) TRY(define(t.name(), ReadTensor, t));
    for (const auto& t : proto.sparse_initializer()) TRY(define(t.values().name(), ReadSparse, t));
    return {};
  }

  Result<std::unique_ptr<Graph>> ImportSubgraph(const onnx::GraphProto& proto, Scope& outer,
                                                const Captures& captures, int depth) {
    if (depth > kMaxDepth)
      return Fail(Code::kInvalidArgument, "sub-graphs are nested more than {} deep", kMaxDepth);
    auto graph = std::make_unique<Graph>(outer.graph.symbol_table());
    Scope scope{*graph, outer.frame, {}};
    TRY(Initializers(proto, scope));
    for (const auto& i : proto.input()) {
      if (scope.names.contains(i.name())) continue;
      // What a body declares of its inputs' extents is often wrong; inference knows better.
      const auto type = ReadType(i.type(), graph->symbols());
      TRY(scope.Define(
          i.name(),
          graph->AddInput(i.name(),
                          type ? Type{type->kind, type->dtype, false, {}, type->key} : Type{})));
    }
    // What another branch reads may be defined here under the same name.
    const std::vector<std::string> names = FreeNames(proto);
    const std::set<std::string_view> free(names.begin(), names.end());
    for (const auto& [name, value] : captures.known) {
      if (!free.contains(name)) continue;
      const bool absent = value == ValueId::kNone;
      TRY(scope.Define(
          name, absent ? value : graph->AddConstant(name, outer.graph.value(value).constant)));
    }
    for (const auto& [name, value] : captures.dynamic) {
      const ValueId in = graph->AddInput(name, outer.graph.value(value).type);
      if (free.contains(name)) TRY(scope.Define(name, in));
    }
    TRY(Nodes(proto.node(), scope, depth));
    TRY(Outputs(proto, scope));
    return graph;
  }

  // The inputs of the model. Those that have an initializer are constants, unless the caller wants
  // to feed them.
  Status Inputs(const onnx::GraphProto& proto, Scope& scope, ImportedModel& out) {
    std::set<std::string> unknown = fed, seen;
    for (const auto& i : proto.input()) {
      if (!seen.insert(i.name()).second) continue;
      auto type = ReadType(i.type(), out.graph->symbols());
      if (!type) return FailAt(fmt::format("input '{}'", i.name()), type.error());
      if (const auto it = scope.names.find(i.name()); it != scope.names.end()) {
        if (const Type& held = scope.graph.value(it->second).type; type->dtype == DType::kUndefined)
          type = held;
        out.defaults.push_back({i.name(), *type});
        continue;
      }
      unknown.erase(i.name());
      TRY(scope.Define(i.name(), out.graph->AddInput(i.name(), *type)));
      out.inputs.push_back({i.name(), *type, HoldsSequence(i)});
    }
    if (unknown.empty()) return {};
    return Fail(Code::kInvalidArgument, "'{}' is to be fed, but the model lists no such input",
                *unknown.begin());
  }

  void Describe(ImportedModel& out) const {
    const auto& proto = model.graph();
    out.metadata["ir_version"] = std::to_string(model.ir_version());
    out.metadata["producer"] =
        model.producer_name() +
        (model.producer_version().empty() ? "" : " " + model.producer_version());
    for (const auto& [domain, version] : opsets)
      out.metadata[domain.empty() ? "opset" : "opset." + domain] = std::to_string(version);
    if (opsets.at("") > kNewestOpset)
      out.metadata["note"] =
          fmt::format("opset {} is newer than {}, which its operators are read as", opsets.at(""),
                      kNewestOpset);
    if (!proto.name().empty()) out.metadata["graph"] = proto.name();
    for (const auto& p : model.metadata_props()) out.metadata["model." + p.key()] = p.value();
  }

  Result<ImportedModel> Import() {
    if (!model.has_graph())
      return Fail(Code::kInvalidArgument, "not an ONNX model: there is no graph in it");
    opsets = ReadOpsets(model);
    functions = TRY(FunctionTable::Of(model, opsets));
    TRY(CheckOperators());
    ImportedModel out;
    out.graph = std::make_unique<Graph>();
    CallFrame frame;
    frame.opsets = &opsets;
    Scope scope{*out.graph, frame, {}};
    const auto& proto = model.graph();
    TRY(Initializers(proto, scope));
    TRY(Inputs(proto, scope, out));
    TRY(MainNodes(proto.node(), scope));
    TRY(Outputs(proto, scope));
    if (errors != nullptr && !errors->empty()) return Fail(errors->front());
    for (const auto& o : proto.output()) {
      // Inference knows better; what is declared only fills gaps.
      const auto type = ReadType(o.type(), out.graph->symbols());
      out.outputs.push_back({o.name(), type ? *type : Type{}, HoldsSequence(o)});
    }
    out.fed_values = std::move(fed_values);
    Describe(out);
    return out;
  }
};

}  // namespace
}  // namespace onnx_import

namespace onnx_import {
namespace {

Result<ImportedModel> ImportFile(std::span<const std::byte> bytes, std::shared_ptr<Buffer> backing,
                                 const std::string& external_dir, const ImportOptions& options,
                                 std::vector<Error>* errors) {
  if (bytes.empty()) return Fail(Code::kInvalidArgument, "the model is empty");
  if (const std::string other = OtherFormat(bytes); !other.empty())
    return Fail(Code::kInvalidArgument, "not an ONNX model but {}", other);
  const std::string message = TRY(StripWeights(bytes));
  if (message.size() > size_t{0x7fffffff})
    return Fail(Code::kInvalidArgument,
                "the model without the raw data of its tensors has {} bytes, protobuf reads 2 GiB; "
                "save its weights as external data",
                message.size());
  onnx::ModelProto model;
  if (!model.ParseFromArray(message.data(), int(message.size())))
    return Fail(Code::kInvalidArgument,
                "not an ONNX model, or a damaged one: the protobuf message cannot be parsed");
  std::map<std::string, std::shared_ptr<Buffer>> files;
  Importer importer{model,
                    {std::move(backing), external_dir, options.real_dir, &files},
                    options.fed,
                    {},
                    {},
                    0,
                    kMaxInlinedBytes + kInlinedPerByte * bytes.size(),
                    errors};
  auto imported = importer.Import();
  if (imported)
    for (const auto& [name, file] : files)
      imported->external_files.push_back(external_dir + "/" + name);
  return imported;
}

}  // namespace
}  // namespace onnx_import

Result<ImportedModel> ImportOnnx(std::span<const std::byte> bytes, std::shared_ptr<Buffer> backing,
                                 const std::string& external_dir, const ImportOptions& options) {
  return onnx_import::ImportFile(bytes, std::move(backing), external_dir, options, nullptr);
}

std::vector<Error> ImportErrors(std::span<const std::byte> bytes, std::shared_ptr<Buffer> backing,
                                const std::string& external_dir) {
  std::vector<Error> errors;
  const auto model = onnx_import::ImportFile(bytes, std::move(backing), external_dir, {}, &errors);
  if (!model && errors.empty()) errors.push_back(model.error());
  return errors;
}

}  // namespace dunlin
