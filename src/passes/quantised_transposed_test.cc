// Transposed convolutions of codes: the same sums as those of floats, which are exact here.
#include "passes/quantised_testing.h"

namespace dunlin {
namespace {

using Ints = std::vector<int64_t>;
struct Case {
  Dims x, w;  // [N, C, H, W], [C, M, h, w]
  Ints strides, pads, output_padding, dilations;
  Counts left;
};

// Scales are powers of two, so that f32 gives the exact numbers.
ValueId Transposed(OperatorGraph& b, const Case& c, bool per_channel, bool bias) {
  const ValueId x = b.Add("DequantizeLinear", {b.Feed(b.Codes(c.x, DType::kU8)), b.Scalar(0.5f),
                                               b.Zero(7, DType::kU8)});
  Tensor scales = Tensor::Create(DType::kF32, per_channel ? Dims{c.w[1]} : Dims{}).value();
  Tensor zeros = Tensor::Zeros(DType::kI8, scales.dims()).value();
  for (int64_t i = 0; i < scales.count(); ++i) {
    scales.mut<float>()[i] = i % 2 == 0 ? 0.25f : 1.0f;
    zeros.mut<int8_t>()[i] = int8_t(5 - 3 * i);
  }
  const ValueId w = b.Add("DequantizeLinear",
                          {b.Const(b.Codes(c.w, DType::kI8)), b.Const(scales), b.Const(zeros)},
                          {{"axis", int64_t{1}}});
  std::vector<ValueId> inputs = {x, w};
  if (bias) inputs.push_back(b.Const(Convert(b.Integers(c.w[1]), DType::kF32).value()));
  return b.Add("ConvTranspose", std::move(inputs),
               {{"strides", c.strides},
                {"pads", c.pads},
                {"output_padding", c.output_padding},
                {"dilations", c.dilations}});
}

const Case kCases[] = {
    // Kernel and stride alike: a product of pixels.
    {{2, 5, 4, 3}, {5, 3, 2, 2}, {2, 2}, {}, {}, {}, {{"CodeConv", 1}, {"DepthToSpace", 1}}},
    {{1, 3, 5, 4}, {3, 2, 4, 4}, {4, 4}, {}, {}, {}, {{"CodeConv", 1}, {"DepthToSpace", 1}}},
    // Pads that cut into a block, at both ends.
    {{1, 3, 5, 4},
     {3, 2, 4, 4},
     {2, 2},
     {1, 1, 1, 1},
     {},
     {},
     {{"CodeConv", 1}, {"DepthToSpace", 1}, {"Slice", 1}}},
    {{1, 3, 5, 4},
     {3, 2, 2, 2},
     {2, 2},
     {1, 1, 1, 1},
     {},
     {},
     {{"CodeConv", 1}, {"DepthToSpace", 1}, {"Slice", 1}}},
    // An odd kernel: some phases see fewer elements.
    {{1, 3, 5, 4},
     {3, 2, 3, 3},
     {2, 2},
     {1, 1, 1, 1},
     {1, 1},
     {},
     {{"CodeConv", 1}, {"DepthToSpace", 1}}},
    {{1, 3, 5, 4},
     {3, 2, 5, 5},
     {2, 2},
     {2, 2, 2, 2},
     {},
     {},
     {{"CodeConv", 1}, {"DepthToSpace", 1}, {"Slice", 1}}},
    // Without strides it is a convolution with the kernel turned round.
    {{1, 3, 5, 4}, {3, 2, 3, 2}, {1, 1}, {1, 0, 1, 1}, {}, {}, {{"CodeConv", 1}}},
};

TEST(QuantisedTransposedTest, GivesTheSameFloats) {
  for (const Case& c : kCases)
    for (const bool per_channel : {false, true})
      for (const bool bias : {false, true}) {
        OperatorGraph b;
        const ValueId y = Transposed(b, c, per_channel, bias);
        SCOPED_TRACE(ToString(c.w) + " of " + ToString(c.x));
        ExpectSameBits(b, y, c.left);
      }
}

TEST(QuantisedTransposedTest, WhatFollowsIsTakenInAndCodesAreMoved) {
  for (const Case& c : kCases) {
    OperatorGraph b;
    const ValueId y = b.Add("Relu", {Transposed(b, c, true, true)});
    ExpectSameBits(b, b.Add("QuantizeLinear", {y, b.Scalar(16), b.Zero(3, DType::kU8)}), c.left);
  }
}

// Extents that are found when the model runs, as segmentation models have them.
TEST(QuantisedTransposedTest, ExtentsNeedNotBeKnown) {
  for (const Case& c : kCases) {
    OperatorGraph b;
    const ValueId codes = b.Input({c.x[0], c.x[1], kUnknownDim, kUnknownDim}, DType::kU8);
    b.fed[codes] = b.Codes(c.x, DType::kU8);
    const ValueId x = b.Add("DequantizeLinear", {codes, b.Scalar(0.5f), b.Zero(7, DType::kU8)});
    const ValueId w = b.Add("DequantizeLinear", {b.Const(b.Codes(c.w, DType::kI8)), b.Scalar(1),
                                                 b.Zero(0, DType::kI8)});
    const ValueId y =
        b.Add("ConvTranspose", {x, w},
              {{"strides", c.strides}, {"pads", c.pads}, {"output_padding", c.output_padding}});
    ExpectSameBits(b, y, c.left);
  }
}

// Groups, and a stride past the kernel: most products would be with nothing.
TEST(QuantisedTransposedTest, OthersStayInFloats) {
  for (const int64_t group : {1, 2}) {
    OperatorGraph b;
    const ValueId x = b.Add("DequantizeLinear", {b.Feed(b.Codes({1, 4, 5, 5}, DType::kU8)),
                                                 b.Scalar(0.5f), b.Zero(7, DType::kU8)});
    const ValueId w = b.Add("DequantizeLinear", {b.Const(b.Codes({4, 2, 1, 1}, DType::kI8)),
                                                 b.Scalar(0.5f), b.Zero(0, DType::kI8)});
    const ValueId y = b.Add("ConvTranspose", {x, w}, {{"strides", Ints{2, 2}}, {"group", group}});
    EXPECT_EQ(Optimised(b.Finish({y})).count("ConvTranspose"), 1u);
  }
}

}  // namespace
}  // namespace dunlin
