// Places buffers with known lifetimes in one arena.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace dunlin {

// Live from step `first` to step `last`, both included.
struct Lifetime {
  int64_t bytes = 0;
  int first = 0, last = 0;
};

struct MemoryPlan {
  std::vector<int64_t> offsets;  // parallel to the lifetimes, multiples of kArenaAlignment
  int64_t arena_bytes = 0;
  int64_t max_live_bytes = 0;  // the most that is alive at one step: no plan can need less
  int64_t total_bytes = 0;     // had nothing been shared
};

inline constexpr int64_t kArenaAlignment = 64;

// Buffers are placed one after the other, each into the tightest gap among those alive at the same
// time: largest first, or in the best of several orders where that needs more than max_live_bytes.
// Two buffers whose lifetimes meet never overlap. O(n²). The same buffers get the same plan.
MemoryPlan PlanMemory(std::span<const Lifetime> buffers);

}  // namespace dunlin
