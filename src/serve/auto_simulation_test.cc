// Two CPUs in simulated time: what `auto` answers within a latency target, against settings by hand
// that know the model.
#include <gtest/gtest.h>

#include <deque>
#include <queue>
#include <random>

#include "serve/batch_size.h"
#include "serve/compute.h"

namespace dunlin::serve {
namespace {

using Us = BatchSizer::Microseconds;

struct ModelCurve {
  const char* name;
  float item_us;     // alone, by one thread
  float by_two;      // how much faster two threads are
  float batch_cost;  // of an item in a large batch, as a share of item_us
  float slo_us;
  float PerItem(int64_t batch) const {
    return item_us * (batch_cost + (1 - batch_cost) / float(batch));
  }
};

struct Setting {  // by hand
  int instances, threads;
  int64_t batch;
  double delay_us;
};

constexpr int64_t kMaxBatch = 8;

class Simulation {
 public:
  explicit Simulation(const ModelCurve& model)
      : model_(model), sizer_(kMaxBatch, Us(model.slo_us)) {}

  // The share of Poisson arrivals that is answered in time; `hand`: null for auto.
  double Goodput(double per_us, const Setting* hand) {
    std::exponential_distribution<double> gap(per_us);
    constexpr int kArrivals = 8000, kLearning = 1000;
    double next = gap(arrivals_);
    for (int arrived = 0; arrived < kArrivals || !queue_.empty() || !running_.empty();) {
      double now = arrived < kArrivals ? next : 1e18;
      if (!running_.empty()) now = std::min(now, running_.top().end);
      if (hand != nullptr && !queue_.empty() && queue_.front() + hand->delay_us > now_)
        now = std::min(now, queue_.front() + hand->delay_us);
      now_ = now;
      if (!running_.empty() && running_.top().end <= now) {
        Finish(arrived > kLearning);
      } else if (arrived < kArrivals && next <= now) {
        ++arrived;
        queue_.push_back(next);
        next += gap(arrivals_);
        compute_.Arrived();
        const auto use = sizer_.Threads(1, 1, 2);
        demand_.most = use.most;
        demand_.scales = use.scales;
      }
      while (!queue_.empty() && (hand != nullptr ? StartByHand(*hand) : StartAuto())) {
      }
    }
    return double(in_time_) / double(counted_);
  }

 private:
  struct Execution {
    double end, took;
    int threads;
    std::vector<double> arrivals;
    bool operator<(const Execution& other) const { return end > other.end; }
  };

  // As Batcher::PickAutomatic.
  bool StartAuto() {
    if (compute_.free_slots() == 0) return false;
    const int threads = compute_.Suggest(demand_);
    const int64_t parts = 1 + std::min(1 - int(running_.size()), compute_.free_slots() / threads);
    if (!compute_.TryAcquire(threads)) return false;
    const auto waiting = int64_t(queue_.size());
    const double slack = queue_.front() + model_.slo_us - now_;
    Start(threads, sizer_.Choose(1, threads, (waiting + parts - 1) / parts, Us(float(slack))));
    return true;
  }
  bool StartByHand(const Setting& s) {
    if (int(running_.size()) == s.instances) return false;
    const int64_t batch = std::min(int64_t(queue_.size()), s.batch);
    if (batch < s.batch && queue_.front() + s.delay_us > now_) return false;
    if (!compute_.TryAcquire(s.threads)) return false;
    Start(s.threads, batch);
    return true;
  }
  void Start(int threads, int64_t batch) {
    const double took = model_.PerItem(batch) * double(batch) / (threads == 2 ? model_.by_two : 1) *
                        std::uniform_real_distribution<double>(0.85, 1.2)(random_);
    running_.push({now_ + took, took, threads, {queue_.begin(), queue_.begin() + batch}});
    queue_.erase(queue_.begin(), queue_.begin() + batch);
  }
  void Finish(bool counts) {
    const Execution e = running_.top();
    running_.pop();
    sizer_.Record(1, e.threads, int64_t(e.arrivals.size()), Us(float(e.took)));
    compute_.Executed(int(e.arrivals.size()));
    compute_.Release(e.threads);
    for (const double arrival : e.arrivals) {
      compute_.Left();
      if (!counts) continue;
      ++counted_;
      if (now_ - arrival <= model_.slo_us) ++in_time_;
    }
  }

  const ModelCurve& model_;
  std::mt19937 arrivals_{7}, random_{7};
  BatchSizer sizer_;
  Compute compute_{2};
  ComputeDemand demand_{.parallel = 2};
  std::deque<double> queue_;  // times of arrival
  std::priority_queue<Execution> running_;
  double now_ = 0;
  int counted_ = 0, in_time_ = 0;
};

TEST(AutoSimulation, AnswersAsMuchInTimeAsTheBestSettingByHand) {
  const ModelCurve models[] = {
      {"no gain from batches, little from threads", 600, 1.2f, 1.f, 20000},
      {"no gain from batches, much from threads", 7000, 1.75f, 1.f, 20000},
      {"half the cost in batches", 2000, 1.3f, 0.5f, 20000},
      {"a target of four items", 5000, 1.6f, 0.8f, 20000},
  };
  for (const ModelCurve& model : models) {
    // Of batches after which a second one is still in time.
    int64_t batch = kMaxBatch;
    while (batch > 1 && 2 * model.PerItem(batch) * float(batch) > model.slo_us) --batch;
    const double most = 2 / double(model.PerItem(batch));
    for (const double load : {0.1, 0.3, 0.5, 0.7, 0.9}) {
      double best = 0;
      std::string best_name;
      for (const int threads : {1, 2}) {
        for (const int64_t size : {int64_t{1}, int64_t{4}, kMaxBatch}) {
          for (const double delay : {0., 2000.}) {
            const Setting hand{3 - threads, threads, size, delay};
            const double good = Simulation(model).Goodput(load * most, &hand);
            if (good <= best) continue;
            best = good;
            best_name = fmt::format("{} threads, {} items, {} us", threads, size, delay);
          }
        }
      }
      EXPECT_GE(Simulation(model).Goodput(load * most, nullptr), 0.95 * best)
          << model.name << " at " << load << "; best: " << best << " by " << best_name;
    }
  }
}

}  // namespace
}  // namespace dunlin::serve
