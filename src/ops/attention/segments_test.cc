#include "ops/attention/segments.h"

#include "ops/attention/attention.h"
#include "ops/testing.h"

namespace dunlin::testing {
namespace {

Tensor Offsets(std::initializer_list<int64_t> v) {
  return Tensor::Of<int64_t>({int64_t(v.size())}, v);
}

TEST(Segments, APlaceKnowsItsSegment) {
  const int64_t offsets[] = {0, 2, 2, 5};
  EXPECT_EQ(SegmentOf(offsets, 1).end, 2);
  EXPECT_EQ(SegmentOf(offsets, 2).begin, 2);
  EXPECT_EQ(SegmentOf(offsets, 2).end, 5);
  EXPECT_EQ(SegmentOf(offsets, 5).begin, SegmentOf(offsets, 5).end);  // behind the last one
}

TEST(Segments, OffsetsThatDoNotCutAreRefused) {
  const std::vector<std::vector<int64_t>> wrong = {{}, {1, 3}, {0, 4, 2}, {0, 9}};
  for (const auto& offsets : wrong) EXPECT_FALSE(CheckSegments(offsets, 8)) << offsets.size();
  const int64_t right[] = {0, 0, 8};
  EXPECT_TRUE(CheckSegments(right, 8));
}

TEST(SegmentSoftmax, EachRowSeesItsOwnSegment) {
  OpTest t("SegmentSoftmax", "dunlin");
  t.Input(Tensor::Of<float>({3, 3}, {0, 9, 9, 9, 1, 1, 9, 2, 2})).Input(Offsets({0, 1, 3}));
  EXPECT_TRUE(Near(t.Reference().value()[0],
                   Tensor::Of<float>({3, 3}, {1, 0, 0, 0, 0.5, 0.5, 0, 0.5, 0.5})));
}

TEST(SegmentReduce, ReducesTheTokensOfEachSegment) {
  const Tensor x = Tensor::Of<float>({1, 4, 2}, {1, 8, 3, 6, 5, 4, 100, 100});
  const std::vector<std::vector<float>> want = {
      {4, 14, 0, 0, 5, 4}, {2, 7, 0, 0, 5, 4}, {3, 8, 0, 0, 5, 4}};
  for (int64_t how = 0; how < 3; ++how) {
    OpTest t("SegmentReduce", "dunlin");
    t.Attr("reduction", int(how)).Input(x).Input(Offsets({0, 2, 2, 3}));
    EXPECT_TRUE(Near(t.Reference().value()[0],
                     Tensor::Of<float>({3, 2}, std::span<const float>(want[size_t(how)]))))
        << how;
  }
}

TEST(SegmentCumSum, BeginsAnewWithEverySegment) {
  OpTest t("SegmentCumSum", "dunlin");
  t.Input(Tensor::Of<int64_t>({1, 5}, {1, 2, 3, 4, 5})).Input(Offsets({0, 2, 4}));
  EXPECT_TRUE(Near(t.Reference().value()[0], Tensor::Of<int64_t>({1, 5}, {1, 3, 3, 7, 0})));
}

OpTest Packed(int64_t tokens, int64_t heads, int64_t key_heads, int orders) {
  const int q = orders & 1, k = orders / 2 % 3, v = orders / 6 % 2, y = orders / 12;
  const auto dims = [&](int order, int64_t h, int64_t width) {
    return order == 0   ? Dims{1, h, tokens, width}
           : order == 1 ? Dims{1, tokens, h, width}
                        : Dims{1, h, width, tokens};
  };
  OpTest t("Attention", "dunlin");
  t.Attr("scale", 0.3).Attr("q_order", q).Attr("k_order", k).Attr("v_order", v).Attr("y_order", y);
  t.Input(RandomF32(dims(q, heads, 12), -2, 2));
  t.Input(RandomF32(dims(k, key_heads, 12), -2, 2, 2));
  t.Input(RandomF32(dims(v, key_heads, 10), -2, 2, 3));
  return t;
}

TEST(SegmentedAttention, KernelMatchesInEveryOrderOfExtents) {
  for (int orders = 0; orders < 24; ++orders) {
    SCOPED_TRACE(orders);
    OpTest t = Packed(30, 3, 3, orders);
    t.Absent().Input(Offsets({0, 1, 8, 8, 27})).ExpectKernelMatches({.abs = 2e-6});
  }
}

TEST(SegmentedAttention, KernelMatchesWithMasksAndSharedHeads) {
  for (const Dims& mask : {Dims{1, 1, 1, 70}, Dims{1, 4, 70, 70}, Dims{70, 1}, Dims{70}}) {
    SCOPED_TRACE(ToString(mask));
    OpTest added = Packed(70, 4, 2, 3);
    added.Input(RandomF32(mask, -3, 3, 4)).Input(Offsets({0, 60, 63, 70}));
    added.ExpectKernelMatches({.abs = 2e-6});
    OpTest filled = Packed(70, 4, 2, 3);
    Tensor holes = Tensor::Create(DType::kBool, mask).value();
    for (int64_t i = 0; i < holes.count(); ++i) holes.mut<bool>()[i] = i % 4 == 1;
    filled.Attr("fill", -1e9).Input(holes).Input(Offsets({0, 5, 70}));
    filled.ExpectKernelMatches({.abs = 2e-6});
  }
}

TEST(SegmentedAttention, ASegmentIsComputedAsIfItWereAlone) {
  std::mt19937 rng(3);
  for (int round = 0; round < 20; ++round) {
    std::vector<int64_t> offsets = {0};
    const auto count = 1 + int(rng() % 6);
    for (int i = 0; i < count; ++i) offsets.push_back(offsets.back() + 1 + int64_t(rng() % 60));
    OpTest t = Packed(offsets.back() + int64_t(rng() % 3), 2, 2, 1 + 2 + 6 + 12);
    t.Absent().Input(Tensor::Ints(offsets));
    t.ExpectKernelMatches({.abs = 4e-6});
  }
}

TEST(SegmentedAttention, OffsetsMustFitTheRows) {
  OpTest t = Packed(8, 1, 1, 0);
  t.Absent().Input(Offsets({0, 9}));
  EXPECT_FALSE(t.Reference().has_value());
}

}  // namespace
}  // namespace dunlin::testing
