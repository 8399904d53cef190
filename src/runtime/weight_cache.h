// Packed weights: made once from the bytes of the model file, shared by all plans and sessions of a
// program and by its sub-graphs, kept while one of them lives.
#pragma once

#include <memory>

#include "base/thread_pool.h"
#include "ops/op.h"
#include "runtime/allocator.h"

namespace dunlin {

class PackedWeights : public WeightCache {
 public:
  // Gives back what no plan holds any more.
  virtual void ForgetUnused() = 0;
};

// Packs with the threads of `pool`; on the calling thread alone when it is null. With an allocator
// each packed weight moves to its memory when it is made.
std::shared_ptr<PackedWeights> MakeWeightCache(
    ThreadPool* pool = nullptr, std::shared_ptr<CountedAllocator> allocator = nullptr);

}  // namespace dunlin
