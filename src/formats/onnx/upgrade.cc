// From any opset to the internal form: one small rule per operator whose form has changed. A rule
// sees the node with its attributes as written and leaves it as opset 21 would write it.
#include <algorithm>
#include <functional>

#include "formats/onnx/rewrite.h"
#include "formats/onnx/upgrader.h"

namespace dunlin::onnx_import {
namespace {

constexpr int64_t kInt64 = 7;  // ONNX's number of i64

// Before opset 7 the second operand was aligned by attributes, not by numpy's rules.
Status Broadcast(Upgrader& u) {
  if (u.opset >= 7) return {};
  const auto broadcast = u.Take<int64_t>("broadcast");
  const auto axis = u.Take<int64_t>("axis");
  const Type* a = u.InputType(0);
  const Type* b = u.InputType(1);
  if (!broadcast.value_or(0) || !axis || a == nullptr || b == nullptr) return {};
  if (!a->ranked || !b->ranked)
    return Fail(Code::kUnimplemented, "broadcasting by attributes needs known ranks");
  const int64_t at = *axis < 0 ? *axis + a->dims.rank() : *axis;
  std::vector<int64_t> axes;
  for (int64_t i = b->dims.rank(); at + i < a->dims.rank(); ++i) axes.push_back(i);
  if (!axes.empty())
    u.SetInput(1, TRY(u.Insert("Unsqueeze", {u.n.inputs[1], u.Const(Tensor::Ints(axes), "axes")},
                               {}, "aligned")));
  return {};
}

// Before opset 7 a slope of one extent held one entry a channel.
Status PRelu(Upgrader& u) {
  u.Drop({"consumed_inputs"});
  const Type* x = u.InputType(0);
  const Type* slope = u.InputType(1);
  if (u.opset >= 7 || x == nullptr || slope == nullptr || !slope->ranked ||
      slope->dims.rank() != 1 || slope->dims[0] == 1)
    return {};
  if (!x->ranked) return Fail(Code::kUnimplemented, "PRelu-6 of unknown rank");
  std::vector<int64_t> axes;
  for (int64_t i = 2; i < x->dims.rank(); ++i) axes.push_back(i - 1);
  if (!axes.empty())
    u.SetInput(1, TRY(u.Insert("Unsqueeze", {u.n.inputs[1], u.Const(Tensor::Ints(axes), "axes")},
                               {}, "aligned")));
  return {};
}

// Before opset 13 softmax worked on the 2-D matrix that flattening at `axis` gives.
Status SoftmaxOf2D(Upgrader& u) {
  if (u.opset >= 13) return {};
  const int64_t axis = u.Take<int64_t>("axis").value_or(1);
  const Type* x = u.InputType(0);
  if (x != nullptr && x->ranked) {
    const int64_t rank = x->dims.rank();
    const int64_t at = axis < 0 ? axis + rank : axis;
    const bool inner_ones = at >= 0 && std::all_of(x->dims.begin() + std::min(at + 1, rank),
                                                   x->dims.end(), [](int64_t d) { return d == 1; });
    if (at == rank - 1 || inner_ones) {
      u.n.attrs["axis"] = at;
      return {};
    }
  }
  const ValueId original = u.n.inputs[0];
  const ValueId shape = TRY(u.Insert("Shape", {original}, {}, "shape"));
  const ValueId flat = TRY(u.Insert("Flatten", {original}, {{"axis", axis}}, "flat"));
  const ValueId y = TRY(u.Insert(u.n.op, {flat}, {{"axis", int64_t{1}}}, "softmax"));
  u.n.op = "Reshape";
  u.n.inputs = {y, shape};
  return {};
}

Status Resize(Upgrader& u) {
  if (u.opset >= 11) return {};
  if (u.n.inputs.size() == 2) u.n.inputs = {u.n.inputs[0], ValueId::kNone, u.n.inputs[1]};
  u.n.attrs["coordinate_transformation_mode"] = std::string("asymmetric");
  u.n.attrs["nearest_mode"] = std::string("floor");
  return {};
}

Status Slice(Upgrader& u) {
  if (u.opset >= 10) return {};
  u.IntsToInput("starts", 1);
  u.IntsToInput("ends", 2);
  u.IntsToInput("axes", 3);
  return {};
}

Status Split(Upgrader& u) {
  if (u.opset < 13) u.IntsToInput("split", 1);
  // The first version also took the lengths as an input, of the data's type.
  if (const Type* lengths = u.InputType(1); u.opset < 2 && lengths != nullptr)
    u.SetInput(1, TRY(u.Insert("Cast", {u.n.inputs[1]}, {{"to", kInt64}}, "lengths")));
  if (u.opset < 18 && (u.n.inputs.size() < 2 || u.n.inputs[1] == ValueId::kNone))
    u.n.attrs["num_outputs"] = int64_t(u.n.outputs.size());
  return {};
}

Status BatchNormalization(Upgrader& u) {
  u.Drop({"is_test", "consumed_inputs"});
  // Inference form: the running statistics that old forms listed as outputs do not exist.
  const auto it = u.n.attrs.find("training_mode");
  const auto* training = it == u.n.attrs.end() ? nullptr : std::get_if<int64_t>(&it->second);
  if ((training == nullptr || *training == 0) && u.n.outputs.size() > 1) u.n.outputs.resize(1);
  if (u.Take<int64_t>("spatial").value_or(1) != 0) return {};
  // One mean and one factor per element, not per channel: elements become channels.
  const ValueId flat_shape = u.Const(Tensor::Ints(std::vector<int64_t>{0, -1}), "flat_shape");
  const ValueId vector_shape = u.Const(Tensor::Ints(std::vector<int64_t>{-1}), "vector_shape");
  std::vector<ValueId> inputs = {TRY(u.Insert("Reshape", {u.n.inputs[0], flat_shape}, {}, "flat"))};
  for (size_t i = 1; i < u.n.inputs.size(); ++i)
    inputs.push_back(TRY(
        u.Insert("Reshape", {u.n.inputs[i], vector_shape}, {}, fmt::format("parameter_{}", i))));
  const ValueId y = TRY(u.Insert("BatchNormalization", inputs, u.n.attrs, "normalised"));
  const ValueId shape = TRY(u.Insert("Shape", {u.n.inputs[0]}, {}, "shape"));
  u.n.op = "Reshape";
  u.n.attrs.clear();
  u.n.inputs = {y, shape};
  return {};
}

// [group, channels of a group], from x's channels and the number of groups.
Result<ValueId> GroupedChannels(Upgrader& u, int64_t groups) {
  const Type* x = u.InputType(0);
  if (x->ranked && x->dims.rank() >= 2 && IsKnown(x->dims[1]))
    return u.Const(Tensor::Ints(std::vector<int64_t>{groups, x->dims[1] / groups}), "wide");
  const ValueId channels = TRY(
      u.Insert("Shape", {u.n.inputs[0]}, {{"start", int64_t{1}}, {"end", int64_t{2}}}, "channels"));
  const ValueId count = u.Const(Tensor::Ints(std::vector<int64_t>{groups}), "groups");
  const ValueId each = TRY(u.Insert("Div", {channels, count}, {}, "per_group"));
  return u.Insert("Concat", {count, each}, {{"axis", int64_t{0}}}, "wide");
}

Status GroupNormalization(Upgrader& u) {
  if (u.opset >= 21) return {};
  // Until opset 21 scale and bias had one entry a group.
  const auto it = u.n.attrs.find("num_groups");
  const int64_t* groups = it == u.n.attrs.end() ? nullptr : std::get_if<int64_t>(&it->second);
  if (groups == nullptr || *groups <= 0)
    return Fail(Code::kInvalidArgument, "num_groups is missing or not positive");
  const ValueId wide_shape = TRY(GroupedChannels(u, *groups));
  const ValueId column_shape = u.Const(Tensor::Ints(std::vector<int64_t>{*groups, 1}), "column");
  const ValueId flat_shape = u.Const(Tensor::Ints(std::vector<int64_t>{-1}), "flat");
  for (const size_t i : {size_t(1), size_t(2)}) {
    if (u.InputType(i) == nullptr) continue;
    const std::string name = i == 1 ? "scale" : "bias";
    const ValueId column =
        TRY(u.Insert("Reshape", {u.n.inputs[i], column_shape}, {}, name + "_column"));
    const ValueId wide = TRY(u.Insert("Expand", {column, wide_shape}, {}, name + "_wide"));
    u.n.inputs[i] = TRY(u.Insert("Reshape", {wide, flat_shape}, {}, name));
  }
  return {};
}

Status Dropout(Upgrader& u) {
  u.Drop({"ratio", "is_test", "consumed_inputs"});
  if (u.opset < 12) u.n.inputs.resize(1);
  return {};
}

Status Pad(Upgrader& u) {
  if (u.opset >= 11) return {};
  u.IntsToInput(u.HasAttr("paddings") ? "paddings" : "pads", 1);
  return u.ScalarToInput("value", 2);
}

Status Clip(Upgrader& u) {
  u.Drop({"consumed_inputs"});
  if (u.opset >= 11) return {};
  TRY(u.ScalarToInput("min", 1));
  return u.ScalarToInput("max", 2);
}

Status Reduce(Upgrader& u, int axes_became_input) {
  if (u.opset < axes_became_input) u.IntsToInput("axes", 1);
  return {};
}

Status GridSample(Upgrader& u) {
  if (u.opset >= 20) return {};
  if (const auto it = u.n.attrs.find("mode"); it != u.n.attrs.end())
    if (auto* mode = std::get_if<std::string>(&it->second))
      *mode = *mode == "bilinear" ? "linear" : *mode == "bicubic" ? "cubic" : *mode;
  return {};
}

Status Dft(Upgrader& u) {
  if (u.opset >= 20) return {};
  const int64_t axis = u.Take<int64_t>("axis").value_or(1);
  if (u.n.inputs.size() < 2) u.n.inputs.resize(2, ValueId::kNone);
  u.SetInput(2, u.Const(Tensor::Scalar<int64_t>(axis), "axis"));
  return {};
}

// Cast and friends spelled the type as a string before opset 6.
Status Cast(Upgrader& u) {
  const auto it = u.n.attrs.find("to");
  const auto* name = it == u.n.attrs.end() ? nullptr : std::get_if<std::string>(&it->second);
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

RuleTable MakeRules() {
  RuleTable r;
  const Rule broadcast = [](Upgrader& u) {
    u.Drop({"consumed_inputs"});
    return Broadcast(u);
  };
  for (const auto op :
       {"Add", "Sub", "Mul", "Div", "Pow", "And", "Or", "Xor", "Equal", "Greater", "Less"})
    r[op] = broadcast;
  const Rule softmax = SoftmaxOf2D;
  for (const auto op : {"Softmax", "LogSoftmax", "Hardmax"}) r[op] = softmax;
  const Rule reduce = [](Upgrader& u) { return Reduce(u, 18); };
  for (const auto op : {"ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1",
                        "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare"})
    r[op] = reduce;
  r["ReduceSum"] = [](Upgrader& u) { return Reduce(u, 13); };
  const Rule axes = [](Upgrader& u) -> Status {
    if (u.opset < 13) u.IntsToInput("axes", 1);
    return {};
  };
  for (const auto op : {"Squeeze", "Unsqueeze"}) r[op] = axes;
  r["PRelu"] = PRelu;
  r["Resize"] = Resize;
  r["Slice"] = Slice;
  r["Split"] = Split;
  r["BatchNormalization"] = BatchNormalization;
  r["GroupNormalization"] = GroupNormalization;
  r["Dropout"] = Dropout;
  r["Pad"] = Pad;
  r["Clip"] = Clip;
  r["GridSample"] = GridSample;
  r["DFT"] = Dft;
  r["RoiAlign"] = [](Upgrader& u) -> Status {
    if (u.opset < 16)
      u.n.attrs["coordinate_transformation_mode"] = std::string("output_half_pixel");
    return {};
  };
  r["Cast"] = Cast;
  r["TopK"] = [](Upgrader& u) -> Status {
    if (u.opset < 10) u.IntsToInput("k", 1);
    return {};
  };
  r["Gemm"] = [](Upgrader& u) -> Status {
    if (u.opset < 7) u.Drop({"broadcast"});
    return {};
  };
  r["Scatter"] = [](Upgrader& u) -> Status {
    u.n.op = "ScatterElements";
    return {};
  };
  r["Reshape"] = [](Upgrader& u) -> Status {
    if (u.opset < 5) u.IntsToInput("shape", 1);
    return {};
  };
  const Rule consumed = [](Upgrader& u) -> Status {
    u.Drop({"consumed_inputs"});
    return {};
  };
  for (const auto op : {"Relu",       "Sigmoid",   "Tanh", "Exp",         "Log",
                        "Sqrt",       "Abs",       "Neg",  "Ceil",        "Floor",
                        "Reciprocal", "LeakyRelu", "Elu",  "Selu",        "Max",
                        "Min",        "Sum",       "Mean", "HardSigmoid", "InstanceNormalization"})
    r[op] = consumed;
  AddOldRules(r);
  return r;
}

// In this domain the inputs that an operator needs come first, and of a list none may be missing;
// nothing later looks whether one is left out.
Status CheckRequired(const RawNode& n) {
  const OpDef* op = FindOp(n.op, n.domain);
  if (op == nullptr) return {};
  const bool list = op->max_inputs < 0 && op->subgraphs == 0;
  for (size_t i = 0; i < n.inputs.size() && (list || int(i) < op->min_inputs); ++i)
    if (n.inputs[i] == ValueId::kNone)
      return Fail(Code::kInvalidArgument, "input {} is left out, {} needs it", i, n.op);
  return {};
}

}  // namespace

Status Upgrade(RawNode& node, int opset, Graph& graph) {
  if (const RewriteRule* rule = FindRewrite(node.op, node.domain))
    return Expand(*rule, node, opset, graph);
  if (!node.domain.empty()) return {};
  const bool first_is_optional = node.op == "Scan" && opset < 9;
  if (!first_is_optional) TRY(CheckRequired(node));
  static const RuleTable rules = MakeRules();
  const auto it = rules.find(node.op);
  if (it == rules.end() || node.inputs.empty()) return {};
  if (node.inputs[0] == ValueId::kNone && !first_is_optional)
    return Fail(Code::kInvalidArgument, "input 0 is left out, {} needs it", node.op);
  Upgrader u{node, opset, graph};
  TRY(it->second(u));
  return CheckRequired(node);
}

std::string_view InternalName(std::string_view op) {
  if (op == "Upsample") return "Resize";
  if (op == "Scatter") return "ScatterElements";
  const std::string_view replacement = ReplacementOf(op);
  return replacement.empty() ? op : replacement;
}

bool IsKnownOperator(std::string_view op, std::string_view domain) {
  return FindOp(InternalName(op), domain) != nullptr || FindRewrite(op, domain) != nullptr;
}

}  // namespace dunlin::onnx_import
