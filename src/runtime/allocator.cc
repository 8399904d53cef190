#include "runtime/allocator.h"

#include <algorithm>

#include "tensor/tensor.h"

namespace dunlin {

Result<std::shared_ptr<std::byte>> CountedAllocator::Allocate(size_t bytes) {
  constexpr size_t kAlignment = Buffer::kAlignment;
  void* const p = allocator_.allocate(allocator_.context, bytes, kAlignment);
  if (p == nullptr)
    return Fail(Code::kResourceExhausted, "the allocator given to the model has no {} bytes",
                bytes);
  if (reinterpret_cast<uintptr_t>(p) % kAlignment != 0) {
    allocator_.free(allocator_.context, p, bytes, kAlignment);
    return Fail(Code::kInternal, "the allocator given to the model does not align to {} bytes",
                kAlignment);
  }
  Count(int64_t(bytes));
  const auto release = [self = shared_from_this(), bytes](std::byte* q) {
    self->allocator_.free(self->allocator_.context, q, bytes, kAlignment);
    self->Count(-int64_t(bytes));
  };
  return std::shared_ptr<std::byte>(static_cast<std::byte*>(p), release);
}

void CountedAllocator::Count(int64_t bytes) {
  std::lock_guard lock(mutex_);
  use_.bytes += bytes;
  use_.peak_bytes = std::max(use_.peak_bytes, use_.bytes);
}

MemoryUse CountedAllocator::use() const {
  std::lock_guard lock(mutex_);
  return use_;
}

}  // namespace dunlin
