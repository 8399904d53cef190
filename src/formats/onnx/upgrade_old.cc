// Forms of opset 8 and before, and experimental operators that exporters of those days wrote.
#include <cmath>

#include "formats/onnx/upgrader.h"

namespace dunlin::onnx_import {
namespace {

Tensor Floats(std::initializer_list<float> v) {
  return Tensor::Of<float>(Dims{int64_t(v.size())}, std::span<const float>(v.begin(), v.size()));
}

// A scalar of the type of input 0.
Result<ValueId> Scalar(Upgrader& u, float v, std::string_view what) {
  const Type* t = u.InputType(0);
  const DType dtype = t != nullptr && t->dtype != DType::kUndefined ? t->dtype : DType::kF32;
  return u.Const(TRY(Convert(Tensor::Scalar<float>(v), dtype)), what);
}

Status Upsample(Upgrader& u) {
  u.n.op = "Resize";
  if (const auto scales = u.Take<std::vector<float>>("scales")) {
    u.SetInput(2, u.Const(Tensor::Of<float>(Dims{int64_t(scales->size())},
                                            std::span<const float>(*scales)),
                          "scales"));
  } else if (u.n.inputs.size() == 2) {
    u.n.inputs = {u.n.inputs[0], ValueId::kNone, u.n.inputs[1]};
  } else if (u.HasAttr("height_scale") || u.HasAttr("width_scale")) {
    const float height = u.Take<float>("height_scale").value_or(1);
    const float width = u.Take<float>("width_scale").value_or(1);
    u.SetInput(2, u.Const(Floats({1, 1, height, width}), "scales"));
  }
  const auto mode = u.Take<std::string>("mode").value_or("nearest");
  u.n.attrs["mode"] = mode == "bilinear" ? std::string("linear") : mode;
  u.n.attrs["coordinate_transformation_mode"] = std::string("asymmetric");
  u.n.attrs["nearest_mode"] = std::string("floor");
  return {};
}

// The first Tile repeated one axis: inputs data, tiles, axis.
Status Tile(Upgrader& u) {
  if (u.opset >= 6) return {};
  const Type* x = u.InputType(0);
  const auto scalar = [&](size_t i) -> Result<int64_t> {
    const GraphValue* v = i < u.n.inputs.size() && u.n.inputs[i] != ValueId::kNone
                              ? &u.g.value(u.n.inputs[i])
                              : nullptr;
    if (v == nullptr || !v->is_constant() || v->constant.count() != 1)
      return Fail(Code::kUnimplemented,
                  "Tile of opset {} needs constant tiles and axis: save the model with opset 6 or "
                  "later",
                  u.opset);
    const Tensor whole = TRY(Convert(v->constant, DType::kI64));
    return whole.as<int64_t>()[0];
  };
  const int64_t tiles = TRY(scalar(1)), axis = TRY(scalar(2));
  if (!x->ranked || axis < 0 || axis >= x->dims.rank())
    return Fail(Code::kInvalidArgument, "axis {} of a value {}", axis, ToString(*x));
  std::vector<int64_t> repeats(x->dims.size(), 1);
  repeats[size_t(axis)] = tiles;
  u.n.inputs = {u.n.inputs[0], u.Const(Tensor::Ints(repeats), "repeats")};
  return {};
}

// Scan-8 runs its body for every item of a batch, each with a length of its own.
Status Scan(Upgrader& u) {
  if (u.opset >= 9) return {};
  u.n.op = "BatchScan";
  u.n.domain = "dunlin";
  return {};
}

// The order of a norm was a float at first.
Status FloatNorm(Upgrader& u) {
  const auto p = u.Take<float>("p");
  if (!p) return {};
  if (*p != std::floor(*p) || std::fabs(*p) > 1e6f)
    return Fail(Code::kUnimplemented, "a norm of order {}: whole numbers are supported", *p);
  u.n.attrs["p"] = int64_t(*p);
  return {};
}

Status Rnn(Upgrader& u) {
  u.Drop({"output_sequence"});  // an output that nobody names is not made anyway
  return {};
}

// ---- experimental operators ----

// y = alpha * x + beta
Status Affine(Upgrader& u) {
  const ValueId alpha = TRY(Scalar(u, u.Take<float>("alpha").value_or(1), "alpha"));
  const ValueId beta = TRY(Scalar(u, u.Take<float>("beta").value_or(0), "beta"));
  const ValueId scaled = TRY(u.Insert("Mul", {u.n.inputs[0], alpha}, {}, "scaled"));
  u.n.op = "Add";
  u.n.inputs = {scaled, beta};
  return {};
}

// y = alpha * f(beta * x)
Status Scaled(Upgrader& u, std::string_view f) {
  const ValueId alpha = TRY(Scalar(u, u.Take<float>("alpha").value_or(1), "alpha"));
  const ValueId beta = TRY(Scalar(u, u.Take<float>("beta").value_or(1), "beta"));
  const ValueId inner = TRY(u.Insert("Mul", {u.n.inputs[0], beta}, {}, "inner"));
  const ValueId y = TRY(u.Insert(f, {inner}, {}, "outer"));
  u.n.op = "Mul";
  u.n.inputs = {y, alpha};
  return {};
}

// y[n, c, h, w] = scale * x[n, c, h, w] + bias[c]
Status ImageScaler(Upgrader& u) {
  const auto bias = u.Take<std::vector<float>>("bias").value_or(std::vector<float>{0});
  const ValueId scale = TRY(Scalar(u, u.Take<float>("scale").value_or(1), "scale"));
  const ValueId scaled = TRY(u.Insert("Mul", {u.n.inputs[0], scale}, {}, "scaled"));
  const DType dtype = u.InputType(0)->dtype;
  const Tensor column =
      Tensor::Of<float>(Dims{int64_t(bias.size()), 1, 1}, std::span<const float>(bias));
  u.n.op = "Add";
  u.n.inputs = {
      scaled,
      u.Const(TRY(Convert(column, dtype == DType::kUndefined ? DType::kF32 : dtype)), "bias")};
  return {};
}

// y = scale * x
Status Scale(Upgrader& u) {
  const ValueId scale = TRY(Scalar(u, u.Take<float>("scale").value_or(1), "scale"));
  u.n.op = "Mul";
  u.n.inputs = {u.n.inputs[0], scale};
  return {};
}

// Pictures without a border [left, top, right, bottom], or the part of extents `scale` behind left
// and top.
Status Crop(Upgrader& u) {
  const auto border = u.Take<std::vector<int64_t>>("border").value_or(std::vector<int64_t>{});
  const auto scale = u.Take<std::vector<int64_t>>("scale").value_or(std::vector<int64_t>{});
  if (border.size() != 4 || (!scale.empty() && scale.size() != 2))
    return Fail(Code::kInvalidArgument, "border has {} entries and scale {}, not 4 and 2 or none",
                border.size(), scale.size());
  for (const auto* list : {&border, &scale})
    for (const int64_t v : *list)
      if (v < 0 || v > INT32_MAX) return Fail(Code::kInvalidArgument, "an entry is {}", v);
  const int64_t left = border[0], top = border[1];
  std::vector<int64_t> ends = {border[3] == 0 ? INT64_MAX : -border[3],
                               border[2] == 0 ? INT64_MAX : -border[2]};
  if (!scale.empty()) ends = {top + scale[0], left + scale[1]};
  u.n.op = "Slice";
  u.n.inputs = {u.n.inputs[0], u.Const(Tensor::Ints(std::vector<int64_t>{top, left}), "starts"),
                u.Const(Tensor::Ints(ends), "ends"),
                u.Const(Tensor::Ints(std::vector<int64_t>{2, 3}), "axes")};
  return {};
}

// Until opset 9 an experimental form named what is normalised by flags: each channel by itself, or
// all of them together, of all images in either case.
Status MeanVarianceNormalization(Upgrader& u) {
  if (u.opset >= 9) return {};
  const std::vector<int64_t> axes = u.Take<int64_t>("across_channels").value_or(0) != 0
                                        ? std::vector<int64_t>{0, 1, 2, 3}
                                        : std::vector<int64_t>{0, 2, 3};
  if (u.Take<int64_t>("normalize_variance").value_or(1) != 0) {
    u.n.attrs["axes"] = axes;
    return {};
  }
  const ValueId mean =
      TRY(u.Insert("ReduceMean", {u.n.inputs[0], u.Const(Tensor::Ints(axes), "axes")}, {}, "mean"));
  u.n.op = "Sub";
  u.n.inputs = {u.n.inputs[0], mean};
  return {};
}

struct Replacement {
  std::string_view op, by;
  Rule rule;
};
constexpr Replacement kReplacements[] = {
    {"Affine", "Add", Affine},
    {"ParametricSoftplus", "Softplus", [](Upgrader& u) { return Scaled(u, "Softplus"); }},
    {"ScaledTanh", "Tanh", [](Upgrader& u) { return Scaled(u, "Tanh"); }},
    {"ImageScaler", "Add", ImageScaler},
    {"Scale", "Mul", Scale},
    {"Crop", "Slice", Crop},
    {"DynamicSlice", "Slice",
     [](Upgrader& u) -> Status {
       u.n.op = "Slice";
       return {};
     }},
};

}  // namespace

void AddOldRules(RuleTable& rules) {
  for (const Replacement& r : kReplacements) rules[r.op] = r.rule;
  rules["Upsample"] = Upsample;
  rules["Tile"] = Tile;
  rules["Scan"] = Scan;
  rules["MeanVarianceNormalization"] = MeanVarianceNormalization;
  for (const auto op : {"LpPool", "GlobalLpPool"}) rules[op] = FloatNorm;
  for (const auto op : {"RNN", "GRU", "LSTM"}) rules[op] = Rnn;
  rules["Concat"] = [](Upgrader& u) -> Status {
    if (u.opset < 4 && !u.HasAttr("axis")) u.n.attrs["axis"] = int64_t{1};
    return {};
  };
}

std::string_view ReplacementOf(std::string_view op) {
  for (const Replacement& r : kReplacements)
    if (r.op == op) return r.by;
  return {};
}

}  // namespace dunlin::onnx_import
