#include "serve/batch_size.h"

#include <algorithm>

namespace dunlin::serve {
namespace {

// Shapes whose curves are kept; a model whose requests have more of them forgets the oldest.
constexpr size_t kCurves = 256;
// The first execution of a size plans for it, so it says nothing about the next.
constexpr uint16_t kFirstSamples = 2;
constexpr float kWeight = 0.1f;
// A descheduled execution counts as one that took so many times as long as usual.
constexpr float kOutlier = 2.f;
// Within this share of the best throughput the smaller batch is the better one: it answers sooner,
// and measurements differ by as much from one to the next.
constexpr float kGain = 1.04f;
// After so many batches below the limit, one at the limit shows whether it is still right.
constexpr uint32_t kRefresh = 64;

}  // namespace

bool BatchSizer::Curve::Known(size_t step) const { return samples[step] >= kFirstSamples; }

size_t BatchSizer::StepOf(int64_t items) {
  const auto it = std::upper_bound(kSteps.begin(), kSteps.end(), items);
  return it == kSteps.begin() ? 0 : size_t(it - kSteps.begin()) - 1;
}

uint64_t BatchSizer::Key(uint64_t shape, int threads) {
  return shape ^ (uint64_t(threads) * 0x9e3779b97f4a7c15ull);
}

BatchSizer::Curve& BatchSizer::CurveOf(uint64_t shape, int threads) {
  const uint64_t key = Key(shape, threads);
  auto it = curves_.find(key);
  if (it == curves_.end()) {
    if (curves_.size() >= kCurves)
      curves_.erase(std::min_element(
          curves_.begin(), curves_.end(),
          [](const auto& a, const auto& b) { return a.second.used < b.second.used; }));
    it = curves_.try_emplace(key).first;
  }
  it->second.used = ++uses_;
  return it->second;
}

void BatchSizer::Record(uint64_t shape, int threads, int64_t items, Microseconds took) {
  Curve& c = CurveOf(shape, threads);
  const size_t step = StepOf(items);
  float sample = took.count() * float(kSteps[step]) / float(items);
  if (c.samples[step] < kFirstSamples) {
    c.us[step] = sample;
  } else {
    sample = std::min(sample, kOutlier * c.us[step]);
    c.us[step] += kWeight * (sample - c.us[step]);
  }
  if (c.samples[step] < UINT16_MAX) ++c.samples[step];
  if (step >= c.limit && c.Known(step)) {
    c.choices = 0;
    MoveLimit(c);
  }
}

bool BatchSizer::InTime(const Curve& c, size_t step) const {
  // Who comes when a batch has just begun waits for it before its own.
  return step == 0 || slo_.count() <= 0 || !c.Known(step) || c.us[step] * 2 <= slo_.count();
}

size_t BatchSizer::Best(const Curve& c) {
  size_t best = 0;
  for (size_t s = 1; s <= c.limit; ++s)
    if (c.Known(s) && (!c.Known(best) || c.PerItem(s) * kGain < c.PerItem(best))) best = s;
  return best;
}

bool BatchSizer::MayGain(uint64_t shape, int threads) const {
  if (max_batch_ <= 1) return false;
  const auto it = curves_.find(Key(shape, threads));
  if (it == curves_.end()) return true;
  const Curve& c = it->second;
  return !c.Known(c.limit) || Best(c) > 0;
}

void BatchSizer::MoveLimit(Curve& c) const {
  while (c.limit > 0 && !InTime(c, c.limit)) c.limit /= 2;
  // Two steps beyond the best are looked at: some kernels like only every other size.
  const bool more = c.limit + 1 < kSteps.size() && kSteps[c.limit + 1] <= max_batch_;
  if (more && c.Known(c.limit) && c.limit < Best(c) + 2 && InTime(c, c.limit + 1)) ++c.limit;
}

BatchSizer::Microseconds BatchSizer::Estimate(uint64_t shape, int threads, int64_t items) const {
  const auto it = curves_.find(Key(shape, threads));
  if (it == curves_.end()) return Microseconds(0);
  const size_t step = StepOf(items);
  if (!it->second.Known(step)) return Microseconds(0);
  return Microseconds(it->second.PerItem(step) * float(items));
}

int64_t BatchSizer::Choose(uint64_t shape, int threads, int64_t waiting, Microseconds slack) {
  waiting = std::min(waiting, max_batch_);
  if (waiting <= 1) return 1;
  Curve& c = CurveOf(shape, threads);
  const size_t top = std::min(StepOf(waiting), c.limit);
  if (top == c.limit && (!c.Known(top) || ++c.choices >= kRefresh)) return kSteps[top];
  size_t chosen = 0;
  for (size_t s = 1; s <= top; ++s) {
    if (!c.Known(s) || !InTime(c, s)) continue;
    // Too late for the first one either way: then throughput is all that can be saved.
    if (c.us[s] > slack.count() && c.us[0] <= slack.count()) continue;
    if (!c.Known(chosen) || c.PerItem(s) * kGain < c.PerItem(chosen)) chosen = s;
  }
  return kSteps[chosen];
}

}  // namespace dunlin::serve
