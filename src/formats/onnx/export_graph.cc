// Nodes of one graph as messages, under names that are unique in the model.
#include "formats/onnx/export_graph.h"

#include "formats/onnx/export.h"

namespace dunlin::onnx_export {
namespace {

// Field numbers of onnx.proto.
namespace graph {
constexpr uint32_t kNode = 1, kName = 2, kInitializer = 5, kInput = 11, kOutput = 12,
                   kValueInfo = 13;
}
namespace node {
constexpr uint32_t kInput = 1, kOutput = 2, kName = 3, kOpType = 4, kAttribute = 5, kDomain = 7;
}
namespace attribute {
constexpr uint32_t kName = 1, kG = 6, kType = 20;
constexpr int64_t kGraph = 5;
}  // namespace attribute

// Constants from this size on stand in the main graph once, whichever graphs read them.
constexpr int64_t kSharedBytes = 1024;

Type Kept(const Type& t, bool extents) {
  Type kept = t;
  if (!extents) kept.ranked = false, kept.dims = {};
  return kept;
}

}  // namespace

std::string Place(const Node& n) { return fmt::format("node '{}' ({})", n.name, n.op->name); }

Message ValueInfo(const std::string& name, const Type* type, const SymbolTable& symbols,
                  bool optional_sequence) {
  Message m;
  m.Text(1, name);
  if (type != nullptr && type->dtype != DType::kUndefined)
    m.Sub(2, TypeMessage(*type, symbols, optional_sequence));
  return m;
}

std::string ModelWriter::Unique(std::set<std::string>& taken, const std::string& wish) {
  const std::string base = wish.empty() ? "value" : wish;
  std::string name = base;
  for (int i = 1; !taken.insert(name).second; ++i) name = fmt::format("{}_{}", base, i);
  return name;
}

const std::string& ModelWriter::SharedConstant(const std::string& wish, const Tensor& t) {
  const std::string key = fmt::format("{} {} {}", static_cast<const void*>(t.source()),
                                      DTypeName(t.dtype()), ToString(t.dims()));
  const auto [it, fresh] = shared_index.emplace(key, shared.size());
  if (fresh) shared.push_back({ValueName(wish), t});
  return shared[it->second].name;
}

void ModelWriter::NeedType(DType t) {
  const int least = t == DType::kI2 || t == DType::kU2   ? 13
                    : t == DType::kF8E8M0                ? 12
                    : t == DType::kF4E2M1                ? 11
                    : t == DType::kI4 || t == DType::kU4 ? 10
                    : IsFloat8(t)                        ? 9
                                                         : 4;
  ir_version = std::max(ir_version, least);
}

void GraphWriter::Refuse(const Node& n, int least, std::string what) {
  model_.refusals.push_back({Place(n), std::move(what), least});
}

std::string GraphWriter::NameOf(ValueId v) {
  const auto it = names_.find(v);
  if (it != names_.end()) return it->second;
  const GraphValue& x = g_.value(v);
  DUNLIN_CHECK(x.is_constant(), "a value without a definition");
  const Tensor& t = x.constant;
  model_.NeedType(t.dtype());
  if (t.dtype() != DType::kString && t.bytes() >= kSharedBytes)
    return names_[v] = model_.SharedConstant(x.name, t);
  constants_.push_back({model_.ValueName(x.name), t});
  return names_[v] = constants_.back().name;
}

Operand GraphWriter::NewConstant(const OutNode& at, Tensor t, std::string_view what) {
  constants_.push_back({model_.ValueName(fmt::format("{}/{}", at.name, what)), std::move(t)});
  return {ValueId::kNone, constants_.back().name};
}

Operand GraphWriter::InsertNode(const OutNode& at, std::string_view op, std::vector<Operand> inputs,
                                AttrMap attrs, std::string_view what) {
  OutNode n{std::string(op),
            "",
            fmt::format("{}/{}", at.name, what),
            std::move(attrs),
            std::move(inputs),
            {},
            {}};
  n.outputs = {model_.ValueName(n.name)};
  const Operand result{ValueId::kNone, n.outputs[0]};
  Put(std::move(n));
  return result;
}

void GraphWriter::Put(OutNode&& n) {
  Message m;
  while (!n.inputs.empty() && !n.inputs.back().present()) n.inputs.pop_back();
  for (const Operand& in : n.inputs)
    m.Text(node::kInput, in.value != ValueId::kNone ? NameOf(in.value) : in.name);
  for (const std::string& out : n.outputs) m.Text(node::kOutput, out);
  m.Text(node::kName, ModelWriter::Unique(model_.node_names, n.name));
  m.Text(node::kOpType, n.op);
  for (const auto& [name, value] : n.attrs) m.Sub(node::kAttribute, AttributeMessage(name, value));
  for (auto& [name, body] : n.bodies)
    m.Sub(node::kAttribute, Message()
                                .Text(attribute::kName, name)
                                .Sub(attribute::kG, std::move(body))
                                .Int(attribute::kType, attribute::kGraph));
  if (!n.domain.empty()) m.Text(node::kDomain, n.domain);
  model_.domains.insert(n.domain);
  ++model_.nodes;
  nodes_.Sub(graph::kNode, std::move(m));
}

void GraphWriter::WriteNode(const Node& n) {
  OutNode out{
      std::string(n.op->name), std::string(n.op->domain), n.name, WrittenAttrs(n), {}, {}, {}};
  for (int i = 0; i < n.formal_inputs(); ++i) out.inputs.push_back({n.inputs[size_t(i)], ""});
  WriteBodies(n, out);
  for (const ValueId v : n.outputs) {
    if (v == ValueId::kNone) {
      out.outputs.emplace_back();
      continue;
    }
    const GraphValue& x = g_.value(v);
    if (!names_.contains(v)) names_[v] = model_.ValueName(x.name);
    made_.insert(v);
    in_order_.push_back(v);
    out.outputs.push_back(names_[v]);
    model_.NeedType(x.type.dtype);
    if (x.type.kind == Type::Kind::kOptional) model_.ir_version = std::max(model_.ir_version, 8);
  }
  while (!out.outputs.empty() && out.outputs.back().empty()) out.outputs.pop_back();
  NodeForm form{out, g_, n, model_.opset, model_.source_opset, *this};
  ToOpset(form);
  Put(std::move(out));
}

void GraphWriter::WriteNodes() {
  for (const NodeId id : g_.SoundOrder()) WriteNode(g_.node(id));
}

void GraphWriter::WriteBodies(const Node& n, OutNode& out) {
  for (size_t i = 0; i < n.subgraphs.size(); ++i) {
    const std::string name =
        n.subgraphs.size() == 2 ? i == 0 ? "then_branch" : "else_branch" : "body";
    out.bodies.emplace_back(name,
                            WriteBody(n, *n.subgraphs[i], fmt::format("{}/{}", n.name, name)));
  }
}

Message GraphWriter::WriteBody(const Node& n, const Graph& body, const std::string& name) {
  GraphWriter writer(model_, body, false);
  const size_t formal = body.inputs().size() - size_t(n.captures);
  Message inputs;
  for (size_t i = 0; i < body.inputs().size(); ++i) {
    const ValueId v = body.inputs()[i];
    if (i >= formal) {
      writer.Bind(v, NameOf(n.inputs[size_t(n.formal_inputs()) + i - formal]));
      continue;
    }
    const std::string in = model_.ValueName(body.value(v).name);
    writer.Bind(v, in);
    // Extents of one iteration need not be those of the next; but Loop's number and condition are
    // scalars, and must be told to be.
    const bool scalar = n.op->name == "Loop" && i < 2;
    const Type type = Kept(body.value(v).type, scalar);
    inputs.Sub(graph::kInput, ValueInfo(in, &type, body.symbols()));
  }
  writer.WriteNodes();
  Message outputs;
  for (const ValueId v : body.outputs()) {
    const std::string made = writer.OutputName(v, body.value(v).name);
    const Type type = Kept(body.value(v).type, false);
    outputs.Sub(graph::kOutput, ValueInfo(made, &type, body.symbols()));
  }
  Message m;
  m.Text(graph::kName, name);
  m.Append(writer.TakeNodes());
  for (const ModelWriter::Shared& c : writer.constants())
    m.Sub(graph::kInitializer, TensorMessage(c.name, c.tensor, nullptr));
  m.Append(std::move(inputs));
  m.Append(std::move(outputs));
  return m;
}

std::string GraphWriter::OutputName(ValueId v, const std::string& wish) {
  // A model may list one output twice; its name still has one definition.
  if (main_ && outputs_.contains(wish)) return wish;
  if (made_.contains(v) && outputs_.insert(names_[v]).second) return names_[v];
  NameOf(v);  // a constant's own comes first
  const std::string name = main_ ? wish : model_.ValueName(wish);
  OutNode identity{"Identity", "", name, {}, {{v, ""}}, {name}, {}};
  Put(std::move(identity));
  outputs_.insert(name);
  return name;
}

void GraphWriter::WriteValueInfo(Message& out) const {
  for (const ValueId v : in_order_) {
    const Type& type = g_.value(v).type;
    const std::string& name = names_.at(v);
    if (!outputs_.contains(name) && type.dtype != DType::kUndefined)
      out.Sub(graph::kValueInfo, ValueInfo(name, &type, g_.symbols()));
  }
}

}  // namespace dunlin::onnx_export
