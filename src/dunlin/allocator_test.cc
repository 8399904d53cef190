// An embedder's own memory for a model.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "dunlin/engine.h"

namespace dunlin {
namespace {

struct Memory {
  std::mutex mutex;
  std::map<void*, size_t> live;
  size_t bytes = 0, peak = 0, most = SIZE_MAX;
  int calls = 0;

  static void* Take(void* context, size_t bytes, size_t alignment) {
    auto& m = *static_cast<Memory*>(context);
    std::lock_guard lock(m.mutex);
    if (m.bytes + bytes > m.most) return nullptr;
    void* p = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
    m.live[p] = bytes;
    m.bytes += bytes;
    m.peak = std::max(m.peak, m.bytes);
    ++m.calls;
    return p;
  }
  static void Give(void* context, void* p, size_t bytes, size_t) {
    auto& m = *static_cast<Memory*>(context);
    std::lock_guard lock(m.mutex);
    EXPECT_EQ(m.live[p], bytes);
    m.live.erase(p);
    m.bytes -= bytes;
    std::free(p);
  }
  LoadOptions Options() {
    LoadOptions options;
    options.allocator = Allocator{&Take, &Give, this};
    return options;
  }
};

constexpr const char* kModel = DUNLIN_ASSETS "/tiny_fashion.onnx";

Result<Tensor> RunOnce(const std::shared_ptr<const Model>& model) {
  Session session = TRY(Session::Create(model));
  const PortInfo& port = model->inputs()[0];
  Dims dims = port.dims;
  for (int64_t& d : dims) d = std::max<int64_t>(d, 1);
  Tensor x = TRY(Tensor::Create(port.dtype, dims));
  std::memset(x.raw(), 1, size_t(x.bytes()));
  return TRY(session.Run({{port.name, x}}))[0].value.tensor;
}

TEST(OwnAllocator, HoldsArenasAndPackedWeightsAndGetsAllBack) {
  Memory memory;
  Tensor result;
  {
    const auto model = Model::Load(kModel, memory.Options());
    ASSERT_TRUE(model.has_value()) << model.error().message;
    const auto y = RunOnce(*model);
    ASSERT_TRUE(y.has_value()) << y.error().message;
    result = *y;
    // At least what convolution and product weights take, and more than one block.
    EXPECT_GT(memory.bytes, 100000u);
    EXPECT_GT(memory.calls, 2);
    EXPECT_EQ((*model)->memory().bytes, int64_t(memory.bytes));
    EXPECT_EQ((*model)->memory().peak_bytes, int64_t(memory.peak));
  }
  EXPECT_EQ(memory.bytes, 0u);
  EXPECT_TRUE(memory.live.empty());
  // The result outlives all of it, and is what it always is.
  const auto usual = RunOnce(*Model::Load(kModel));
  ASSERT_TRUE(usual.has_value());
  EXPECT_EQ(std::memcmp(result.raw(), usual->raw(), size_t(result.bytes())), 0);
}

TEST(OwnAllocator, WithoutMemoryTheRunFailsAndNothingIsLost) {
  Memory memory;
  for (const size_t most : {size_t{0}, size_t{50000}}) {
    memory.most = most;
    const auto model = Model::Load(kModel, memory.Options());
    ASSERT_TRUE(model.has_value()) << model.error().message;
    const auto y = RunOnce(*model);
    ASSERT_FALSE(y.has_value());
    EXPECT_EQ(y.error().code, Code::kResourceExhausted);
  }
  EXPECT_EQ(memory.bytes, 0u);
}

TEST(OwnAllocator, NeedsBothFunctions) {
  LoadOptions options;
  options.allocator = Allocator{};
  EXPECT_EQ(Model::Load(kModel, options).error().code, Code::kInvalidArgument);
}

}  // namespace
}  // namespace dunlin
