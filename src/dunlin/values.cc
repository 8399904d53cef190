#include "dunlin/values.h"

#include <algorithm>
#include <filesystem>
#include <optional>
#include <unordered_map>

#include "dunlin/extra_outputs.h"
#include "ops/quant/linear.h"

namespace dunlin {
namespace {

// Which inputs of an operator say what the codes it gives stand for.
struct CodeInputs {
  std::string_view op;
  size_t scale, zero;
};
constexpr CodeInputs kCodeInputs[] = {
    {"QuantizeLinear", 1, 2},     {"QLinearConv", 6, 7},
    {"QLinearMatMul", 6, 7},      {"QGemm", 7, 8},
    {"QLinearAdd", 6, 7},         {"QLinearMul", 6, 7},
    {"QLinearAveragePool", 3, 4}, {"QLinearGlobalAveragePool", 3, 4},
    {"QLinearSoftmax", 3, 4}};
// Operators whose output has the codes of input 0 in other places.
constexpr std::string_view kMovers[] = {"Flatten", "Identity", "MaxPool",   "Reshape",
                                        "Slice",   "Squeeze",  "Transpose", "Unsqueeze"};

bool IsCode(DType t) {
  return t == DType::kU8 || t == DType::kI8 || t == DType::kU16 || t == DType::kI16;
}

// What the codes of a value stand for; nullopt where the graph does not say.
struct Meaning {
  ValueId scale, zero;
  LinearAttrs attrs;
};
std::optional<Meaning> MeaningOf(const Graph& g, ValueId v) {
  for (const Node* n = g.producer(v); n != nullptr; n = g.producer(n->inputs[0])) {
    const auto named = [&](const CodeInputs& c) { return c.op == n->op->name; };
    if (const auto* c = std::ranges::find_if(kCodeInputs, named); c != std::end(kCodeInputs)) {
      if (c->scale >= n->inputs.size() || n->inputs[c->scale] == ValueId::kNone)
        return std::nullopt;
      Meaning m{n->inputs[c->scale],
                c->zero < n->inputs.size() ? n->inputs[c->zero] : ValueId::kNone,
                {}};
      if (n->op->name == "QuantizeLinear") {
        const auto& q = As<LinearAttrs>(*n->attrs);
        m.attrs.axis = q.axis;
        m.attrs.block_size = q.block_size;
      }
      // Moved codes of one scale keep it; those of several are another matter.
      const Type& scale = g.value(m.scale).type;
      const bool moved = g.producer(v) != n;
      if (moved && (!scale.ranked || ElementCount(scale.dims) != 1)) return std::nullopt;
      return m;
    }
    if (std::ranges::find(kMovers, n->op->name) == std::end(kMovers) || n->inputs.empty())
      return std::nullopt;
  }
  return std::nullopt;
}

// What belongs to the layer before it when that is all it feeds.
constexpr std::string_view kTails[] = {"Clip", "DequantizeLinear", "Identity", "QuantizeLinear",
                                       "Relu"};
bool IsTail(const Node& n) { return std::ranges::find(kTails, n.op->name) != std::end(kTails); }

// The value through which everybody reads what node n makes.
ValueId LastOf(const Graph& g, const Node& n) {
  ValueId v = n.outputs[0];
  while (g.UseCount(v) == 1 && !g.IsOutput(v)) {
    const Node& next = g.node(g.value(v).uses[0].node);
    if (!IsTail(next) || next.inputs[0] != v) break;
    v = next.outputs[0];
  }
  return v;
}

// "Conv" of QLinearConv.
std::string LayerOf(const Node& n) {
  std::string_view name = n.op->name;
  if (name.starts_with("QLinear")) name.remove_prefix(7);
  return name == "QGemm" ? "Gemm" : std::string(name);
}

Result<ValueId> Dequantised(Graph& g, ValueId codes, const Meaning& m) {
  std::vector<ValueId> inputs = {codes, m.scale};
  if (m.zero != ValueId::kNone) inputs.push_back(m.zero);
  Node& n = g.AddNode(*FindOp("DequantizeLinear"), MakeAttrs(m.attrs), std::move(inputs),
                      g.value(codes).name + "/numbers");
  TRY(InferNode(g, n));
  return n.outputs[0];
}

// Values that depend on inputs, by id.
std::vector<bool> Computed(const Graph& g) {
  std::vector<bool> computed(g.value_count());
  for (const ValueId v : g.inputs()) computed[size_t(v)] = true;
  for (const NodeId id : g.SoundOrder()) {
    const Node& n = g.node(id);
    const bool any = std::ranges::any_of(
        n.inputs, [&](ValueId v) { return v != ValueId::kNone && computed[size_t(v)]; });
    for (const ValueId v : n.outputs)
      if (v != ValueId::kNone) computed[size_t(v)] = any;
  }
  return computed;
}

}  // namespace

Status AddExtraOutputs(ImportedModel& model, std::span<const std::string> names) {
  Graph& g = *model.graph;
  std::unordered_map<std::string, ValueId> by_name;
  for (const NodeId id : g.SoundOrder())
    for (const ValueId v : g.node(id).outputs)
      if (v != ValueId::kNone) by_name.emplace(g.value(v).name, v);
  for (const std::string& name : names) {
    const auto it = by_name.find(name);
    if (it == by_name.end())
      return Fail(Code::kNotFound, "no value inside the model is called '{}'", name);
    ValueId v = it->second;
    const GraphValue& value = g.value(v);
    if (IsCode(value.type.dtype))
      if (const auto meaning = MeaningOf(g, v)) v = TRY(Dequantised(g, v, *meaning));
    g.AddOutput(v);
    model.outputs.push_back({name, g.value(v).type});
  }
  return {};
}

Result<std::vector<InnerValue>> InnerValues(const std::string& path) {
  auto file = TRY(Buffer::MapFile(path));
  const size_t slash = path.find_last_of('/');
  const std::string dir = slash == std::string::npos ? "." : path.substr(0, slash + 1);
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  const auto model =
      ImportOnnx({file->data(), file->bytes()}, file, dir,
                 {.real_dir = error ? std::string() : real.parent_path().string(), .fed = {}});
  if (!model) return FailAt(path, model.error());
  const Graph& g = *model->graph;
  const std::vector<bool> computed = Computed(g);
  std::vector<InnerValue> values;
  std::unordered_map<ValueId, std::string> layers;  // by the value that a layer passes on
  for (const NodeId id : g.SoundOrder()) {
    const Node& n = g.node(id);
    if (!IsTail(n) && !n.outputs.empty() && n.outputs[0] != ValueId::kNone)
      layers[LastOf(g, n)] = LayerOf(n);
    for (size_t i = 0; i < n.outputs.size(); ++i) {
      const ValueId v = n.outputs[i];
      if (v == ValueId::kNone || !computed[size_t(v)] || g.IsOutput(v)) continue;
      const GraphValue& value = g.value(v);
      const DType t = value.type.dtype;
      if (value.name.empty() || value.type.kind != Type::Kind::kTensor ||
          !(IsFloat(t) || (IsCode(t) && MeaningOf(g, v))))
        continue;
      values.push_back({value.name, n.name, std::string(n.op->name), int(i), layers[v],
                        value.type.dims, value.type.ranked});
    }
  }
  return values;
}

}  // namespace dunlin
