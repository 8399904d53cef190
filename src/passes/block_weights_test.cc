// Which products keep their weights as codes, and what they give.
#include "passes/testing.h"

namespace dunlin {
namespace {

struct CodedGraph : GraphBuilder {
  ValueId Codes(DType type, Dims dims) {
    Tensor t = Tensor::Zeros(type, dims).value();
    auto* bytes = reinterpret_cast<uint8_t*>(t.raw());
    for (int64_t i = 0; i < t.bytes(); ++i) bytes[i] = uint8_t(rng());
    return Const(t);
  }
  // In blocks of 4 along `axis`, or with a scale for all columns when block is 0.
  ValueId Weights4(DType type, Dims dims, int64_t axis, int64_t block, bool zeros) {
    Dims scales = dims;
    if (block > 0)
      scales[size_t(axis)] = (scales[size_t(axis)] + block - 1) / block;
    else
      scales = {dims[size_t(axis)]};
    std::vector<ValueId> inputs = {Codes(type, dims), Weights(scales, 0.1f, 1)};
    if (zeros) inputs.push_back(Codes(type, scales));
    return Add("DequantizeLinear", inputs, {{"axis", axis}, {"block_size", block}});
  }
};

constexpr DType kTypes[] = {DType::kI4, DType::kU4, DType::kI8, DType::kU8};
const Counts kFused = {{"MatMulNBits", 1}};

TEST(BlockWeightsPass, ProductsWithBlocksAlongTheSum) {
  for (const DType type : kTypes)
    for (const bool zeros : {false, true}) {
      CodedGraph b;
      const ValueId x = b.Input({2, 3, 10});
      const ValueId y = b.Add("MatMul", {x, b.Weights4(type, {10, 6}, 0, 4, zeros)});
      EXPECT_EQ(Optimised(b.Finish({y})), kFused);
    }
}

// With a constant left operand folding computes what the graph gives, before and after.
Tensor Folded(std::unique_ptr<Graph> g, bool fuse) {
  RuleCounts counts;
  if (fuse) {
    EXPECT_TRUE(FuseBlockWeights(*g, counts).has_value());
  }
  EXPECT_EQ(OpCounts(*g).count("MatMulNBits"), fuse ? 1u : 0u);
  EXPECT_TRUE(FoldConstants(*g, counts).has_value());
  const GraphValue& y = g->value(g->outputs()[0]);
  EXPECT_TRUE(y.is_constant());
  return y.constant;
}

TEST(BlockWeightsPass, GivesTheSameNumbers) {
  for (const DType type : kTypes)
    for (const bool zeros : {false, true})
      for (const bool turned : {false, true})
        for (const int64_t block : {0, 4, 16}) {
          const auto graph = [&] {
            CodedGraph b;
            const Dims dims = turned ? Dims{6, 10} : Dims{10, 6};
            const int64_t axis = (block > 0) == turned ? 1 : 0;
            const ValueId x = b.Weights({3, 10});
            return b.Finish(
                {b.Add("Gemm", {x, b.Weights4(type, dims, axis, block, zeros), b.Weights({6})},
                       {{"transB", turned}})});
          };
          const Tensor wanted = Folded(graph(), false), got = Folded(graph(), true);
          ASSERT_EQ(got.count(), wanted.count());
          for (int64_t i = 0; i < got.count(); ++i)
            EXPECT_NEAR(got.as<float>()[i], wanted.as<float>()[i],
                        1e-5 * (1 + std::abs(wanted.as<float>()[i])))
                << DTypeName(type) << " turned " << turned << " block " << block;
        }
}

TEST(BlockWeightsPass, TransposedWeightsAndBiases) {
  CodedGraph b;
  const ValueId w = b.Weights4(DType::kI4, {6, 10}, 1, 4, true);
  const ValueId turned = b.Add("Transpose", {w}, {{"perm", std::vector<int64_t>{1, 0}}});
  const ValueId sum = b.Add("Add", {b.Weights({6}), b.Add("MatMul", {b.Input({3, 10}), turned})});
  EXPECT_EQ(Optimised(b.Finish({sum})), kFused);
  CodedGraph gemm;
  const ValueId y = gemm.Add(
      "Gemm",
      {gemm.Input({3, 10}), gemm.Weights4(DType::kI4, {6, 10}, 1, 4, false), gemm.Weights({6})},
      {{"transB", true}});
  EXPECT_EQ(Optimised(gemm.Finish({y})), kFused);
}

TEST(BlockWeightsPass, BytesWithAScaleForEveryColumnWhereRowsAreFew) {
  for (const int64_t rows : {int64_t{1}, int64_t{64}, kUnknownDim}) {
    CodedGraph b;
    const ValueId x = b.Input({rows, 10});
    const ValueId y = b.Add("MatMul", {x, b.Weights4(DType::kI8, {10, 6}, 1, 0, false)});
    EXPECT_EQ(Optimised(b.Finish({y})).count("MatMulNBits"), rows == 64 ? 0u : 1u) << rows;
  }
}

TEST(BlockWeightsPass, LeavesOtherProductsAlone) {
  CodedGraph columns;  // blocks of columns
  const ValueId y = columns.Add(
      "MatMul", {columns.Input({3, 10}), columns.Weights4(DType::kI4, {10, 6}, 1, 4, false)});
  EXPECT_EQ(Optimised(columns.Finish({y})).count("MatMulNBits"), 0u);
  CodedGraph scaled;
  const ValueId z =
      scaled.Add("Gemm", {scaled.Input({3, 10}), scaled.Weights4(DType::kI4, {10, 6}, 0, 4, false)},
                 {{"alpha", 2.0f}});
  EXPECT_EQ(Optimised(scaled.Finish({z})).count("MatMulNBits"), 0u);
}

}  // namespace
}  // namespace dunlin
