// Packed weights: made once from the bytes of the model file, shared by all plans and sessions of a
// program and by its sub-graphs, kept while one of them lives.
#pragma once

#include <memory>

#include "base/thread_pool.h"
#include "ops/op.h"

namespace dunlin {

class PackedWeights : public WeightCache {
 public:
  // Gives back what no plan holds any more.
  virtual void ForgetUnused() = 0;
};

// Packs with the threads of `pool`; on the calling thread alone when it is null.
std::shared_ptr<PackedWeights> MakeWeightCache(ThreadPool* pool = nullptr);

}  // namespace dunlin
