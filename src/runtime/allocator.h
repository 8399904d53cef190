// Memory that an embedder provides for arenas and packed weights, and how much of it is in use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>

#include "base/result.h"

namespace dunlin {

struct Allocator {
  // `bytes` at an address that is a multiple of `alignment`, a power of two; null when there are
  // none. Called on any thread, also on several at once.
  void* (*allocate)(void* context, size_t bytes, size_t alignment) = nullptr;
  // Gives back what `allocate` returned for these bytes and this alignment.
  void (*free)(void* context, void* p, size_t bytes, size_t alignment) = nullptr;
  void* context = nullptr;  // must outlive the model, its sessions, and their calls of `free`
};

struct MemoryUse {
  int64_t bytes = 0, peak_bytes = 0;
};

// Thread-safe.
class CountedAllocator : public std::enable_shared_from_this<CountedAllocator> {
 public:
  explicit CountedAllocator(const Allocator& allocator) : allocator_(allocator) {}
  // Given back when the last copy of the pointer goes. kResourceExhausted when the embedder has
  // none; kInternal when its address is not aligned.
  Result<std::shared_ptr<std::byte>> Allocate(size_t bytes);
  MemoryUse use() const;

 private:
  void Count(int64_t bytes);
  const Allocator allocator_;
  mutable std::mutex mutex_;
  MemoryUse use_;
};

}  // namespace dunlin
