// Plan: a graph made ready for one set of input shapes. Immutable and shared by sessions: what to
// run in which order, on which memory. Program: a graph with its plans and packed weights.
#pragma once

#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "ops/op.h"
#include "passes/report.h"
#include "runtime/memory_plan.h"

namespace dunlin {

class Program;

// Where a value lives. Several slots may share the memory of one root slot: views, in-place
// results, the same bytes under the other layout.
struct Slot {
  enum class Kind : uint8_t {
    kArena,  // at `offset` of the run's arena
    kInput,  // the caller's memory, input `index`
    kConstant,
    kOutput,   // the buffer of output `index`, which the caller gets
    kDynamic,  // a tensor or sequence made while running
  };
  Kind kind = Kind::kArena;
  Layout layout = Layout::kRowMajor;
  Type type;
  int root = -1;
  // The slot whose memory this one shares, or whose part it is; -1: none.
  int parent = -1;
  bool in_place = false;     // over its parent to save memory; it might have some of its own
  bool part = false;         // lies somewhere in the memory of its root; see runtime/parts.h
  int64_t part_offset = 0;   // bytes, in its root's memory
  int64_t pixel_stride = 0;  // as TensorView's
  int index = -1;
  int64_t offset = 0;
  Tensor constant;
  InputUse use = InputUse::kNothing;  // of a constant, the most that any step makes of it
};

struct Step {
  NodeId node = NodeId::kNone;     // kNone for reorders and copies
  std::vector<NodeId> more_nodes;  // the others of a chain
  KernelPtr kernel;                // none for dynamic steps
  std::vector<int> inputs;         // slots; -1: absent
  std::vector<int> outputs;        // slots; -1: not wanted
  std::vector<int> captures;       // slots the sub-graphs read
  std::vector<std::shared_ptr<Program>> bodies;
  int64_t scratch_bytes = 0, scratch_offset = 0;
  std::string label;  // "Conv+Clip"
};

// A step that several kernels can compute, and the one it has; see ops/choice.h.
struct Choice {
  NodeId node = NodeId::kNone;
  std::string key;                // operator, attributes, types and layouts of inputs, threads
  std::vector<std::string> ways;  // in the order of the cost model
  size_t way = 0;
};

// Knows better than the cost models which way to take.
class WayPolicy {
 public:
  virtual ~WayPolicy() = default;
  virtual size_t First(const std::string& key, std::span<const std::string> ways) const = 0;
};

struct Plan {
  std::unique_ptr<const Graph> graph;
  std::vector<Slot> slots;
  std::vector<Step> steps;
  std::vector<int> input_slots;     // -1: an input nothing reads
  std::vector<int> output_slots;    // kOutput slots, or kDynamic ones that the caller takes over
  MemoryPlan memory;                // of arena slots and scratch
  OptimizationReport optimization;  // of what the shapes made possible
  std::vector<Choice> choices;      // only where the context has a policy
};

enum class PlanMode : uint8_t { kFast, kReference };

// When neighbouring steps become one that works in bands of rows; see runtime/chain.h.
struct ChainOptions {
  // An intermediate image that is smaller stays in a second-level cache (1 to 2 MiB a core) between
  // two steps by itself.
  int64_t spill_bytes = int64_t{768} << 10;
  // The bands of one thread, and the weights that every band reads again, share that cache.
  int64_t band_bytes = int64_t{512} << 10;
  int64_t weight_bytes = int64_t{512} << 10;
  // Neighbouring parts of an image both make the rows where they meet: with fewer rows than this
  // that costs more than sharing the image gains.
  int64_t least_part_rows = 14;
};

struct ProgramContext {
  PlanMode mode = PlanMode::kFast;
  int threads = 1;             // that kernels are planned for
  bool bf16_products = false;  // LowerContext::bf16_products
  std::shared_ptr<WeightCache> weights;
  ChainOptions chains;
  std::shared_ptr<const WayPolicy> ways;  // none: the cost models decide
};

class Program {
 public:
  Program(std::unique_ptr<Graph> graph, ProgramContext context)
      : graph_(std::move(graph)), context_(std::move(context)) {}

  const Graph& graph() const { return *graph_; }
  const ProgramContext& context() const { return context_; }
  // The plan for inputs of these types (in the graph's order), made on first use. Inputs of dynamic
  // kind (sequences) have their kind set and make no static shapes. Thread-safe.
  Result<std::shared_ptr<const Plan>> PlanFor(std::span<const Type> inputs) const;
  // The next PlanFor makes anew what the policy may now see otherwise. Thread-safe.
  void DropPlans() const;

 private:
  std::unique_ptr<Graph> graph_;
  ProgramContext context_;
  mutable std::mutex mutex_;
  mutable std::list<std::pair<std::string, std::shared_ptr<const Plan>>>
      plans_;  // most recently used first
};

Result<std::shared_ptr<const Plan>> BuildPlan(const Graph& graph, std::span<const Type> inputs,
                                              const ProgramContext& context);

// Runs an operator's reference; inputs and outputs row-major.
KernelPtr MakeReferenceKernel(const Node& node);
// Copies input 0 to output 0 of the same type, changing the layout if they differ.
KernelPtr MakeReorderKernel();
// The same at once, on the calling thread. Not for strings.
void CopyView(const TensorView& x, TensorView& y);

// Extents as they lie in memory.
Dims PhysicalDims(const Dims& dims, Layout layout);
// True when both layouts of such a tensor are the same bytes.
bool LayoutsCoincide(const Dims& dims);

}  // namespace dunlin
