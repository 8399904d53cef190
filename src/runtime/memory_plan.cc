#include "runtime/memory_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace dunlin {

MemoryPlan PlanMemory(std::span<const Lifetime> buffers) {
  const auto rounded = [](int64_t bytes) {
    return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
  };
  MemoryPlan plan;
  plan.offsets.assign(buffers.size(), 0);
  std::vector<size_t> order(buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    if (buffers[a].bytes != buffers[b].bytes) return buffers[a].bytes > buffers[b].bytes;
    return buffers[a].last - buffers[a].first > buffers[b].last - buffers[b].first;
  });
  std::vector<size_t> placed;  // by offset
  for (const size_t i : order) {
    const Lifetime& b = buffers[i];
    const int64_t need = rounded(b.bytes);
    int64_t best = -1, best_gap = std::numeric_limits<int64_t>::max(), end = 0;
    for (const size_t p : placed) {
      const Lifetime& o = buffers[p];
      if (o.last < b.first || b.last < o.first) continue;
      const int64_t gap = plan.offsets[p] - end;
      if (gap >= need && gap < best_gap) {
        best = end;
        best_gap = gap;
      }
      end = std::max(end, plan.offsets[p] + rounded(o.bytes));
    }
    plan.offsets[i] = best >= 0 ? best : end;
    plan.arena_bytes = std::max(plan.arena_bytes, plan.offsets[i] + need);
    plan.total_bytes += need;
    placed.insert(
        std::upper_bound(placed.begin(), placed.end(), i,
                         [&](size_t a, size_t c) { return plan.offsets[a] < plan.offsets[c]; }),
        i);
  }
  int steps = 0;
  for (const Lifetime& b : buffers) steps = std::max(steps, b.last + 2);
  std::vector<int64_t> change(static_cast<size_t>(steps), 0);
  for (const Lifetime& b : buffers) {
    change[size_t(b.first)] += rounded(b.bytes);
    change[size_t(b.last) + 1] -= rounded(b.bytes);
  }
  int64_t live = 0;
  for (const int64_t c : change) plan.max_live_bytes = std::max(plan.max_live_bytes, live += c);
  return plan;
}

}  // namespace dunlin
