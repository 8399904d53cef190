// Execution: one session's state for one program. Runs plans, keeps what can be kept between runs.
#pragma once

#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "runtime/plan.h"
#include "runtime/workspace.h"

namespace dunlin {

// An input of a run, borrowed for its duration.
struct RunInput {
  const TensorView* view = nullptr;  // row-major; nullptr: a sequence, a map or nothing
  const std::shared_ptr<const SequenceValue>* sequence = nullptr;
};

// What a run needs from outside.
struct RunEnvironment {
  ThreadPool* pool = nullptr;
  ArenaPool* arenas = nullptr;
  int threads = 1;
  const std::function<bool()>* cancelled = nullptr;  // polled between steps
  bool timed = false;  // keep the times of all steps, for Execution::Times
};

// What a timed run took, step by step, sub-graphs inside the steps that ran them.
struct RunTimes {
  const Plan* plan = nullptr;
  std::vector<double> microseconds;           // per step, with what its sub-graphs took
  std::vector<std::vector<RunTimes>> bodies;  // per step
};

// Not thread-safe; make one per thread. Keeps the last few plans and their bindings, so that a
// repeated shape costs nothing.
class Execution {
 public:
  explicit Execution(std::shared_ptr<const Program> program);
  ~Execution();
  Execution(const Execution&) = delete;
  Execution& operator=(const Execution&) = delete;

  const std::shared_ptr<const Program>& program() const { return program_; }

  // inputs: in the graph's order; constants among the graph's inputs are skipped. Results in the
  // graph's order.
  Result<std::vector<RunValue>> Run(std::span<const RunInput> inputs, const RunEnvironment& env);
  // The plan for such inputs, made if need be.
  Result<const Plan*> Prepare(std::span<const RunInput> inputs);
  // Of the last run, or Prepare; null before.
  const Plan* plan() const;
  // Of the last run, which was timed. Sub-graphs that ran several times have their times added up.
  RunTimes Times() const;

 private:
  struct State;
  class Context;
  class Subgraph;
  Status RunStep(State& state, int index, const RunEnvironment& env);
  Status RunDynamic(State& state, int index, const RunEnvironment& env);
  Status RunLowered(State& state, const Step& step, const Kernel& kernel, const LayoutPlan& layouts,
                    Context& ctx);
  std::shared_ptr<const Program> program_;
  std::vector<Type> last_types_;
  std::unique_ptr<State> state_;
  // Bindings of earlier shapes, the latest at the end: batches of a server come in a few sizes.
  struct Kept {
    std::vector<Type> types;
    std::unique_ptr<State> state;
  };
  std::vector<Kept> kept_;
};

}  // namespace dunlin
