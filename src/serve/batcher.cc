#include "serve/batcher.h"

#include <algorithm>

namespace dunlin::serve {
namespace {

// Executions shorter than this run on the I/O thread that brought them: handing one over and back
// costs two wakes, some 20 to 50 us, and nobody notices that the thread was away for so long.
constexpr BatchSizer::Microseconds kInPlace{200};
// The same where requests could be joined: what a batch may save is then more than a wake.
constexpr BatchSizer::Microseconds kInPlaceBatched{50};
constexpr float kAlone = 1.5f;  // requests in flight at a time, below which there is nobody to join
// How far into the queue batches are looked for; with more waiting than that they are full anyway.
constexpr size_t kLookAhead = 512;
// Batches of different shapes that are filled at the same time.
constexpr size_t kGroups = 16;

}  // namespace

Batcher::Batcher(const ModelSpec& spec, std::vector<std::unique_ptr<Instance>> instances,
                 int max_instances, JobRunner& runner, Compute& compute)
    : spec_(spec),
      batching_(spec.batching ? &*spec.batching : nullptr),
      max_instances_(std::max(max_instances, int(instances.size()))),
      runner_(runner),
      compute_(compute),
      queue_(spec),
      sizer_(std::max(1, spec.max_batch_size), spec.slo),
      demand_{.threads = spec.threads, .parallel = max_instances_},
      idle_(std::move(instances)),
      made_(int(idle_.size())) {}

Batcher::~Batcher() {
  {
    std::unique_lock lock(mutex_);
    stopping_ = true;  // nobody waits for company any more
    Dispatch(Clock::now());
    idle_again_.wait(lock, [&] { return queue_.empty() && running_ == 0 && announced_ == 0; });
  }
  compute_.CancelCall(*this);
}

bool Batcher::Enqueue(Job& job) {
  Compute& compute = compute_;  // this may be gone when its last job is answered
  compute.Arrived();
  std::unique_lock lock(mutex_);
  if (batching_ != nullptr && batching_->preserve_ordering) job.ticket = order_.Take();
  if (demand_.threads == 0) {
    const auto use = sizer_.Threads(job.shape, job.batch, compute.slots());
    demand_.most = use.most;
    demand_.scales = use.scales;
  }
  std::unique_ptr<Instance> instance;
  if (const int slots = TryInPlace(job, instance); slots > 0) {
    ++running_;
    lock.unlock();
    RunInPlace(job, std::move(instance), slots);
    compute.Release(slots);
    return true;
  }
  JobPtr queued = std::make_unique<Job>(std::move(job));
  const TimePoint now = queued->enqueued;
  // A request that a free instance takes at once does not wait, so it does not count.
  const auto room = size_t(std::max(0, std::min(FreeInstances(), compute.free_slots())));
  if (!queue_.Push(queued, now, room)) {
    job = std::move(*queued);
    lock.unlock();
    if (batching_ != nullptr && batching_->preserve_ordering)
      order_.Ready(job.ticket, nullptr, [&](Job& j) { runner_.Answer(j); });
    compute.Left();
    return false;
  }
  runner_.Pending(1);
  Dispatch(now);
  return true;
}

// ---- in place ----

bool Batcher::Waits(const Job& job) const {
  if (batching_ == nullptr || batching_->max_delay.count() == 0) return false;
  const auto& sizes = batching_->preferred_sizes;
  return !(std::binary_search(sizes.begin(), sizes.end(), job.batch) || job.batch >= Largest());
}

int Batcher::TryInPlace(const Job& job, std::unique_ptr<Instance>& instance) {
  if (!queue_.empty() || idle_.empty() || stopping_ || Waits(job)) return 0;
  const int threads = compute_.Suggest(demand_);
  const auto took = sizer_.Estimate(job.shape, threads, job.batch);
  if (took.count() <= 0 || took > kInPlace) return 0;
  if (batching_ != nullptr && took > kInPlaceBatched && compute_.load() > kAlone &&
      sizer_.MayGain(job.shape, threads))
    return 0;
  if (!compute_.TryAcquire(threads)) return 0;
  instance = TakeIdle();
  return threads;
}

void Batcher::RunInPlace(Job& job, std::unique_ptr<Instance> instance, int slots) {
  Job* const jobs[] = {&job};
  job.started = job.enqueued;  // not worth another look at the clock
  const auto took = runner_.Execute(*instance, jobs, slots);
  const int64_t items = job.batch;
  const uint64_t shape = job.shape;
  if (batching_ != nullptr && batching_->preserve_ordering)
    Answer(std::make_unique<Job>(std::move(job)));
  else
    runner_.Answer(job);
  compute_.Left();
  compute_.Executed(1);
  std::unique_lock lock(mutex_);
  if (took.count() > 0) sizer_.Record(shape, slots, items, took);
  idle_.push_back(std::move(instance));
  if (!queue_.empty()) Dispatch(Clock::now());
  Leave(lock);
}

// ---- choosing a batch ----

Batcher::Pick Batcher::PickBatch(TimePoint now, int threads) {
  if (queue_.empty()) return {};
  if (batching_ != nullptr)
    return batching_->automatic() ? PickAutomatic(now, threads) : PickConfigured(now);
  Pick pick{.count = 1};
  queue_.ForEach([&](const Job& job) {
    pick.shape = job.shape;
    return false;
  });
  return pick;
}

Batcher::Pick Batcher::PickAutomatic(TimePoint now, int threads) {
  const Job* first = nullptr;
  int64_t waiting = 0;
  size_t seen = 0;
  queue_.ForEach([&](const Job& job) {
    if (first == nullptr) first = &job;
    if (job.shape == first->shape) waiting += job.batch;
    return ++seen < kLookAhead;
  });
  TimePoint late = first->expires;
  if (spec_.slo.count() > 0) late = std::min(late, first->request.arrival + spec_.slo);
  // Executions side by side do more than a larger one, so what waits is dealt out to all.
  const int others = std::min(FreeInstances() - 1, compute_.free_slots() / std::max(1, threads));
  const int64_t parts = 1 + std::max(0, others);
  const int64_t wanted =
      sizer_.Choose(first->shape, threads, (waiting + parts - 1) / parts, late - now);
  Pick pick{.shape = first->shape};
  int64_t items = 0;
  queue_.ForEach([&](const Job& job) {
    if (job.shape != pick.shape) return true;
    if (pick.count > 0 && items + job.batch > wanted) return false;
    items += job.batch;
    ++pick.count;
    return items < wanted;
  });
  return pick;
}

// As Triton: the largest preferred size that the requests at hand add up to; else what there is,
// once it cannot grow or has waited long enough.
Batcher::Pick Batcher::PickConfigured(TimePoint now) const {
  struct Group {
    uint64_t shape;
    int64_t items = 0;
    size_t count = 0, preferred = 0;  // requests: all, those that add up to a preferred size
    TimePoint oldest = TimePoint::max();
    bool full = false;
  };
  const auto& sizes = batching_->preferred_sizes;
  const int64_t largest = Largest();
  std::vector<Group> groups;
  size_t seen = 0;
  queue_.ForEach([&](const Job& job) {
    auto g = std::find_if(groups.begin(), groups.end(),
                          [&](const Group& x) { return x.shape == job.shape; });
    if (g == groups.end()) {
      if (groups.size() == kGroups) return ++seen < kLookAhead;
      g = groups.insert(groups.end(), {.shape = job.shape});
    }
    if (!g->full && g->count > 0) {
      if (g->items + job.batch > largest && g->preferred == 0) g->preferred = g->count;
      g->full = g->items + job.batch > spec_.max_batch_size;
    }
    if (!g->full) {
      g->items += job.batch;
      ++g->count;
      g->oldest = std::min(g->oldest, job.enqueued);
      if (std::binary_search(sizes.begin(), sizes.end(), g->items)) g->preferred = g->count;
    }
    return !groups.front().full && ++seen < kLookAhead;
  });
  Pick wait;
  const auto delay = batching_->max_delay;
  for (const Group& g : groups) {
    const bool late = stopping_ || (delay.count() > 0 && now - g.oldest >= delay);
    if (g.preferred > 0 && !late) return {.shape = g.shape, .count = g.preferred};
    if (late || g.full || g.items >= largest || delay.count() == 0)
      return {.shape = g.shape, .count = g.count};
    wait.when = std::min(wait.when, g.oldest + delay);
  }
  return wait;
}

// ---- queued executions ----

std::unique_ptr<Instance> Batcher::TakeIdle() {
  if (idle_.empty()) return nullptr;
  auto instance = std::move(idle_.back());  // the one whose memory is warm
  idle_.pop_back();
  return instance;
}

// Asks for one more execution when there is something for it to do. One at a time suffices: each
// that begins or ends asks again.
void Batcher::Dispatch(TimePoint now) {
  if (queue_.empty()) return;
  TimePoint next = queue_.next_check();
  if (announced_ < FreeInstances() && size_t(announced_) < queue_.size()) {
    Pick pick{.count = 1};
    if (batching_ != nullptr && !batching_->automatic()) pick = PickConfigured(now);
    if (pick.count > 0) {
      ++announced_;
      compute_.Ready(*this, demand_);
    }
    next = std::min(next, pick.when);
  }
  if (next >= call_at_) return;
  call_at_ = next;
  compute_.CallAt(*this, next);
}

void Batcher::Leave(std::unique_lock<std::mutex>&) {
  if (--running_ == 0 && stopping_) idle_again_.notify_all();
}

void Batcher::Run(int slots) {
  std::unique_lock lock(mutex_);
  --announced_;
  ++running_;
  const TimePoint now = Clock::now();
  auto refused = queue_.TakeRefused(now);
  std::vector<JobPtr> jobs;
  std::unique_ptr<Instance> instance;
  if (FreeInstances() > 0) {
    const Pick pick = PickBatch(now, slots);
    if (pick.count > 0) jobs = queue_.Take(pick.shape, pick.count);
    for (JobPtr& job : jobs)
      if (job->request.IsCancelled()) refused.push_back({std::move(job), Refusal::kCancelled});
    std::erase(jobs, nullptr);
    if (!jobs.empty() && (instance = TakeIdle()) == nullptr) ++made_;
  }
  Dispatch(now);
  lock.unlock();
  Refuse(std::move(refused));
  if (!jobs.empty()) Execute(std::move(instance), std::move(jobs), slots);
  lock.lock();
  Leave(lock);
}

void Batcher::Execute(std::unique_ptr<Instance> instance, std::vector<JobPtr> jobs, int slots) {
  runner_.Pending(-int(jobs.size()));
  Status made;
  if (instance == nullptr) {
    if (auto fresh = runner_.CreateInstance())
      instance = std::move(*fresh);
    else
      made = Fail(std::move(fresh).error());
  }
  std::vector<Job*> all;
  int64_t items = 0;
  const TimePoint now = Clock::now();
  for (const JobPtr& job : jobs) {
    job->started = now;
    all.push_back(job.get());
    items += job->batch;
    if (!made) job->answer = Fail(made.error());
  }
  std::chrono::nanoseconds took{0};
  if (made) took = runner_.Execute(*instance, all, slots);
  {
    const std::lock_guard lock(mutex_);
    if (took.count() > 0) sizer_.Record(all[0]->shape, slots, items, took);
    if (instance != nullptr)
      idle_.push_back(std::move(instance));
    else
      --made_;
    Dispatch(Clock::now());
  }
  compute_.Executed(int(jobs.size()));
  for (JobPtr& job : jobs) {
    compute_.Left();
    Answer(std::move(job));
  }
}

void Batcher::OnTime() {
  std::vector<RequestQueue::Refused> refused;
  {
    const std::lock_guard lock(mutex_);
    call_at_ = TimePoint::max();
    const TimePoint now = Clock::now();
    refused = queue_.TakeRefused(now);
    Dispatch(now);
    if (stopping_) idle_again_.notify_all();
  }
  Refuse(std::move(refused));
}

// ---- answers ----

// At once, whatever the order: who is refused shall not wait for others.
void Batcher::Refuse(std::vector<RequestQueue::Refused> refused) {
  for (RequestQueue::Refused& r : refused) {
    runner_.Pending(-1);
    compute_.Left();
    runner_.Refuse(*r.job, r.reason);
    const uint64_t ticket = r.job->ticket;
    runner_.Answer(*r.job);
    if (batching_ != nullptr && batching_->preserve_ordering)
      order_.Ready(ticket, nullptr, [&](Job& j) { runner_.Answer(j); });
  }
}

void Batcher::Answer(JobPtr job) {
  if (batching_ == nullptr || !batching_->preserve_ordering) return runner_.Answer(*job);
  const uint64_t ticket = job->ticket;
  job->ended = {};  // it may still have to wait for others
  order_.Ready(ticket, std::move(job), [&](Job& j) { runner_.Answer(j); });
}

}  // namespace dunlin::serve
