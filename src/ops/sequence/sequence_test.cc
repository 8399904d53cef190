#include "ops/testing.h"

namespace dunlin {
namespace {

using testing::Near;
using testing::OpTest;

Tensor Floats(std::initializer_list<float> v) { return Tensor::Of<float>({int64_t(v.size())}, v); }
SequenceValue Three() { return {DType::kF32, {Floats({1}), Floats({2, 2}), Floats({3})}}; }

TEST(Sequence, InsertsAtAPositionCountedFromEitherEnd) {
  const std::pair<std::optional<int64_t>, size_t> cases[] = {
      {{}, 3}, {0, 0}, {3, 3}, {-1, 2}, {-3, 0}};
  for (const auto& [position, lands] : cases) {
    OpTest t("SequenceInsert");
    t.Sequence(Three()).Input(Floats({9, 9, 9}));
    if (position) t.Input(Tensor::Scalar<int64_t>(*position));
    const auto r = t.Reference();
    ASSERT_TRUE(r.has_value()) << r.error().message;
    ASSERT_EQ(r->sequences[0].items.size(), 4u);
    EXPECT_TRUE(Near(r->sequences[0].items[lands], Floats({9, 9, 9})));
  }
}

TEST(Sequence, RefusesPositionsOutside) {
  for (const int64_t position : {4, -4}) {
    OpTest t("SequenceInsert");
    t.Sequence(Three()).Input(Floats({9})).Input(Tensor::Scalar<int64_t>(position));
    EXPECT_EQ(t.Reference().error().code, Code::kInvalidArgument);
  }
  OpTest at("SequenceAt"), erase("SequenceErase");
  at.Sequence(Three()).Input(Tensor::Scalar<int64_t>(3));
  erase.Sequence({DType::kF32, {}});
  EXPECT_EQ(at.Reference().error().code, Code::kInvalidArgument);
  EXPECT_EQ(erase.Reference().error().code, Code::kInvalidArgument);
}

TEST(Sequence, RefusesAnotherElementType) {
  OpTest t("SequenceInsert");
  t.Sequence(Three()).Input(Tensor::Of<int64_t>({1}, {9}));
  EXPECT_EQ(t.Infer().error().code, Code::kInvalidArgument);
}

TEST(Sequence, ErasesTheLastByDefault) {
  OpTest t("SequenceErase");
  t.Sequence(Three());
  const auto r = t.Reference();
  ASSERT_EQ(r->sequences[0].items.size(), 2u);
  EXPECT_TRUE(Near(r->sequences[0].items[1], Floats({2, 2})));
}

TEST(Sequence, AtAndLengthRead) {
  OpTest at("SequenceAt"), length("SequenceLength");
  at.Sequence(Three()).Input(Tensor::Scalar<int64_t>(-2));
  length.Sequence(Three());
  EXPECT_TRUE(Near((*at.Reference())[0], Floats({2, 2})));
  EXPECT_TRUE(Near((*length.Reference())[0], Tensor::Scalar<int64_t>(3)));
}

TEST(Sequence, SplitAndConcatAreInverse) {
  const Tensor x = testing::RandomF32({2, 5, 3});
  for (const int axis : {0, 1, -1}) {
    OpTest split("SplitToSequence"), concat("ConcatFromSequence");
    split.Attr("axis", axis).Input(x).Input(Tensor::Scalar<int64_t>(2));
    const auto pieces = split.Reference();
    ASSERT_TRUE(pieces.has_value()) << pieces.error().message;
    EXPECT_EQ(pieces->sequences[0].items.size(), axis == 1 ? 3u : axis == 0 ? 1u : 2u);
    concat.Attr("axis", axis).Sequence(pieces->sequences[0]);
    EXPECT_TRUE(Near((*concat.Reference())[0], x));
  }
}

TEST(Sequence, SplitWithoutLengthsDropsTheExtentWhenTold) {
  OpTest split("SplitToSequence"), stack("ConcatFromSequence");
  const Tensor x = testing::RandomF32({2, 4});
  split.Attr("axis", 1).Attr("keepdims", 0).Input(x);
  const auto pieces = split.Reference();
  ASSERT_EQ(pieces->sequences[0].items.size(), 4u);
  EXPECT_EQ(pieces->sequences[0].items[0].dims(), (Dims{2}));
  stack.Attr("axis", 1).Attr("new_axis", 1).Sequence(pieces->sequences[0]);
  EXPECT_TRUE(Near((*stack.Reference())[0], x));
}

TEST(Sequence, SplitRefusesLengthsThatDoNotAddUp) {
  for (const auto& lengths : {Tensor::Of<int64_t>({2}, {2, 2}), Tensor::Of<int64_t>({2}, {-1, 6}),
                              Tensor::Of<int64_t>({2}, {3, 3}), Tensor::Scalar<int64_t>(0)}) {
    OpTest t("SplitToSequence");
    t.Input(testing::RandomF32({5})).Input(lengths);
    EXPECT_EQ(t.Reference().error().code, Code::kInvalidArgument);
  }
}

TEST(Sequence, ConcatRefusesItemsThatDoNotFitAndNothing) {
  OpTest mixed("ConcatFromSequence"), empty("ConcatFromSequence");
  mixed.Attr("axis", 1).Sequence(
      {DType::kF32, {testing::RandomF32({2, 3}), testing::RandomF32({3, 3})}});
  empty.Sequence({DType::kF32, {}});
  EXPECT_EQ(mixed.Reference().error().code, Code::kInvalidArgument);
  EXPECT_EQ(empty.Reference().error().code, Code::kInvalidArgument);
}

TEST(Optional, SaysWhetherItHoldsSomething) {
  OpTest full("OptionalHasElement"), empty("OptionalHasElement"), get("OptionalGetElement");
  full.Input(Floats({1}));
  empty.Absent();
  get.Sequence(Three());
  EXPECT_TRUE(Near((*full.Reference())[0], Tensor::Scalar<bool>(true)));
  EXPECT_TRUE(Near((*empty.Reference())[0], Tensor::Scalar<bool>(false)));
  EXPECT_EQ(get.Reference()->sequences[0].items.size(), 3u);
}

TEST(Sequence, RefusesMorePiecesThanMemoryHolds) {
  OpTest t("SplitToSequence");
  t.Input(Tensor::Zeros(DType::kF32, {int64_t{1} << 50, 0}).value());
  EXPECT_EQ(t.Reference().error().code, Code::kResourceExhausted);
}

}  // namespace
}  // namespace dunlin
