// Arenas for activations. They belong to whoever is running, not to a model: a run borrows one and
// gives it back, so a process has as many as it has runs at the same moment.
#pragma once

#include <cstddef>
#include <memory>
#include <mutex>
#include <vector>

#include "base/result.h"
#include "runtime/allocator.h"

namespace dunlin {

class Arena {
 public:
  // Without an allocator memory comes from the system.
  explicit Arena(std::shared_ptr<CountedAllocator> allocator = nullptr)
      : allocator_(std::move(allocator)) {}
  ~Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  // At least this many bytes; contents are lost when it grows. kResourceExhausted when the system
  // has not that much.
  Status Reserve(size_t bytes);
  std::byte* data() const { return data_; }
  size_t bytes() const { return bytes_; }

 private:
  Status ReserveOwn(size_t bytes);
  std::shared_ptr<CountedAllocator> allocator_;
  std::shared_ptr<std::byte> own_;  // of the allocator
  std::byte* data_ = nullptr;
  size_t bytes_ = 0;
};

class ArenaPool {
 public:
  explicit ArenaPool(std::shared_ptr<CountedAllocator> allocator = nullptr)
      : allocator_(std::move(allocator)) {}
  class Lease {
   public:
    Lease(ArenaPool* pool, std::unique_ptr<Arena> arena) : pool_(pool), arena_(std::move(arena)) {}
    Lease(Lease&& o) noexcept = default;
    Lease& operator=(Lease&&) = delete;
    ~Lease();
    Arena& operator*() const { return *arena_; }
    Arena* operator->() const { return arena_.get(); }

   private:
    ArenaPool* pool_;
    std::unique_ptr<Arena> arena_;
  };
  // The free arena whose size fits best, grown if need be. Thread-safe.
  Result<Lease> Borrow(size_t bytes);

 private:
  const std::shared_ptr<CountedAllocator> allocator_;
  std::mutex mutex_;
  std::vector<std::unique_ptr<Arena>> free_;
};

}  // namespace dunlin
