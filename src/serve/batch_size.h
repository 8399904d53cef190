// How many items a batch should have and how many threads an execution, from how long executions
// took so far.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <unordered_map>

namespace dunlin::serve {

// What an item costs by batch size and threads, one table per shape of an item, learnt from the
// executions themselves. A batch is worth its wait only where it makes items cheaper: the smallest
// size is taken whose throughput is as good as any, so a model that gains nothing from batches is
// served as if there were none. As long as a size is unknown the size grows by steps while that
// pays and keeps the latency target.
//
// Machines are shared, and their speed changes by half within seconds. So the table holds ratios:
// how long an execution took against how long it should have taken at the speed of the moment,
// which is an average over the last few executions of any size. Now and then another size than the
// best is run, so that all ratios stay right. Not thread-safe.
class BatchSizer {
 public:
  using Microseconds = std::chrono::duration<float, std::micro>;

  // `slo`: what a request may take; 0: throughput alone counts.
  BatchSizer(int64_t max_batch, Microseconds slo) : max_batch_(max_batch), slo_(slo) {}

  void Record(uint64_t shape, int threads, int64_t items, Microseconds took);
  // Zero when it is not known.
  Microseconds Estimate(uint64_t shape, int threads, int64_t items) const;
  // False when it is known that batches of more than one item make nothing cheaper.
  bool MayGain(uint64_t shape, int threads) const;
  // Of `waiting` items, how many to run together; `slack`: until the first of them is late.
  int64_t Choose(uint64_t shape, int threads, int64_t waiting, Microseconds slack);
  struct ThreadUse {
    int most = 0;        // more threads would not make an execution notably faster
    bool scales = true;  // twice the threads make it nearly twice as fast
  };
  // Of `offered` threads, what an execution of so many items makes of them.
  ThreadUse Threads(uint64_t shape, int64_t items, int offered);

 private:
  // Few, so that a model has few plans; dense where the gain is.
  static constexpr std::array<int64_t, 18> kSteps = {1,  2,  3,  4,  6,   8,   12,  16,  24,
                                                     32, 48, 64, 96, 128, 192, 256, 384, 512};
  // Executions with so many threads.
  struct Row {
    std::array<float, kSteps.size()>
        cost{};  // of an item; 1 is that of the shape's first execution
    std::array<uint16_t, kSteps.size()> samples{};
    size_t limit = 0;  // the largest step in use
    uint32_t choices = 0;
    bool Known(size_t step) const;
  };
  struct Curve {
    float speed = 0;  // microseconds that cost 1 takes at present
    std::map<int, Row> rows;
    uint32_t choices = 0;  // of threads
    uint64_t used = 0;
  };
  static size_t StepOf(int64_t items);  // the largest that is no larger
  static float Latency(const Curve& curve, const Row& row, size_t step) {
    return curve.speed * row.cost[step] * float(kSteps[step]);
  }
  Curve& CurveOf(uint64_t shape);
  const Row* Find(uint64_t shape, int threads) const;
  static size_t Best(const Row& row);  // the smallest step whose throughput is as good as any
  void MoveLimit(const Curve& curve, Row& row) const;
  bool InTime(const Curve& curve, const Row& row, size_t step) const;

  const int64_t max_batch_;
  const Microseconds slo_;
  uint64_t uses_ = 0;
  std::unordered_map<uint64_t, Curve> curves_;
};

}  // namespace dunlin::serve
