#include "tensor/memory.h"

#include <gtest/gtest.h>

#include "tensor/tensor.h"

namespace dunlin {
namespace {

TEST(Memory, WhatCannotBeHadIsRefusedBeforeItIsTouched) {
  EXPECT_TRUE(CheckMemory(1 << 20));
  const auto all = Tensor::Create(DType::kF32, {int64_t(MemoryLimit() / 4) + 1});
  ASSERT_FALSE(all);
  EXPECT_EQ(all.error().code, Code::kResourceExhausted);
  EXPECT_FALSE(Tensor::Create(DType::kString, {int64_t(MemoryLimit() / sizeof(std::string)) + 1}));
}

TEST(Memory, ManySmallPiecesAreRefusedAsOneLargePieceIs) {
  MemoryGate gate([]() -> size_t { return size_t{100} << 20; });
  int granted = 0;
  while (granted < 1000 && gate.Check(1 << 20)) ++granted;
  EXPECT_EQ(granted, 1000) << "64 MiB at a time are always there";
  MemoryGate full([]() -> size_t { return size_t{10} << 20; });
  granted = 0;
  while (granted < 1000 && full.Check(1 << 20)) ++granted;
  EXPECT_EQ(granted, 63);
}

}  // namespace
}  // namespace dunlin
