#include "base/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace dunlin {
namespace {

// Threads that have a part of a job of their own; further ones help with the others'.
constexpr int kParts = 16;

// One ParallelFor in progress. It lives on the caller's stack: `users` counts the workers that may
// still touch it, and the caller leaves only when it is zero.
//
// Each thread begins with its own part of the chunks, the same share of the range in every job, so
// that it finds what it wrote in the step before in its own cache. Then it takes what is left of
// the others' parts: a thread that was descheduled holds nobody up.
struct Job {
  const RangeFn* fn;
  int64_t count, grain, chunks;
  int parts;
  int max_helpers;
  std::atomic<int> helpers{0};
  struct alignas(64) Part {
    std::atomic<int64_t> next;
    int64_t end;
  };
  Part part[kParts];

  Job(const RangeFn* f, int64_t n, int64_t g, int threads)
      : fn(f),
        count(n),
        grain(g),
        chunks((n + g - 1) / g),
        parts(std::min(threads, kParts)),
        max_helpers(threads - 1) {
    for (int i = 0; i < parts; ++i) {
      part[i].next.store(chunks * i / parts, std::memory_order_relaxed);
      part[i].end = chunks * (i + 1) / parts;
    }
  }

  bool Finished() const {
    for (int i = 0; i < parts; ++i)
      if (part[i].next.load(std::memory_order_relaxed) < part[i].end) return false;
    return true;
  }

  // Runs chunks until none is left, those of part `home` first.
  void Work(int home) {
    for (int i = 0; i < parts; ++i) {
      Part& p = part[(home + i) % parts];
      // Looked at before it is raised: a part that is used up stays so, and its line is not taken.
      while (p.next.load(std::memory_order_relaxed) < p.end) {
        const int64_t c = p.next.fetch_add(1, std::memory_order_relaxed);
        if (c >= p.end) break;
        (*fn)(c * grain, std::min(count, (c + 1) * grain));
      }
    }
  }
};

thread_local bool in_parallel_for = false;

inline void Pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

using Clock = std::chrono::steady_clock;

// How long a worker looks for the next job before it sleeps. To wake it costs a step of a small
// network some 8 us, so it stays awake over what one thread does alone between two steps, but not
// for longer than a few wakes cost: longer spinning takes the core from a neighbour.
constexpr auto kPatience = std::chrono::microseconds(50);
// Between two looks at the clock, less than a microsecond of pauses: a worker that sees this much
// pass was descheduled. Others want the core, and it sleeps at once.
constexpr auto kDescheduled = std::chrono::microseconds(20);
constexpr int kPauses = 16;
// How long a caller looks for the end of a helper's last chunk before it yields: some 150 us (a
// pause is 40-140 cycles on x86), longer than most chunks. Who yields may lose the core for
// milliseconds.
constexpr int kSpins = 6400;

// A helper that is late was descheduled: other processes want the cores, and every job would wait
// for whoever runs last. Jobs then get a thread less for a while, which doubles from the first to
// the second of these while helpers come late again. What a timeslice costs is 3
// to 4 ms; trying again costs one, so a three-hundredth of the time, and less than one in a hundred
// runs of a small network, when the cores stay busy.
constexpr auto kFirstRest = std::chrono::milliseconds(5),
               kLongestRest = std::chrono::milliseconds(1280);

// Waits for `done` while the core is ours to spend; true when it came.
template <class Done>
bool SpinUntil(const Done& done) {
  const auto start = Clock::now();
  for (auto before = start;;) {
    for (int i = 0; i < kPauses; ++i) {
      if (done()) return true;
      Pause();
    }
    const auto now = Clock::now();
    if (now - start > kPatience || now - before > kDescheduled) return done();
    before = now;
  }
}

// Jobs that can be in progress at once: one per thread that calls; further callers run alone.
constexpr int kSlots = 16;

}  // namespace

struct ThreadPool::Impl {
  struct alignas(64) Slot {
    std::atomic<Job*> job{nullptr};
    std::atomic<int> users{0};
  };
  Slot slots[kSlots];
  std::atomic<uint32_t> epoch{0};  // counts published jobs; workers sleep on it
  std::atomic<bool> stop{false};
  std::atomic<Clock::duration> rest{Clock::duration::zero()};  // how long the last one was
  std::atomic<Clock::time_point> rested{Clock::time_point{}};  // when it is over
  std::vector<std::thread> workers;

  std::atomic<int> fewer{1};  // threads of a job until then

  // How many of a job's threads to use now; ends the doubling when they were in time for long
  // enough.
  int Usable(int job_threads, Clock::time_point now) {
    const Clock::time_point end = rested.load(std::memory_order_relaxed);
    const Clock::duration last = rest.load(std::memory_order_relaxed);
    if (last != Clock::duration::zero() && now - end > last)
      rest.store(Clock::duration::zero(), std::memory_order_relaxed);
    return now >= end ? job_threads : std::min(job_threads, fewer.load(std::memory_order_relaxed));
  }
  // A helper of a job of so many threads was late.
  void Rest(int job_threads, Clock::time_point now) {
    const Clock::duration next = std::clamp<Clock::duration>(
        2 * rest.load(std::memory_order_relaxed), kFirstRest, kLongestRest);
    rest.store(next, std::memory_order_relaxed);
    fewer.store(std::max(1, job_threads - 1), std::memory_order_relaxed);
    rested.store(now + next, std::memory_order_relaxed);
  }

  // Helps one job; true when there was something to do.
  bool HelpOne(int worker) {
    bool helped = false;
    for (Slot& slot : slots) {
      if (slot.job.load(std::memory_order_relaxed) == nullptr) continue;
      slot.users.fetch_add(1, std::memory_order_seq_cst);
      if (Job* job = slot.job.load(std::memory_order_seq_cst); job != nullptr && !job->Finished()) {
        if (job->helpers.fetch_add(1, std::memory_order_relaxed) < job->max_helpers) {
          job->Work(worker);
          helped = true;
        }
        job->helpers.fetch_sub(1, std::memory_order_relaxed);
      }
      slot.users.fetch_sub(1, std::memory_order_release);
    }
    return helped;
  }

  void Loop(int worker) {
    in_parallel_for = true;  // work done by a worker never splits again
    uint32_t seen = epoch.load(std::memory_order_acquire);
    while (!stop.load(std::memory_order_acquire)) {
      if (HelpOne(worker)) continue;
      const auto called = [&] { return epoch.load(std::memory_order_acquire) != seen; };
      if (!SpinUntil(called)) epoch.wait(seen, std::memory_order_acquire);
      seen = epoch.load(std::memory_order_acquire);
    }
  }
};

ThreadPool::ThreadPool(int threads)
    : impl_(std::make_unique<Impl>()), threads_(std::max(1, threads)) {
  for (int i = 1; i < threads_; ++i) impl_->workers.emplace_back([this, i] { impl_->Loop(i); });
}

ThreadPool::~ThreadPool() {
  impl_->stop.store(true, std::memory_order_release);
  impl_->epoch.fetch_add(1, std::memory_order_release);
  impl_->epoch.notify_all();
  for (std::thread& t : impl_->workers) t.join();
}

void ThreadPool::ParallelFor(int64_t count, int64_t grain, RangeFn fn, int max_threads) {
  if (count <= 0) return;
  grain = std::max<int64_t>(1, grain);
  int64_t chunks = (count + grain - 1) / grain;
  const int threads =
      int(std::min<int64_t>(max_threads > 0 ? std::min(max_threads, threads_) : threads_, chunks));
  // As many chunks for each thread, all of much the same size: 3 chunks on 2 threads take as long
  // as 4.
  chunks = std::min(count, (chunks + threads - 1) / threads * threads);
  grain = (count + chunks - 1) / chunks;
  Job job(&fn, count, grain, threads);
  Impl::Slot* mine = nullptr;
  const bool split = threads > 1 && !in_parallel_for;
  const Clock::time_point start = split ? Clock::now() : Clock::time_point{};
  const int usable = split ? impl_->Usable(threads, start) : 1;
  job.max_helpers = usable - 1;  // the same chunks, whoever runs them
  if (usable > 1) {
    for (Impl::Slot& slot : impl_->slots) {
      Job* expected = nullptr;
      if (slot.job.compare_exchange_strong(expected, &job, std::memory_order_seq_cst)) {
        mine = &slot;
        break;
      }
    }
  }
  if (mine == nullptr) {  // alone: the same chunks in the same order
    const bool nested = in_parallel_for;
    in_parallel_for = true;
    job.Work(0);
    in_parallel_for = nested;
    return;
  }
  impl_->epoch.fetch_add(1, std::memory_order_release);
  impl_->epoch.notify_all();
  in_parallel_for = true;
  job.Work(0);
  in_parallel_for = false;
  // Nobody new may enter; wait for those inside. Spin first: the last chunk usually ends within
  // microseconds of ours.
  mine->job.store(nullptr, std::memory_order_seq_cst);
  const auto left = [&] { return mine->users.load(std::memory_order_acquire) == 0; };
  if (left()) return;
  const Clock::time_point worked = Clock::now();
  for (int spin = 0; spin < kSpins; ++spin) {
    if (left()) return;
    Pause();
  }
  while (!left()) std::this_thread::yield();
  // Longer than our own part took: that is not the length of a chunk.
  const Clock::time_point now = Clock::now();
  if (now - worked > worked - start) impl_->Rest(usable, now);
}

int UsableCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set)
                                                      : int(std::thread::hardware_concurrency());
  // cgroup v2: "<quota> <period>" or "max <period>", in microseconds.
  if (FILE* f = std::fopen("/sys/fs/cgroup/cpu.max", "r")) {
    long long quota = 0, period = 0;
    if (std::fscanf(f, "%lld %lld", &quota, &period) == 2 && quota > 0 && period > 0)
      n = std::min<int>(n, int((quota + period - 1) / period));
    std::fclose(f);
  }
  return std::max(1, n);
}

}  // namespace dunlin
