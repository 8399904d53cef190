#include "runtime/memory_plan.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace dunlin {
namespace {

using Order = std::vector<size_t>;

int64_t Rounded(int64_t bytes) {
  return (bytes + kArenaAlignment - 1) / kArenaAlignment * kArenaAlignment;
}

int64_t MaxLiveBytes(std::span<const Lifetime> buffers) {
  int steps = 0;
  for (const Lifetime& b : buffers) steps = std::max(steps, b.last + 2);
  std::vector<int64_t> change(static_cast<size_t>(steps), 0);
  for (const Lifetime& b : buffers) {
    change[size_t(b.first)] += Rounded(b.bytes);
    change[size_t(b.last) + 1] -= Rounded(b.bytes);
  }
  int64_t live = 0, most = 0;
  for (const int64_t c : change) most = std::max(most, live += c);
  return most;
}

struct Placement {
  std::vector<int64_t> offsets;
  int64_t arena_bytes = 0;
};

// One after the other, each into the tightest gap among those alive at the same time.
Placement Place(std::span<const Lifetime> buffers, const Order& order) {
  Placement result;
  result.offsets.assign(buffers.size(), 0);
  std::vector<int64_t>& offsets = result.offsets;
  Order placed;  // by offset
  placed.reserve(order.size());
  for (const size_t i : order) {
    const Lifetime& b = buffers[i];
    const int64_t need = Rounded(b.bytes);
    int64_t best = -1, best_gap = std::numeric_limits<int64_t>::max(), end = 0;
    for (const size_t p : placed) {
      const Lifetime& o = buffers[p];
      if (o.last < b.first || b.last < o.first) continue;
      const int64_t gap = offsets[p] - end;
      if (gap >= need && gap < best_gap) {
        best = end;
        best_gap = gap;
      }
      end = std::max(end, offsets[p] + Rounded(o.bytes));
    }
    offsets[i] = best >= 0 ? best : end;
    result.arena_bytes = std::max(result.arena_bytes, offsets[i] + need);
    placed.insert(std::upper_bound(placed.begin(), placed.end(), i,
                                   [&](size_t a, size_t c) { return offsets[a] < offsets[c]; }),
                  i);
  }
  return result;
}

// Buffers by falling keys; equal ones keep the order of the steps.
template <class Key>
Order OrderBy(std::span<const Lifetime> buffers, Key key) {
  Order order(buffers.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return key(buffers[a]) > key(buffers[b]); });
  return order;
}

// The placements tried after the first visit at most this many pairs of buffers, which takes about
// 15 ms.
constexpr size_t kMaxVisits = size_t{1} << 22;
constexpr size_t kMaxRounds = 64;

}  // namespace

MemoryPlan PlanMemory(std::span<const Lifetime> buffers) {
  MemoryPlan plan;
  plan.max_live_bytes = MaxLiveBytes(buffers);
  for (const Lifetime& b : buffers) plan.total_bytes += Rounded(b.bytes);

  const auto length = [](const Lifetime& b) { return int64_t{b.last} - b.first; };
  Order order = OrderBy(buffers, [&](const Lifetime& b) { return std::pair(b.bytes, length(b)); });
  Placement best = Place(buffers, order);
  size_t rounds =
      std::min(kMaxRounds, kMaxVisits / std::max<size_t>(1, buffers.size() * buffers.size()));
  const auto improvable = [&] { return best.arena_bytes > plan.max_live_bytes && rounds > 0; };
  const auto attempt = [&](Order candidate) {
    if (!improvable()) return;
    --rounds;
    Placement p = Place(buffers, candidate);
    if (p.arena_bytes >= best.arena_bytes) return;
    best = std::move(p);
    order = std::move(candidate);
  };
  attempt(
      OrderBy(buffers, [&](const Lifetime& b) { return double(b.bytes) * double(length(b) + 1); }));
  attempt(OrderBy(buffers, [&](const Lifetime& b) { return std::pair(length(b), b.bytes); }));
  attempt(OrderBy(buffers, [](const Lifetime& b) { return -b.first; }));
  // Whoever sticks out at the top found the gaps filled by others: he goes before them.
  for (Placement last = best; improvable(); --rounds) {
    const auto top = std::find_if(order.begin(), order.end(), [&](size_t i) {
      return last.offsets[i] + Rounded(buffers[i].bytes) == last.arena_bytes;
    });
    std::rotate(order.begin(), top, top + 1);
    last = Place(buffers, order);
    if (last.arena_bytes < best.arena_bytes) best = last;
  }
  plan.offsets = std::move(best.offsets);
  plan.arena_bytes = best.arena_bytes;
  return plan;
}

}  // namespace dunlin
