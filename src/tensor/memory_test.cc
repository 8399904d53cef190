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

}  // namespace
}  // namespace dunlin
