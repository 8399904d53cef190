// How many items a batch should have, from how long executions took so far.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <unordered_map>

namespace dunlin::serve {

// Latency by batch size of one model, one curve per shape of an item and number of threads, learnt
// from the executions themselves. A batch is worth its wait only where it makes items cheaper: the
// smallest size is taken whose throughput is as good as any, so a model that gains nothing from
// batches is served as if there were none. As long as there is no curve the size grows by steps
// while that pays, and halves when it breaks the latency target. Not thread-safe.
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

 private:
  // Few, so that a model has few plans; dense where the gain is.
  static constexpr std::array<int64_t, 18> kSteps = {1,  2,  3,  4,  6,   8,   12,  16,  24,
                                                     32, 48, 64, 96, 128, 192, 256, 384, 512};
  struct Curve {
    std::array<float, kSteps.size()> us{};
    std::array<uint16_t, kSteps.size()> samples{};
    size_t limit = 0;      // the largest step in use
    uint32_t choices = 0;  // since the limit was last measured
    uint64_t used = 0;
    bool Known(size_t step) const;
    float PerItem(size_t step) const { return us[step] / float(kSteps[step]); }
  };
  static size_t StepOf(int64_t items);  // the largest that is no larger
  static uint64_t Key(uint64_t shape, int threads);
  Curve& CurveOf(uint64_t shape, int threads);
  static size_t Best(const Curve& curve);  // the smallest step whose throughput is as good as any
  void MoveLimit(Curve& curve) const;
  bool InTime(const Curve& curve, size_t step) const;

  const int64_t max_batch_;
  const Microseconds slo_;
  uint64_t uses_ = 0;
  std::unordered_map<uint64_t, Curve> curves_;
};

}  // namespace dunlin::serve
