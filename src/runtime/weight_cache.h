// Packed weights: made once from the bytes of the model file, shared by all plans and sessions of a
// program and by its sub-graphs, kept while one of them lives.
#pragma once

#include <memory>

#include "base/thread_pool.h"
#include "ops/op.h"

namespace dunlin {

// Packs with the threads of `pool`; on the calling thread alone when it is null.
std::shared_ptr<WeightCache> MakeWeightCache(ThreadPool* pool = nullptr);

}  // namespace dunlin
