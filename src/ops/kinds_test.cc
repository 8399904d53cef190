#include "ops/kinds.h"

#include <gtest/gtest.h>

#include "ops/op.h"

namespace dunlin {
namespace {

TEST(Kinds, OnlyOperatorsThatKnowSequencesGetThem) {
  const Type tensor = Type::Of(DType::kF32, {2});
  const Type sequence{Type::Kind::kSequence, DType::kF32, false, {}};
  const Type nothing{Type::Kind::kOptional, DType::kUndefined, false, {}};
  const auto fits = [](const char* op, std::initializer_list<Type> types) {
    return CheckKinds(*FindOp(op), std::vector<Type>(types)).has_value();
  };
  EXPECT_TRUE(fits("Add", {tensor, tensor}));
  EXPECT_FALSE(fits("Add", {tensor, sequence}));
  EXPECT_FALSE(fits("Add", {nothing, tensor}));
  EXPECT_FALSE(fits("Sum", {tensor, nothing}));
  EXPECT_TRUE(fits("Clip", {tensor, nothing, tensor}));  // its bounds may be left out
  EXPECT_FALSE(fits("Clip", {tensor, sequence}));
  EXPECT_TRUE(fits("SequenceAt", {sequence, tensor}));
  EXPECT_TRUE(fits("OptionalHasElement", {nothing}));
  EXPECT_TRUE(fits("Identity", {sequence}));
}

}  // namespace
}  // namespace dunlin
