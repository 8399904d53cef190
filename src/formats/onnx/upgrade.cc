// From any opset to the internal form: one small rule per operator whose form has changed. A rule
// sees the node with its attributes as written and leaves it as opset 21 would write it.
#include <algorithm>
#include <functional>

#include "formats/onnx/internal.h"
#include "ops/op.h"

namespace dunlin::onnx_import {
namespace {

struct Upgrader {
  RawNode& n;
  int opset;
  Graph& g;

  bool HasAttr(std::string_view a) const { return n.attrs.contains(a); }
  template <class T>
  std::optional<T> Take(std::string_view a) {
    const auto it = n.attrs.find(a);
    if (it == n.attrs.end()) return std::nullopt;
    const T* v = std::get_if<T>(&it->second);
    if (v == nullptr) return std::nullopt;  // left in place: reported as a wrong attribute
    T out = *v;
    n.attrs.erase(it);
    return out;
  }
  void Drop(std::initializer_list<std::string_view> names) {
    for (const auto a : names)
      if (const auto it = n.attrs.find(a); it != n.attrs.end()) n.attrs.erase(it);
  }
  ValueId Const(Tensor t, std::string_view what) {
    return g.AddConstant(fmt::format("{}/{}", n.outputs.empty() ? n.name : n.outputs[0], what),
                         std::move(t));
  }
  void SetInput(size_t i, ValueId v) {
    if (n.inputs.size() <= i) n.inputs.resize(i + 1, ValueId::kNone);
    n.inputs[i] = v;
  }
  // An attribute that became an input.
  void IntsToInput(std::string_view attr, size_t input) {
    if (auto v = Take<std::vector<int64_t>>(attr))
      SetInput(input, Const(Tensor::Ints(*v), attr));
    else if (auto one = Take<int64_t>(attr))
      SetInput(input, Const(Tensor::Ints(std::vector<int64_t>{*one}), attr));
  }
  const Type* InputType(size_t i) const {
    return i < n.inputs.size() && n.inputs[i] != ValueId::kNone ? &g.value(n.inputs[i]).type
                                                                : nullptr;
  }
  // A scalar of the type of input 0.
  Status ScalarToInput(std::string_view attr, size_t input) {
    if (const auto v = Take<float>(attr)) {
      const Type* t = InputType(0);
      const DType dtype = t && t->dtype != DType::kUndefined ? t->dtype : DType::kF32;
      SetInput(input, Const(TRY(Convert(Tensor::Scalar<float>(*v), dtype)), attr));
    }
    return {};
  }
  Result<ValueId> Insert(std::string_view op, std::vector<ValueId> inputs, const AttrMap& attrs,
                         std::string_view what) {
    const OpDef* def = FindOp(op);
    if (def == nullptr) return Fail(Code::kUnimplemented, "operator {} is not supported", op);
    auto a = DefaultAttrs(*def);
    TRY(FillAttrs(*a, attrs));
    Node& node = g.AddNode(*def, a, std::move(inputs),
                           fmt::format("{}/{}", n.outputs.empty() ? n.name : n.outputs[0], what));
    TRY(InferNode(g, node));
    return node.outputs[0];
  }

  // Before opset 7 the second operand was aligned by attributes, not by numpy's rules.
  Status Broadcast() {
    if (opset >= 7) return {};
    const auto broadcast = Take<int64_t>("broadcast");
    const auto axis = Take<int64_t>("axis");
    const Type* a = InputType(0);
    const Type* b = InputType(1);
    if (!broadcast.value_or(0) || !axis || a == nullptr || b == nullptr) return {};
    if (!a->ranked || !b->ranked)
      return Fail(Code::kUnimplemented, "broadcasting by attributes needs known ranks");
    const int64_t at = *axis < 0 ? *axis + a->dims.rank() : *axis;
    std::vector<int64_t> axes;
    for (int64_t i = b->dims.rank(); at + i < a->dims.rank(); ++i) axes.push_back(i);
    if (!axes.empty())
      SetInput(1, TRY(Insert("Unsqueeze", {n.inputs[1], Const(Tensor::Ints(axes), "axes")}, {},
                             "aligned")));
    return {};
  }

  // Before opset 7 a slope of one extent held one entry a channel.
  Status PRelu() {
    Drop({"consumed_inputs"});
    const Type* x = InputType(0);
    const Type* slope = InputType(1);
    if (opset >= 7 || x == nullptr || slope == nullptr || !slope->ranked ||
        slope->dims.rank() != 1 || slope->dims[0] == 1)
      return {};
    if (!x->ranked) return Fail(Code::kUnimplemented, "PRelu-6 of unknown rank");
    std::vector<int64_t> axes;
    for (int64_t i = 2; i < x->dims.rank(); ++i) axes.push_back(i - 1);
    if (!axes.empty())
      SetInput(1, TRY(Insert("Unsqueeze", {n.inputs[1], Const(Tensor::Ints(axes), "axes")}, {},
                             "aligned")));
    return {};
  }

  // Before opset 13 softmax worked on the 2-D matrix that flattening at `axis` gives.
  Status SoftmaxOf2D() {
    if (opset >= 13) return {};
    const int64_t axis = Take<int64_t>("axis").value_or(1);
    const Type* x = InputType(0);
    if (x != nullptr && x->ranked) {
      const int64_t rank = x->dims.rank();
      const int64_t at = axis < 0 ? axis + rank : axis;
      const bool inner_ones =
          at >= 0 && std::all_of(x->dims.begin() + std::min(at + 1, rank), x->dims.end(),
                                 [](int64_t d) { return d == 1; });
      if (at == rank - 1 || inner_ones) {
        n.attrs["axis"] = at;
        return {};
      }
    }
    const ValueId original = n.inputs[0];
    const ValueId shape = TRY(Insert("Shape", {original}, {}, "shape"));
    const ValueId flat = TRY(Insert("Flatten", {original}, {{"axis", axis}}, "flat"));
    const ValueId y = TRY(Insert(n.op, {flat}, {{"axis", int64_t{1}}}, "softmax"));
    n.op = "Reshape";
    n.inputs = {y, shape};
    return {};
  }

  Status Upsample() {
    n.op = "Resize";
    if (auto scales = Take<std::vector<float>>("scales")) {
      SetInput(2, Const(Tensor::Of<float>(Dims{int64_t(scales->size())},
                                          std::span<const float>(*scales)),
                        "scales"));
    } else if (n.inputs.size() == 2) {
      n.inputs = {n.inputs[0], ValueId::kNone, n.inputs[1]};
    }
    const auto mode = Take<std::string>("mode").value_or("nearest");
    n.attrs["mode"] = mode == "bilinear" ? std::string("linear") : mode;
    n.attrs["coordinate_transformation_mode"] = std::string("asymmetric");
    n.attrs["nearest_mode"] = std::string("floor");
    return {};
  }

  Status Resize() {
    if (opset >= 11) return {};
    if (n.inputs.size() == 2) n.inputs = {n.inputs[0], ValueId::kNone, n.inputs[1]};
    n.attrs["coordinate_transformation_mode"] = std::string("asymmetric");
    n.attrs["nearest_mode"] = std::string("floor");
    return {};
  }

  Status Slice() {
    if (opset >= 10) return {};
    IntsToInput("starts", 1);
    IntsToInput("ends", 2);
    IntsToInput("axes", 3);
    return {};
  }

  Status Split() {
    if (opset < 13) IntsToInput("split", 1);
    if (opset < 18 && (n.inputs.size() < 2 || n.inputs[1] == ValueId::kNone))
      n.attrs["num_outputs"] = int64_t(n.outputs.size());
    return {};
  }

  Status BatchNormalization() {
    Drop({"is_test", "consumed_inputs"});
    if (Take<int64_t>("spatial").value_or(1) != 1)
      return Fail(Code::kUnimplemented, "BatchNormalization with spatial=0");
    // Inference form: the running statistics that old forms listed as outputs do not exist.
    const bool training = HasAttr("training_mode") &&
                          std::get_if<int64_t>(&n.attrs.find("training_mode")->second) != nullptr &&
                          *std::get_if<int64_t>(&n.attrs.find("training_mode")->second) != 0;
    if (!training && n.outputs.size() > 1) n.outputs.resize(1);
    return {};
  }

  Status GroupNormalization() {
    if (opset >= 21) return {};
    // Until opset 21 scale and bias had one entry a group.
    const Type* x = InputType(0);
    const auto it = n.attrs.find("num_groups");
    const int64_t* groups = it == n.attrs.end() ? nullptr : std::get_if<int64_t>(&it->second);
    if (x == nullptr || !x->ranked || x->dims.rank() < 2 || !IsKnown(x->dims[1]) ||
        groups == nullptr || *groups <= 0 || x->dims[1] % *groups)
      return Fail(
          Code::kUnimplemented,
          "GroupNormalization-18 needs a known number of channels, a multiple of num_groups");
    const int64_t per_group = x->dims[1] / *groups;
    for (const size_t i : {size_t(1), size_t(2)}) {
      if (i >= n.inputs.size()) continue;
      const ValueId column = TRY(Insert(
          "Reshape", {n.inputs[i], Const(Tensor::Ints(std::vector<int64_t>{*groups, 1}), "column")},
          {}, i == 1 ? "scale_column" : "bias_column"));
      const ValueId wide = TRY(Insert(
          "Expand", {column, Const(Tensor::Ints(std::vector<int64_t>{*groups, per_group}), "wide")},
          {}, i == 1 ? "scale_wide" : "bias_wide"));
      n.inputs[i] =
          TRY(Insert("Reshape", {wide, Const(Tensor::Ints(std::vector<int64_t>{-1}), "flat")}, {},
                     i == 1 ? "scale" : "bias"));
    }
    return {};
  }

  Status Dropout() {
    Drop({"ratio", "is_test", "seed", "consumed_inputs"});
    if (opset < 12) n.inputs.resize(1);
    return {};
  }

  Status Pad() {
    if (opset >= 11) return {};
    IntsToInput(HasAttr("paddings") ? "paddings" : "pads", 1);
    return ScalarToInput("value", 2);
  }

  Status Clip() {
    Drop({"consumed_inputs"});
    if (opset >= 11) return {};
    TRY(ScalarToInput("min", 1));
    return ScalarToInput("max", 2);
  }

  Status Reduce(int axes_became_input) {
    if (opset < axes_became_input) IntsToInput("axes", 1);
    return {};
  }

  Status GridSample() {
    if (opset >= 20) return {};
    if (const auto it = n.attrs.find("mode"); it != n.attrs.end())
      if (auto* mode = std::get_if<std::string>(&it->second))
        *mode = *mode == "bilinear" ? "linear" : *mode == "bicubic" ? "cubic" : *mode;
    return {};
  }

  Status Dft() {
    if (opset >= 20) return {};
    const int64_t axis = Take<int64_t>("axis").value_or(1);
    if (n.inputs.size() < 2) n.inputs.resize(2, ValueId::kNone);
    SetInput(2, Const(Tensor::Scalar<int64_t>(axis), "axis"));
    return {};
  }

  // Cast and friends spelled the type as a string before opset 6.
  Status Cast() {
    const auto it = n.attrs.find("to");
    const auto* name = it == n.attrs.end() ? nullptr : std::get_if<std::string>(&it->second);
    if (name == nullptr) return {};
    static constexpr std::pair<std::string_view, int64_t> kNames[] = {
        {"FLOAT", 1},   {"UINT8", 2},   {"INT8", 3},   {"UINT16", 4}, {"INT16", 5},
        {"INT32", 6},   {"INT64", 7},   {"STRING", 8}, {"BOOL", 9},   {"FLOAT16", 10},
        {"DOUBLE", 11}, {"UINT32", 12}, {"UINT64", 13}};
    for (const auto& [text, number] : kNames)
      if (text == *name) {
        it->second = number;
        return {};
      }
    return Fail(Code::kInvalidArgument, "Cast to unknown type '{}'", *name);
  }
};

using Rule = Status (*)(Upgrader&);

const std::map<std::string_view, Rule>& Rules() {
  static const auto* rules = [] {
    auto* r = new std::map<std::string_view, Rule>;
    const Rule broadcast = [](Upgrader& u) {
      u.Drop({"consumed_inputs"});
      return u.Broadcast();
    };
    for (const auto op :
         {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"})
      (*r)[op] = broadcast;
    const Rule softmax = [](Upgrader& u) { return u.SoftmaxOf2D(); };
    for (const auto op : {"Softmax", "LogSoftmax", "Hardmax"}) (*r)[op] = softmax;
    const Rule reduce = [](Upgrader& u) { return u.Reduce(18); };
    for (const auto op : {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
                          "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"})
      (*r)[op] = reduce;
    (*r)["ReduceSum"] = [](Upgrader& u) { return u.Reduce(13); };
    const Rule axes = [](Upgrader& u) -> Status {
      if (u.opset < 13) u.IntsToInput("axes", 1);
      return {};
    };
    for (const auto op : {"Squeeze", "Unsqueeze"}) (*r)[op] = axes;
    (*r)["PRelu"] = [](Upgrader& u) { return u.PRelu(); };
    (*r)["Upsample"] = [](Upgrader& u) { return u.Upsample(); };
    (*r)["Resize"] = [](Upgrader& u) { return u.Resize(); };
    (*r)["Slice"] = [](Upgrader& u) { return u.Slice(); };
    (*r)["Split"] = [](Upgrader& u) { return u.Split(); };
    (*r)["BatchNormalization"] = [](Upgrader& u) { return u.BatchNormalization(); };
    (*r)["GroupNormalization"] = [](Upgrader& u) { return u.GroupNormalization(); };
    (*r)["Dropout"] = [](Upgrader& u) { return u.Dropout(); };
    (*r)["Pad"] = [](Upgrader& u) { return u.Pad(); };
    (*r)["Clip"] = [](Upgrader& u) { return u.Clip(); };
    (*r)["GridSample"] = [](Upgrader& u) { return u.GridSample(); };
    (*r)["DFT"] = [](Upgrader& u) { return u.Dft(); };
    (*r)["Cast"] = [](Upgrader& u) { return u.Cast(); };
    (*r)["TopK"] = [](Upgrader& u) -> Status {
      if (u.opset < 10) u.IntsToInput("k", 1);
      return {};
    };
    (*r)["Gemm"] = [](Upgrader& u) -> Status {
      if (u.opset < 7) u.Drop({"broadcast"});
      return {};
    };
    (*r)["Tile"] = [](Upgrader& u) -> Status {
      return u.opset < 6 ? Status(Fail(Code::kUnimplemented, "Tile of opset {}", u.opset))
                         : Status();
    };
    (*r)["Scan"] = [](Upgrader& u) -> Status {
      return u.opset < 9 ? Status(Fail(Code::kUnimplemented, "Scan of opset 8")) : Status();
    };
    (*r)["Scatter"] = [](Upgrader& u) -> Status {
      u.n.op = "ScatterElements";
      return {};
    };
    (*r)["Reshape"] = [](Upgrader& u) -> Status {
      if (u.opset < 5) u.IntsToInput("shape", 1);
      return {};
    };
    const Rule consumed = [](Upgrader& u) -> Status {
      u.Drop({"consumed_inputs"});
      return {};
    };
    for (const auto op :
         {"Relu",       "Sigmoid",   "Tanh", "Exp",         "Log",
          "Sqrt",       "Abs",       "Neg",  "Ceil",        "Floor",
          "Reciprocal", "LeakyRelu", "Elu",  "Selu",        "Max",
          "Min",        "Sum",       "Mean", "HardSigmoid", "InstanceNormalization"})
      (*r)[op] = consumed;
    return r;
  }();
  return *rules;
}

}  // namespace

Status Upgrade(RawNode& node, int opset, Graph& graph) {
  if (!node.domain.empty()) return {};
  const auto it = Rules().find(node.op);
  if (it == Rules().end()) return {};
  Upgrader u{node, opset, graph};
  return it->second(u);
}

std::string_view InternalName(std::string_view op) {
  if (op == "Upsample") return "Resize";
  if (op == "Scatter") return "ScatterElements";
  return op;
}

}  // namespace dunlin::onnx_import
