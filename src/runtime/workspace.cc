#include "runtime/workspace.h"

#include <sys/mman.h>

#include <algorithm>

#include "tensor/memory.h"

namespace dunlin {
namespace {
constexpr size_t kHugePage = size_t{2} << 20;
}

Arena::~Arena() {
  if (data_ != nullptr && own_ == nullptr) ::munmap(data_, bytes_);
}

Status Arena::ReserveOwn(size_t bytes) {
  // The old one first: nobody needs what is in it.
  own_ = nullptr;
  data_ = nullptr;
  bytes_ = 0;
  own_ = TRY(allocator_->Allocate(bytes));
  data_ = own_.get();
  bytes_ = bytes;
  return {};
}

Status Arena::Reserve(size_t bytes) {
  if (bytes <= bytes_) return {};
  if (auto s = CheckMemory(bytes); !s)
    return FailAt("the activations do not fit, use smaller inputs", s.error());
  if (allocator_ != nullptr) return ReserveOwn(bytes);
  const size_t unit = bytes >= kHugePage ? kHugePage : 4096;
  const size_t rounded = (bytes + unit - 1) / unit * unit;
  void* p = ::mmap(nullptr, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED)
    return Fail(Code::kResourceExhausted, "cannot allocate {} MiB for activations", rounded >> 20);
  if (unit == kHugePage)
    ::madvise(p, rounded, MADV_HUGEPAGE);  // fewer TLB misses; a wish, not a need
  if (data_ != nullptr) ::munmap(data_, bytes_);
  data_ = static_cast<std::byte*>(p);
  bytes_ = rounded;
  return {};
}

ArenaPool::Lease::~Lease() {
  if (!arena_) return;
  std::lock_guard lock(pool_->mutex_);
  pool_->free_.push_back(std::move(arena_));
}

Result<ArenaPool::Lease> ArenaPool::Borrow(size_t bytes) {
  std::unique_ptr<Arena> arena;
  {
    std::lock_guard lock(mutex_);
    // The smallest that is large enough, else the largest there is, to be grown. Most recently used
    // first, for warm caches.
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
      if (best == free_.end()) {
        best = it;
        continue;
      }
      const bool fits = (*it)->bytes() >= bytes, best_fits = (*best)->bytes() >= bytes;
      if (fits ? !best_fits || (*it)->bytes() <= (*best)->bytes()
               : !best_fits && (*it)->bytes() > (*best)->bytes())
        best = it;
    }
    if (best != free_.end()) {
      arena = std::move(*best);
      free_.erase(best);
    }
  }
  if (!arena) arena = std::make_unique<Arena>(allocator_);
  Lease lease(this, std::move(arena));
  TRY(lease->Reserve(bytes));
  return lease;
}

}  // namespace dunlin
