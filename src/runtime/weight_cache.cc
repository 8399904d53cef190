#include "runtime/weight_cache.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>

namespace dunlin {
namespace {

class Cache final : public PackedWeights {
 public:
  Cache(ThreadPool* pool, std::shared_ptr<CountedAllocator> allocator)
      : pool_(pool), allocator_(std::move(allocator)) {}

  Result<Tensor> Get(const Tensor& weight, const std::string& recipe,
                     const std::function<Result<Tensor>(const Tensor&)>& pack) override {
    std::lock_guard lock(mutex_);
    const auto key =
        std::make_pair(static_cast<const void*>(weight.origin()),
                       recipe + std::string(DTypeName(weight.dtype())) + ToString(weight.dims()));
    const auto it = packed_.find(key);
    if (it != packed_.end()) return it->second.second;
    Tensor t = TRY(pack(TRY(Readable(weight))));
    if (allocator_ != nullptr) t = TRY(Moved(t));
    ParallelFor(weight.bytes(), kPart, [&](int64_t begin, int64_t end) {
      weight.buffer()->ReleasePages(weight.offset() + size_t(begin), size_t(end - begin));
    });
    if (auto file = Buffer::FileOf(weight.buffer())) files_.insert(std::move(file));
    packed_.emplace(key, std::make_pair(weight, t));
    return t;
  }

  void ParallelFor(int64_t count, int64_t grain, RangeFn fn) override {
    if (pool_ == nullptr) return WeightCache::ParallelFor(count, grain, fn);
    pool_->ParallelFor(count, grain, fn);
  }

  void Trim() override {
    std::lock_guard lock(mutex_);
    staging_ = nullptr;
    // A fault of one weight may have brought in pages of another that was packed before.
    for (const auto& file : files_) file->ReleasePages(0, file->bytes());
    files_.clear();
  }

  void ForgetUnused() override {
    std::lock_guard lock(mutex_);
    std::erase_if(packed_,
                  [](const auto& entry) { return entry.second.second.buffer().use_count() == 1; });
  }

 private:
  // Bytes that one thread brings in or gives back at a time.
  static constexpr int64_t kPart = int64_t{1} << 18;

  // The weight, or a passing copy where reading it would make a lasting one.
  Result<Tensor> Readable(const Tensor& weight) {
    const auto bytes = size_t(weight.bytes());
    const bool mapped = Buffer::FileOf(weight.buffer()) != nullptr;
    if (!weight.buffer()->unaligned()) {
      if (mapped)
        ParallelFor(int64_t(bytes), kPart, [&](int64_t begin, int64_t end) {
          Populate(weight.source() + begin, size_t(end - begin));
        });
      return weight;
    }
    if (staging_ == nullptr || staging_->bytes() < bytes) {
      staging_ = nullptr;
      staging_ = TRY(Buffer::Allocate(bytes));
    }
    ParallelFor(int64_t(bytes), kPart, [&](int64_t begin, int64_t end) {
      const Buffer& b = *weight.buffer();
      const size_t from = weight.offset() + size_t(begin), to = weight.offset() + size_t(end);
      if (mapped) Populate(b.origin(from), size_t(b.origin(to) - b.origin(from)));
      b.CopyTo(staging_->data() + begin, from, to - from);
    });
    return Tensor::Over(weight.dtype(), weight.dims(), staging_);
  }

  Result<Tensor> Moved(const Tensor& t) {
    const auto bytes = size_t(t.bytes());
    auto own = TRY(allocator_->Allocate(bytes));
    ParallelFor(int64_t(bytes), kPart, [&](int64_t begin, int64_t end) {
      std::memcpy(own.get() + begin, t.raw() + begin, size_t(end - begin));
    });
    std::byte* const data = own.get();
    return Tensor::Over(t.dtype(), t.dims(), Buffer::Borrow(data, bytes, std::move(own)));
  }

  // All pages of a part of a map in one call of the system, where it knows how: page by page they
  // take longer than reading them.
  static void Populate(const std::byte* from, size_t bytes) {
#ifdef MADV_POPULATE_READ
    static const auto page = uintptr_t(::sysconf(_SC_PAGESIZE));
    const auto first = reinterpret_cast<uintptr_t>(from) / page * page;
    ::madvise(reinterpret_cast<void*>(first), reinterpret_cast<uintptr_t>(from) + bytes - first,
              MADV_POPULATE_READ);
#else
    (void)from, (void)bytes;
#endif
  }

  ThreadPool* const pool_;
  const std::shared_ptr<CountedAllocator> allocator_;
  std::mutex mutex_;
  std::shared_ptr<Buffer> staging_;
  std::set<std::shared_ptr<const Buffer>> files_;  // whose weights were packed since Trim()
  // The weight itself is kept too: its address is the key.
  std::map<std::pair<const void*, std::string>, std::pair<Tensor, Tensor>> packed_;
};

}  // namespace

std::shared_ptr<PackedWeights> MakeWeightCache(ThreadPool* pool,
                                               std::shared_ptr<CountedAllocator> allocator) {
  return std::make_shared<Cache>(pool, std::move(allocator));
}

}  // namespace dunlin
