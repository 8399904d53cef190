// From the internal form (that of opset 21 and later) to the form of an older opset: the inverse of
// upgrade.cc. What older forms cannot say is refused with the smallest opset that can.
#include <algorithm>
#include <limits>

#include "formats/onnx/export_graph.h"

namespace dunlin::onnx_export {

void NodeForm::Need(int least, std::string what) { writer.Refuse(node, least, std::move(what)); }

const Type* NodeForm::InputType(size_t i) const {
  return i < n.inputs.size() && n.inputs[i].value != ValueId::kNone
             ? &g.value(n.inputs[i].value).type
             : nullptr;
}
const Tensor* NodeForm::Constant(size_t i) const {
  if (i >= n.inputs.size() || n.inputs[i].value == ValueId::kNone) return nullptr;
  const GraphValue& v = g.value(n.inputs[i].value);
  return v.is_constant() ? &v.constant : nullptr;
}
int NodeForm::Rank(size_t input) const {
  const Type* t = InputType(input);
  return t != nullptr && t->ranked ? t->dims.rank() : -1;
}
Operand NodeForm::Insert(std::string_view op, std::vector<Operand> inputs, AttrMap attrs,
                         std::string_view what) {
  return writer.InsertNode(n, op, std::move(inputs), std::move(attrs), what);
}
Operand NodeForm::Const(Tensor t, std::string_view what) {
  return writer.NewConstant(n, std::move(t), what);
}

namespace {

// ---- attributes that came later ----

struct LaterAttr {
  std::string_view op, attr;
  int since;
};
// An attribute that is written differs from its default, so an opset without it cannot say it.
constexpr LaterAttr kLaterAttrs[] = {
    {"ArgMax", "select_last_index", 12},
    {"ArgMin", "select_last_index", 12},
    {"AveragePool", "ceil_mode", 10},
    {"AveragePool", "dilations", 19},
    {"BatchNormalization", "training_mode", 14},
    {"Cast", "round_mode", 24},
    {"Cast", "saturate", 19},
    {"CastLike", "round_mode", 24},
    {"CastLike", "saturate", 19},
    {"DepthToSpace", "mode", 11},
    {"DequantizeLinear", "block_size", 21},
    {"DequantizeLinear", "output_dtype", 23},
    {"Dropout", "seed", 12},
    {"GRU", "layout", 14},
    {"GatherND", "batch_dims", 12},
    {"GroupNormalization", "stash_type", 21},
    {"LSTM", "layout", 14},
    {"LpPool", "ceil_mode", 18},
    {"LpPool", "dilations", 18},
    {"MaxPool", "ceil_mode", 10},
    {"MaxPool", "dilations", 10},
    {"MaxPool", "storage_order", 8},
    {"QuantizeLinear", "block_size", 21},
    {"QuantizeLinear", "output_dtype", 21},
    {"QuantizeLinear", "precision", 23},
    {"QuantizeLinear", "saturate", 19},
    {"RNN", "layout", 14},
    {"ReduceSum", "noop_with_empty_axes", 13},
    {"Resize", "antialias", 18},
    {"Resize", "axes", 18},
    {"Resize", "cubic_coeff_a", 11},
    {"Resize", "exclude_outside", 11},
    {"Resize", "extrapolation_value", 11},
    {"Resize", "keep_aspect_ratio_policy", 18},
    {"ScatterElements", "reduction", 16},
    {"ScatterND", "reduction", 16},
    {"TopK", "largest", 11},
    {"TopK", "sorted", 11},
};

// ---- helpers of the rules ----

template <class T>
const T* Attr(const NodeForm& f, std::string_view name) {
  const auto it = f.n.attrs.find(name);
  return it == f.n.attrs.end() ? nullptr : std::get_if<T>(&it->second);
}
int64_t IntOr(const NodeForm& f, std::string_view name, int64_t otherwise) {
  const int64_t* v = Attr<int64_t>(f, name);
  return v != nullptr ? *v : otherwise;
}
std::string TextOr(const NodeForm& f, std::string_view name, std::string_view otherwise) {
  const std::string* v = Attr<std::string>(f, name);
  return v != nullptr ? *v : std::string(otherwise);
}
void Drop(NodeForm& f, std::string_view name) {
  const auto it = f.n.attrs.find(name);
  if (it != f.n.attrs.end()) f.n.attrs.erase(it);
}
bool Given(const NodeForm& f, size_t i) { return i < f.n.inputs.size() && f.n.inputs[i].present(); }
void ClearInput(NodeForm& f, size_t i) {
  if (i < f.n.inputs.size()) f.n.inputs[i] = {};
}

// The integers of a constant input. Not constant: needs the opset that took them as an input.
std::optional<std::vector<int64_t>> InputInts(NodeForm& f, size_t input, int since,
                                              std::string_view what) {
  const Tensor* t = f.Constant(input);
  if (t != nullptr)
    if (auto v = ToInts(*t)) return std::move(*v);
  f.Need(since, fmt::format("{} that are computed", what));
  return std::nullopt;
}

// Before opset 11 axes count from the front.
bool FromFront(NodeForm& f, std::vector<int64_t>& axes, int rank) {
  if (f.opset >= 11) return true;
  for (int64_t& a : axes)
    if (a < 0) {
      if (rank < 0) return f.Need(11, "negative axes of a tensor of unknown rank"), false;
      a += rank;
    }
  return true;
}

// An input that was an attribute before `since`.
void IntsToAttr(NodeForm& f, size_t input, std::string_view attr, int since, int rank_for_axes) {
  if (f.opset >= since || !Given(f, input)) return;
  auto v = InputInts(f, input, since, attr);
  if (!v || (rank_for_axes != 0 && !FromFront(f, *v, rank_for_axes))) return;
  f.n.attrs[std::string(attr)] = std::move(*v);
  ClearInput(f, input);
}

// A scalar input that was a float attribute; false: it cannot be one.
bool ScalarToAttr(NodeForm& f, size_t input, std::string_view attr, int since) {
  if (!Given(f, input)) return true;
  const Tensor* t = f.Constant(input);
  if (t == nullptr || t->count() != 1)
    return f.Need(since, fmt::format("'{}' that is computed", attr)), false;
  const auto wide = Convert(*t, DType::kF64);
  if (!wide || double(float(wide->as<double>()[0])) != wide->as<double>()[0])
    return f.Need(since, fmt::format("'{}' that is no float", attr)), false;
  f.n.attrs[std::string(attr)] = float(wide->as<double>()[0]);
  ClearInput(f, input);
  return true;
}

// ---- rules ----

void Axes13(NodeForm& f) {
  int rank = f.Rank(0);
  const Tensor* axes = f.Constant(1);
  if (f.n.op == "Unsqueeze" && rank >= 0 && axes != nullptr) rank += int(axes->count());
  IntsToAttr(f, 1, "axes", 13, rank == 0 ? -1 : rank);
}

void Reduce(NodeForm& f) {
  const int since = f.n.op == "ReduceSum" ? 13 : 18;
  if (f.opset >= since) return;
  if (IntOr(f, "noop_with_empty_axes", 0) != 0) {
    const Tensor* axes = f.Constant(1);
    if (axes == nullptr || axes->count() == 0)
      return f.Need(since, "attribute 'noop_with_empty_axes'");
    Drop(f, "noop_with_empty_axes");
  }
  const Tensor* axes = f.Constant(1);
  if (axes != nullptr && axes->count() == 0) return ClearInput(f, 1);  // all of them
  const int rank = f.Rank(0);
  IntsToAttr(f, 1, "axes", since, rank == 0 ? -1 : rank);
}

// Before opset 13 these worked on the matrix that flattening at `axis` gives, so that the axis has
// to be the last one.
void Softmax(NodeForm& f) {
  if (f.opset >= 13) return;
  const int rank = f.Rank(0);
  int64_t axis = IntOr(f, "axis", -1);
  if (rank < 0) {
    if (axis == -1 && f.opset >= 11) {
      f.n.attrs["axis"] = axis;
      return;
    }
    return f.Need(13, "a tensor of unknown rank");
  }
  if (axis < 0) axis += rank;
  const Dims& dims = f.InputType(0)->dims;
  const bool last =
      axis == rank - 1 || std::all_of(dims.begin() + std::min<int64_t>(axis + 1, rank), dims.end(),
                                      [](int64_t d) { return d == 1; });
  if (rank == 0 || last) {
    f.n.attrs["axis"] = axis;
    return;
  }
  std::vector<int64_t> perm(static_cast<size_t>(rank));
  for (int i = 0; i < rank; ++i) perm[size_t(i)] = i;
  std::swap(perm[size_t(axis)], perm.back());
  const Operand turned = f.Insert("Transpose", {f.n.inputs[0]}, {{"perm", perm}}, "turned");
  const Operand y = f.Insert(f.n.op, {turned}, {{"axis", int64_t{rank - 1}}}, "last_axis");
  f.n.op = "Transpose";
  f.n.attrs = {{"perm", perm}};
  f.n.inputs = {y};
}

void Split(NodeForm& f) {
  const int64_t outputs = int64_t(f.n.outputs.size());
  if (f.opset >= 18) {
    // One of the two, not both.
    if (Given(f, 1))
      Drop(f, "num_outputs");
    else
      f.n.attrs["num_outputs"] = IntOr(f, "num_outputs", outputs);
    return;
  }
  Drop(f, "num_outputs");
  if (!Given(f, 1)) {
    const int rank = f.Rank(0);
    int64_t axis = IntOr(f, "axis", 0);
    if (axis < 0) axis += std::max(rank, 0);
    const int64_t extent =
        axis >= 0 && axis < rank ? f.InputType(0)->dims[size_t(axis)] : kUnknownDim;
    // Equal parts; the smaller last one came with opset 18.
    if (IsKnown(extent) ? extent % outputs == 0 : f.source_opset < 18) return;
    if (!IsKnown(extent)) return f.Need(18, "parts of an extent that is not known");
    const int64_t part = (extent + outputs - 1) / outputs;
    std::vector<int64_t> parts(static_cast<size_t>(outputs), part);
    parts.back() = extent - part * (outputs - 1);
    if (f.opset < 13)
      f.n.attrs["split"] = parts;
    else
      f.n.inputs = {f.n.inputs[0], f.Const(Tensor::Ints(parts), "split")};
    return;
  }
  IntsToAttr(f, 1, "split", 13, 0);
}

void TopK(NodeForm& f) {
  if (f.opset >= 10 || !Given(f, 1)) return;
  if (const auto k = InputInts(f, 1, 10, "k")) {
    if (k->size() != 1) return f.Need(10, "'k'");
    f.n.attrs["k"] = (*k)[0];
    ClearInput(f, 1);
  }
}

void Slice(NodeForm& f) {
  if (f.opset >= 10) return;
  const Tensor* steps = f.Constant(4);
  if (Given(f, 4)) {
    const auto v = steps != nullptr ? ToInts(*steps) : Result<std::vector<int64_t>>();
    if (steps == nullptr || !v ||
        std::any_of(v->begin(), v->end(), [](int64_t s) { return s != 1; }))
      return f.Need(10, "steps");
    ClearInput(f, 4);
  }
  IntsToAttr(f, 1, "starts", 10, 0);
  IntsToAttr(f, 2, "ends", 10, 0);
  const int rank = f.Rank(0);
  IntsToAttr(f, 3, "axes", 10, rank == 0 ? -1 : rank);
}

void Pad(NodeForm& f) {
  if (TextOr(f, "mode", "constant") == "wrap" && f.opset < 19) return f.Need(19, "mode 'wrap'");
  if (f.opset < 18 && Given(f, 3)) {  // axes: pads of all extents instead
    auto pads = InputInts(f, 1, 18, "pads beside axes");
    auto axes = InputInts(f, 3, 18, "axes");
    const int rank = f.Rank(0);
    if (!pads || !axes) return;
    if (rank < 0 || pads->size() != 2 * axes->size()) return f.Need(18, "input 'axes'");
    std::vector<int64_t> all(size_t(rank) * 2, 0);
    for (size_t i = 0; i < axes->size(); ++i) {
      const int64_t a = (*axes)[i] < 0 ? (*axes)[i] + rank : (*axes)[i];
      if (a < 0 || a >= rank) return f.Need(18, "input 'axes'");
      all[size_t(a)] = (*pads)[i];
      all[size_t(a + rank)] = (*pads)[i + axes->size()];
    }
    ClearInput(f, 3);
    if (f.opset >= 11) {
      f.n.inputs[1] = f.Const(Tensor::Ints(all), "pads");
      return;
    }
    f.n.attrs["pads"] = all;
    ClearInput(f, 1);
  }
  if (f.opset >= 11) return;
  IntsToAttr(f, 1, "pads", 11, 0);
  ScalarToAttr(f, 2, "value", 11);
}

void Clip(NodeForm& f) {
  if (f.opset >= 11) return;
  if (ScalarToAttr(f, 1, "min", 11)) ScalarToAttr(f, 2, "max", 11);
}

// Before opset 11: nearest and linear with factors, no sizes; before 10 it was called Upsample.
void OldResize(NodeForm& f) {
  const std::string mode = TextOr(f, "mode", "nearest");
  if (mode == "cubic" ||
      TextOr(f, "coordinate_transformation_mode", "half_pixel") != "asymmetric" ||
      (mode == "nearest" && TextOr(f, "nearest_mode", "round_prefer_floor") != "floor") ||
      Given(f, 3) || !Given(f, 2))
    return f.Need(11, "this way of resizing");
  Drop(f, "coordinate_transformation_mode");
  Drop(f, "nearest_mode");
  f.n.inputs = {f.n.inputs[0], f.n.inputs[2]};
  if (f.opset == 10) return;
  f.n.op = "Upsample";
  const Tensor* scales = f.Constant(1);
  if (scales != nullptr && scales->dtype() == DType::kF32) {
    const auto s = scales->values<float>();
    if (std::any_of(s.begin(), s.end(), [](float x) { return x < 1; }))
      return f.Need(10, "factors below 1");
    if (f.opset >= 9) return;
    f.n.attrs["scales"] = std::vector<float>(s.begin(), s.end());
    f.n.inputs.pop_back();
  } else if (f.opset < 9) {
    f.Need(9, "factors that are computed");
  }
}

void Resize(NodeForm& f) {
  const std::string coordinates = TextOr(f, "coordinate_transformation_mode", "half_pixel");
  if (coordinates == "half_pixel_symmetric" && f.opset < 19)
    return f.Need(19, "half_pixel_symmetric");
  if (f.opset < 11) return OldResize(f);
  if (f.opset >= 13) return;
  const auto empty = [&](std::string_view what) {
    return f.Const(Tensor::Of<float>(Dims{0}, std::span<const float>()), what);
  };
  if (f.n.inputs.size() < 3) f.n.inputs.resize(3);
  if (!f.n.inputs[1].present()) f.n.inputs[1] = empty("roi");
  if (!f.n.inputs[2].present()) f.n.inputs[2] = empty("scales");
}

void Dropout(NodeForm& f) {
  if (f.opset >= 12) return;
  // What the mask holds when nothing is dropped was not said before.
  if (f.n.outputs.size() > 1) return f.Need(12, "output 'mask'");
  const Tensor* training = f.Constant(2);
  if (Given(f, 2) && (training == nullptr || training->dtype() != DType::kBool ||
                      training->count() != 1 || training->as<bool>()[0]))
    return f.Need(12, "input 'training_mode'");
  ClearInput(f, 2);
  ScalarToAttr(f, 1, "ratio", 12);
}

void GridSample(NodeForm& f) {
  if (f.opset >= 20) return;
  if (const int rank = f.Rank(0); rank >= 0 && rank != 4)
    return f.Need(20, fmt::format("a tensor of rank {}", rank));
  const std::string mode = TextOr(f, "mode", "linear");
  if (mode == "linear") Drop(f, "mode");  // the default, under the name 'bilinear'
  if (mode == "cubic") f.n.attrs["mode"] = std::string("bicubic");
}

void Dft(NodeForm& f) {
  if (f.opset >= 20) return;
  const int rank = f.Rank(0);
  if (!Given(f, 2)) {
    if (rank < 0) return f.Need(20, "a tensor of unknown rank");
    f.n.attrs["axis"] = int64_t{rank - 2};
    return;
  }
  const auto axis = InputInts(f, 2, 20, "axis");
  if (!axis || axis->size() != 1) return;
  f.n.attrs["axis"] = (*axis)[0];
  ClearInput(f, 2);
}

// One axis per tensor and no blocks before opset 13; there the axis has no meaning for a scalar.
void Quantize(NodeForm& f) {
  const Type* scale = f.InputType(1);
  const bool scalar = scale != nullptr && scale->ranked && scale->dims.empty();
  if (scalar) Drop(f, "axis");
  if (f.opset >= 13) return;
  if (!scalar && !(f.Constant(1) != nullptr && f.Constant(1)->count() == 1))
    return f.Need(13, "a scale for each channel");
  if (!scalar) {  // one element in a vector
    f.n.inputs[1] = f.Const(f.Constant(1)->Reshaped({}), "scale");
    const Tensor* zero = f.Constant(2);
    if (Given(f, 2) && (zero == nullptr || zero->count() != 1))
      return f.Need(13, "a zero point vector");
    if (zero != nullptr) f.n.inputs[2] = f.Const(zero->Reshaped({}), "zero_point");
  }
  Drop(f, "axis");
}

void RoiAlign(NodeForm& f) {
  if (f.opset >= 16) return;
  if (TextOr(f, "coordinate_transformation_mode", "half_pixel") != "output_half_pixel")
    return f.Need(16, "coordinate_transformation_mode 'half_pixel'");
  Drop(f, "coordinate_transformation_mode");
}

void Reshape(NodeForm& f) {
  if (f.opset >= 14 || IntOr(f, "allowzero", 0) == 0) return;
  const Tensor* shape = f.Constant(1);
  const auto v = shape != nullptr ? ToInts(*shape) : Result<std::vector<int64_t>>();
  if (shape == nullptr || !v || std::find(v->begin(), v->end(), 0) != v->end())
    return f.Need(14, "attribute 'allowzero'");
  Drop(f, "allowzero");
}

void Scatter(NodeForm& f) {
  const std::string reduction = TextOr(f, "reduction", "none");
  if ((reduction == "max" || reduction == "min") && f.opset < 18)
    return f.Need(18, fmt::format("reduction '{}'", reduction));
  if (f.n.op == "ScatterElements" && f.opset < 11) f.n.op = "Scatter";
}

void Gemm(NodeForm& f) {
  if (f.opset >= 11 || Given(f, 2)) return;
  const Type* t = f.InputType(0);
  const auto zero = Tensor::Zeros(t != nullptr ? t->dtype : DType::kUndefined, Dims{1});
  if (t == nullptr || t->dtype == DType::kUndefined || !zero) return f.Need(11, "no third input");
  f.n.inputs.resize(2);
  f.n.inputs.push_back(f.Const(*zero, "zero"));
}

void Identity(NodeForm& f) {
  const Type* t = f.InputType(0);
  if (t == nullptr) return;
  if (t->kind == Type::Kind::kSequence && f.opset < 14) f.Need(14, "a sequence");
  if (t->kind == Type::Kind::kOptional && f.opset < 16) f.Need(16, "an optional");
}

void Pow(NodeForm& f) {
  const Type* a = f.InputType(0);
  const Type* b = f.InputType(1);
  if (f.opset >= 12 || a == nullptr || b == nullptr || a->dtype == b->dtype) return;
  if (a->dtype == DType::kUndefined) return f.Need(12, "operands of unknown types");
  f.n.inputs[1] =
      f.Insert("Cast", {f.n.inputs[1]}, {{"to", int64_t{OnnxDType(a->dtype)}}}, "exponent");
}

void MaxPool(NodeForm& f) {
  if (f.opset < 8 && f.n.outputs.size() > 1) f.Need(8, "output 'Indices'");
}

void Variadic(NodeForm& f) {
  if (f.opset >= 8) return;
  const Type* first = f.InputType(0);
  for (size_t i = 1; i < f.n.inputs.size(); ++i)
    if (const Type* t = f.InputType(i);
        first == nullptr || t == nullptr || !t->ranked || !(t->dims == first->dims))
      return f.Need(8, "operands of different extents");
}

void OptionalElement(NodeForm& f) {
  const Type* t = f.InputType(0);
  if (f.opset < 18 && (t == nullptr || t->kind != Type::Kind::kOptional))
    f.Need(18, "an input that is no optional");
}

// Before opset 11 the axis counts from the front.
void NegativeAxis(NodeForm& f) {
  const int64_t* axis = Attr<int64_t>(f, "axis");
  if (f.opset >= 11 || axis == nullptr || *axis >= 0) return;
  int rank = f.Rank(0);
  if (rank < 0) return;  // other engines take it as it is, if it was written so
  if (f.n.op == "OneHot") ++rank;
  f.n.attrs["axis"] = *axis + rank;
}

struct FormRule {
  std::string_view op;
  void (*rule)(NodeForm&);
};
constexpr FormRule kFormRules[] = {
    {"Squeeze", Axes13},
    {"Unsqueeze", Axes13},
    {"ReduceL1", Reduce},
    {"ReduceL2", Reduce},
    {"ReduceLogSum", Reduce},
    {"ReduceLogSumExp", Reduce},
    {"ReduceMax", Reduce},
    {"ReduceMean", Reduce},
    {"ReduceMin", Reduce},
    {"ReduceProd", Reduce},
    {"ReduceSum", Reduce},
    {"ReduceSumSquare", Reduce},
    {"Softmax", Softmax},
    {"LogSoftmax", Softmax},
    {"Hardmax", Softmax},
    {"Split", Split},
    {"TopK", TopK},
    {"Slice", Slice},
    {"Pad", Pad},
    {"Clip", Clip},
    {"Resize", Resize},
    {"Dropout", Dropout},
    {"GridSample", GridSample},
    {"DFT", Dft},
    {"QuantizeLinear", Quantize},
    {"DequantizeLinear", Quantize},
    {"RoiAlign", RoiAlign},
    {"Reshape", Reshape},
    {"ScatterElements", Scatter},
    {"ScatterND", Scatter},
    {"Gemm", Gemm},
    {"Identity", Identity},
    {"MaxPool", MaxPool},
    {"Pow", Pow},
    {"Sum", Variadic},
    {"Mean", Variadic},
    {"Max", Variadic},
    {"Min", Variadic},
    {"OptionalGetElement", OptionalElement},
    {"OptionalHasElement", OptionalElement},
};

}  // namespace

void ToOpset(NodeForm& f) {
  if (f.n.op == kBatchScan) {
    f.n.op = "Scan";
    f.n.domain.clear();
    return;
  }
  if (!f.n.domain.empty()) return;
  CheckTypes(f);
  NegativeAxis(f);
  const std::string op = f.n.op;  // a rule may change it
  for (const FormRule& r : kFormRules)
    if (r.op == op) r.rule(f);
  for (const LaterAttr& a : kLaterAttrs)
    if (a.op == op && f.opset < a.since && f.n.op == op && f.n.attrs.contains(a.attr))
      f.Need(a.since, fmt::format("attribute '{}'", a.attr));
}

}  // namespace dunlin::onnx_export
