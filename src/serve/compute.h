// Who may compute now. A process has as many compute slots as CPUs it may use, and every execution
// of every model holds one per thread it uses, so compute threads never exceed the CPUs. Executions
// run on this class's workers, shared by all models, or in place on a thread that found a free
// slot.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "serve/infer.h"

namespace dunlin::serve {

// What has executions to run: the scheduler of a model.
class ComputeClient {
 public:
  virtual ~ComputeClient() = default;
  // One execution, on a worker, with so many slots, which end with this call.
  virtual void Run(int slots) = 0;
  // The time given to CallAt has come. On the timer's thread: do not compute here.
  virtual void OnTime() = 0;
};

// What an execution asks for.
struct ComputeDemand {
  int threads = 0;     // exactly so many, at most all; 0: what the load suggests
  int parallel = 1;    // executions of the same model there may be at a time
  int most = 0;        // threads beyond which an execution gains nothing; 0: not known
  bool scales = true;  // twice the threads make it nearly twice as fast
};

// Thread-safe. Must outlive its clients.
class Compute {
 public:
  explicit Compute(int slots);
  ~Compute();
  Compute(const Compute&) = delete;
  Compute& operator=(const Compute&) = delete;
  // The one of the process, with UsableCpus() slots.
  static Compute& Process();

  int slots() const { return slots_; }
  int free_slots() const { return std::max(0, free_.load(std::memory_order_relaxed)); }

  // One call of client.Run, as soon as its turn has come and slots are free, first come first
  // served over all clients.
  void Ready(ComputeClient& client, const ComputeDemand& demand);
  // Slots for an execution on the calling thread. False when others wait or too few are free.
  bool TryAcquire(int slots);
  void Release(int slots);
  // How many threads such an execution would get now.
  int Suggest(const ComputeDemand& demand) const { return Share(demand, free_slots()); }

  // client.OnTime() at that time, or a little later. A later call replaces an earlier one.
  void CallAt(ComputeClient& client, TimePoint when);
  // Afterwards OnTime is not called and does not run. Not from OnTime.
  void CancelCall(ComputeClient& client);

  // Every request is counted while it waits and runs: how many there are at a time decides how many
  // threads an execution gets.
  void Arrived();
  void Left() { in_flight_.fetch_sub(1, std::memory_order_relaxed); }
  void Executed(int requests);  // so many requests by one execution
  float load() const { return load_.load(std::memory_order_relaxed); }  // requests in flight

 private:
  struct Waiting {
    ComputeClient* client;
    ComputeDemand demand;
  };
  int Share(const ComputeDemand& demand, int free) const;
  void Start();
  void Work();
  void Time();

  const int slots_;
  std::atomic<int> free_;
  std::atomic<int> waiting_{0};  // ready_.size(), to be looked at without the lock
  std::atomic<int> in_flight_{0};
  std::atomic<float> load_{1.f};           // requests in flight when one arrives, on average
  std::atomic<float> per_execution_{1.f};  // requests per execution, on average

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Waiting> ready_;
  bool stopping_ = false;
  std::vector<std::thread> workers_;  // started with the first use

  std::mutex time_mutex_;
  std::condition_variable time_wake_, time_done_;
  std::multimap<TimePoint, ComputeClient*> calls_;
  std::map<ComputeClient*, TimePoint> call_of_;
  ComputeClient* calling_ = nullptr;
  bool time_stopping_ = false;
  std::optional<std::thread> timer_;  // started with the first use
};

}  // namespace dunlin::serve
