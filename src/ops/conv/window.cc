#include "ops/conv/window.h"

#include <algorithm>

namespace dunlin {
namespace {

// Larger numbers in a model are mistakes; below it no product of two overflows.
constexpr int64_t kMaxAttribute = int64_t{1} << 30;

// Checks one attribute's count and range and gives its entry for an axis.
Status CheckInts(std::string_view name, const std::vector<int64_t>& v, size_t count,
                 int64_t least) {
  if (v.empty()) return {};
  if (v.size() != count)
    return Fail(Code::kInvalidArgument, "{} has {} entries, {} spatial axes need {}", name,
                v.size(), name == "pads" ? count / 2 : count, count);
  for (const int64_t x : v)
    if (x < least || x > kMaxAttribute)
      return Fail(Code::kInvalidArgument, "{} has the entry {}, outside {} to {}", name, x, least,
                  kMaxAttribute);
  return {};
}

int64_t At(const std::vector<int64_t>& v, size_t i, int64_t otherwise) {
  return v.empty() ? otherwise : v[i];
}

enum class AutoPad { kNotSet, kSameUpper, kSameLower, kValid };

Result<AutoPad> ParseAutoPad(const std::string& s) {
  if (s.empty() || s == "NOTSET") return AutoPad::kNotSet;
  if (s == "SAME_UPPER") return AutoPad::kSameUpper;
  if (s == "SAME_LOWER") return AutoPad::kSameLower;
  if (s == "VALID") return AutoPad::kValid;
  return Fail(Code::kInvalidArgument,
              "auto_pad is '{}', not NOTSET, SAME_UPPER, SAME_LOWER or VALID", s);
}

// The axes with everything the attributes say, in and out unknown.
Result<Window> ReadAxes(const WindowAttrs& attrs, size_t rank, std::span<const int64_t> kernel) {
  TRY(CheckInts("kernel_shape", attrs.kernel_shape, rank, 1));
  TRY(CheckInts("strides", attrs.strides, rank, 1));
  TRY(CheckInts("dilations", attrs.dilations, rank, 1));
  TRY(CheckInts("pads", attrs.pads, rank * 2, 0));
  if (!kernel.empty() && kernel.size() != rank)
    return Fail(Code::kInvalidArgument, "a kernel of {} axes for an input of {} spatial axes",
                kernel.size(), rank);
  Window window(rank);
  for (size_t i = 0; i < rank; ++i) {
    WindowAxis& a = window[i];
    a.kernel = At(attrs.kernel_shape, i, kUnknownDim);
    if (!kernel.empty() && IsKnown(kernel[i])) {
      if (IsKnown(a.kernel) && a.kernel != kernel[i])
        return Fail(Code::kInvalidArgument,
                    "kernel_shape says {} on spatial axis {}, the weights {}", a.kernel, i,
                    kernel[i]);
      a.kernel = kernel[i];
    }
    if (a.kernel == 0 || a.kernel > kMaxAttribute)
      return Fail(Code::kInvalidArgument, "a kernel of extent {} on spatial axis {}", a.kernel, i);
    a.stride = At(attrs.strides, i, 1);
    a.dilation = At(attrs.dilations, i, 1);
    a.pad_begin = At(attrs.pads, i, 0);
    a.pad_end = At(attrs.pads, rank + i, 0);
  }
  return window;
}

// Puts `total` elements of padding on both sides.
void SplitPad(WindowAxis& a, int64_t total, bool more_at_end) {
  total = std::max<int64_t>(0, total);
  const int64_t small = total / 2;
  a.pad_begin = more_at_end ? small : total - small;
  a.pad_end = total - a.pad_begin;
}

}  // namespace

Result<Window> ResolveWindow(const WindowAttrs& attrs, std::span<const int64_t> in,
                             std::span<const int64_t> kernel, Rounding rounding) {
  Window window = TRY(ReadAxes(attrs, in.size(), kernel));
  const AutoPad auto_pad = TRY(ParseAutoPad(attrs.auto_pad));
  const bool same = auto_pad == AutoPad::kSameUpper || auto_pad == AutoPad::kSameLower;
  for (size_t i = 0; i < window.size(); ++i) {
    WindowAxis& a = window[i];
    a.in = in[i];
    if (auto_pad != AutoPad::kNotSet) a.pad_begin = a.pad_end = 0;
    if (same && a.stride == 1) a.out = a.in;
    if (!IsKnown(a.kernel)) continue;
    const int64_t pads = a.pad_begin + a.pad_end;
    if (!IsKnown(a.in)) {
      // A symbol survives where the output is as long as the input.
      if (!same && a.stride == 1 && pads == a.extent() - 1) a.out = a.in;
      continue;
    }
    if (a.in > kMaxAttribute * kMaxAttribute)
      return Fail(Code::kInvalidArgument, "spatial axis {} has {} elements", i, a.in);
    if (same) {
      a.out = (a.in + a.stride - 1) / a.stride;
      SplitPad(a, (a.out - 1) * a.stride + a.extent() - a.in, auto_pad == AutoPad::kSameUpper);
      continue;
    }
    const int64_t room = a.in + pads - a.extent();
    if (room < 0)
      return Fail(Code::kInvalidArgument,
                  "the window covers {} elements of spatial axis {}, the padded input has {}",
                  a.extent(), i, a.in + pads);
    a.out = room / a.stride + 1;
    if (rounding == Rounding::kCeil && room % a.stride != 0) {
      // A last, partial window counts unless it would begin in the padding at the end.
      if (a.out * a.stride < a.in + a.pad_begin) ++a.out;
    }
  }
  return window;
}

Result<Window> ResolveTransposedWindow(const WindowAttrs& attrs,
                                       const std::vector<int64_t>& output_padding,
                                       const std::vector<int64_t>& output_shape,
                                       std::span<const int64_t> in,
                                       std::span<const int64_t> kernel) {
  Window window = TRY(ReadAxes(attrs, in.size(), kernel));
  const AutoPad auto_pad = TRY(ParseAutoPad(attrs.auto_pad));
  TRY(CheckInts("output_padding", output_padding, in.size(), 0));
  const bool same = auto_pad == AutoPad::kSameUpper || auto_pad == AutoPad::kSameLower;
  // Some exporters write output_shape with the batch and channel extents in front.
  const size_t skip = output_shape.size() == in.size() + 2 ? 2 : 0;
  if (!output_shape.empty() && output_shape.size() - skip != in.size())
    return Fail(Code::kInvalidArgument, "output_shape has {} entries for {} spatial axes",
                output_shape.size(), in.size());
  for (size_t i = 0; i < window.size(); ++i) {
    WindowAxis& a = window[i];
    a.out = in[i];
    if (!IsKnown(a.out) || !IsKnown(a.kernel)) {
      if (!output_shape.empty()) a.in = output_shape[skip + i];
      continue;
    }
    if (a.out > kMaxAttribute)
      return Fail(Code::kInvalidArgument, "spatial axis {} has {} elements", i, a.out);
    const int64_t full = a.stride * (a.out - 1) + At(output_padding, i, 0) + a.extent();
    if (!output_shape.empty() || same) {
      a.in = output_shape.empty() ? a.out * a.stride : output_shape[skip + i];
      // ONNX: SAME_UPPER puts the odd element at the end, everything else at the beginning.
      SplitPad(a, full - a.in, auto_pad == AutoPad::kSameUpper);
    } else {
      if (auto_pad == AutoPad::kValid) a.pad_begin = a.pad_end = 0;
      a.in = full - a.pad_begin - a.pad_end;
    }
    if (a.in < 0 || a.in > kMaxAttribute * 4)
      return Fail(Code::kInvalidArgument, "spatial axis {} of the output would have {} elements", i,
                  a.in);
  }
  return window;
}

}  // namespace dunlin
