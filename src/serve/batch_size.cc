#include "serve/batch_size.h"

#include <algorithm>

namespace dunlin::serve {
namespace {

// Shapes whose curves are kept; a model whose requests have more of them forgets the oldest.
constexpr size_t kCurves = 256;
// The first execution of a size plans for it, so it says nothing about the next. A size is known
// after two more.
constexpr uint16_t kFirstSamples = 3;
// Of the speed: the last ten executions, since machines change within milliseconds.
constexpr float kSpeedWeight = 0.1f;
// Of a cost: it changes hardly ever, and one execution differs from the next by a third.
constexpr uint16_t kCostSamples = 128;
// A descheduled execution counts as one that took so many times as long as usual.
constexpr float kOutlier = 2.f;
// Within this share of the best throughput the smaller batch is the better one: it answers sooner,
// and what is measured is no more exact.
constexpr float kGain = 1.07f;
// Twice the threads are used where they make an execution faster by this factor.
constexpr float kThreadGain = 1.1f;
// With this gain, all threads on one execution after the other do nearly as much as side by side.
constexpr float kScales = 1.4f;
// One choice of so many looks at another size or number of threads than the best.
constexpr uint32_t kProbe = 32;

}  // namespace

bool BatchSizer::Row::Known(size_t step) const { return samples[step] >= kFirstSamples; }

size_t BatchSizer::StepOf(int64_t items) {
  const auto it = std::upper_bound(kSteps.begin(), kSteps.end(), items);
  return it == kSteps.begin() ? 0 : size_t(it - kSteps.begin()) - 1;
}

BatchSizer::Curve& BatchSizer::CurveOf(uint64_t shape) {
  auto it = curves_.find(shape);
  if (it == curves_.end()) {
    if (curves_.size() >= kCurves)
      curves_.erase(std::min_element(
          curves_.begin(), curves_.end(),
          [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
    it = curves_.try_emplace(shape).first;
  }
  it->second.used = ++uses_;
  return it->second;
}

const BatchSizer::Row* BatchSizer::Find(uint64_t shape, int threads) const {
  const auto curve = curves_.find(shape);
  if (curve == curves_.end()) return nullptr;
  const auto row = curve->second.rows.find(threads);
  return row == curve->second.rows.end() ? nullptr : &row->second;
}

void BatchSizer::Record(uint64_t shape, int threads, int64_t items, Microseconds took) {
  if (items <= 0 || took.count() <= 0) return;
  Curve& c = CurveOf(shape);
  Row& row = c.rows[threads];
  const size_t step = StepOf(items);
  float& cost = row.cost[step];
  uint16_t& samples = row.samples[step];
  float sample = took.count() / float(items);
  if (samples > 1) {
    sample = std::min(sample, kOutlier * cost * c.speed);
    const float weight = 1.f / float(std::min(samples, kCostSamples));
    const float measured = sample / c.speed;
    c.speed += kSpeedWeight * (sample / cost - c.speed);
    cost += weight * (measured - cost);
  } else if (samples == 1) {
    if (c.speed == 0) c.speed = sample;
    cost = sample / c.speed;
  }
  if (samples < UINT16_MAX) ++samples;
  if (step >= row.limit && row.Known(step)) MoveLimit(c, row);
}

bool BatchSizer::InTime(const Curve& c, const Row& row, size_t step) const {
  // Who comes when a batch has just begun waits for it before its own.
  return step == 0 || slo_.count() <= 0 || !row.Known(step) ||
         Latency(c, row, step) * 2 <= slo_.count();
}

size_t BatchSizer::Best(const Row& row) {
  size_t best = 0;
  for (size_t s = 1; s <= row.limit; ++s)
    if (row.Known(s) && (!row.Known(best) || row.cost[s] * kGain < row.cost[best])) best = s;
  return best;
}

bool BatchSizer::MayGain(uint64_t shape, int threads) const {
  if (max_batch_ <= 1) return false;
  const Row* row = Find(shape, threads);
  return row == nullptr || !row->Known(row->limit) || Best(*row) > 0;
}

void BatchSizer::MoveLimit(const Curve& c, Row& row) const {
  // Two steps beyond the best are looked at: some kernels like only every other size.
  const size_t worth = Best(row) + 2;
  row.limit = std::min(row.limit, worth);
  const bool more = row.limit + 1 < kSteps.size() && kSteps[row.limit + 1] <= max_batch_;
  if (more && row.Known(row.limit) && row.limit < worth && InTime(c, row, row.limit)) ++row.limit;
}

BatchSizer::Microseconds BatchSizer::Estimate(uint64_t shape, int threads, int64_t items) const {
  const Row* row = Find(shape, threads);
  const size_t step = StepOf(items);
  if (row == nullptr || !row->Known(step)) return Microseconds(0);
  return Microseconds(curves_.at(shape).speed * row->cost[step] * float(items));
}

int64_t BatchSizer::Choose(uint64_t shape, int threads, int64_t waiting, Microseconds slack) {
  if (std::min(waiting, max_batch_) <= 1) return 1;
  Curve& c = CurveOf(shape);
  Row& row = c.rows[threads];
  const size_t top = std::min(StepOf(std::min(waiting, max_batch_)), row.limit);
  if (top == row.limit && !row.Known(top)) return kSteps[top];
  const auto best_of = [&](const auto& allowed, float gain) {
    size_t best = 0;
    for (size_t s = 1; s <= top; ++s)
      if (allowed(s) && (!row.Known(best) || row.cost[s] * gain < row.cost[best])) best = s;
    return best;
  };
  const auto sustained = [&](size_t s) { return row.Known(s) && InTime(c, row, s); };
  const auto first_in_time = [&](size_t s) {
    return sustained(s) && Latency(c, row, s) <= slack.count();
  };
  if (++row.choices % kProbe == 0) {
    const size_t other = row.choices / kProbe % (top + 1);
    if (other == 0 || first_in_time(other)) return kSteps[other];
  }
  // Too late for the first one either way: what waits must be worked off.
  if (Latency(c, row, 0) > slack.count())
    return kSteps[best_of([&](size_t s) { return row.Known(s); }, 1)];
  // Where more wait than a batch holds, a smaller one would save the first and lose others.
  const size_t best = best_of(sustained, 1);
  if (waiting > kSteps[best]) return kSteps[best];
  return kSteps[best_of(first_in_time, kGain)];
}

BatchSizer::ThreadUse BatchSizer::Threads(uint64_t shape, int64_t items, int offered) {
  if (offered <= 1) return {1};
  Curve& c = CurveOf(shape);
  const size_t step = StepOf(items);
  const bool probe = ++c.choices % kProbe == 0;
  ThreadUse use{offered};
  while (use.most > 1) {
    const Row& all = c.rows[use.most];
    const Row& half = c.rows[use.most / 2];
    if (!all.Known(step)) break;
    if (!half.Known(step)) return {use.most / 2};
    const float gain = half.cost[step] / all.cost[step];
    use.scales = gain > kScales;
    if (gain > kThreadGain) {
      if (probe) use.most /= 2;
      break;
    }
    if (probe && c.choices / kProbe % 2 == 0) break;
    use.most /= 2;
  }
  return use;
}

}  // namespace dunlin::serve
