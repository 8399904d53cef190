// How an operator is computed: a reference that specifies it, and optionally a lowering to a fast
// kernel. An operator is declared once: a struct with Attrs, Infer, Reference (and Lower), and one
// row of its family's table made by Declare<T>("Name", {…}).
//
//   struct LeakyRelu {
//     struct Attrs { float alpha = 0.01f; template <class V> void Visit(V& v) { v("alpha", alpha);
//     } }; static Status Infer(const Attrs&, InferContext&); static Status Reference(const Attrs&,
//     RunContext&);              // plain loops, double inside static Result<KernelPtr> Lower(const
//     Attrs&, LowerContext&);     // optional; nullptr: use Reference static LayoutPlan
//     Layouts(const Attrs&, const LayoutQuery&);     // optional
//   };
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/thread_pool.h"
#include "ir/op_def.h"

namespace dunlin {

class BandKernel;
class SubgraphRunner;

// A value that is not one tensor: a list of tensors, a map, or a list of maps. A map is two vectors
// of equal length: its values, and their keys (i64 or string), which are distinct.
struct SequenceValue {
  DType dtype = DType::kUndefined;
  std::vector<Tensor> items;
  DType key = DType::kUndefined;  // of maps: the type of their keys
  std::vector<Tensor> keys;       // of maps: for every item its keys
  bool is_map = false;            // one map, in items[0] and keys[0]

  static SequenceValue Map(Tensor keys, Tensor values);
  Type type() const {
    return {is_map ? Type::Kind::kMap : Type::Kind::kSequence, dtype, false, {}, key};
  }
};

// kInvalidArgument when it is a map or a list of maps.
Status NeedTensors(const SequenceValue& s);

// What a kernel or a reference sees while it runs.
class RunContext {
 public:
  virtual ~RunContext() = default;
  virtual int input_count() const = 0;
  virtual int output_count() const = 0;
  virtual bool has(int i) const = 0;
  virtual bool wants(int output) const = 0;
  virtual const TensorView& in(int i) const = 0;
  // The planned output; valid when inference gave its full type.
  virtual TensorView& out(int i) = 0;
  // For outputs whose extents depend on data: gives the output its extents and memory.
  virtual Result<TensorView*> Allocate(int output, DType dtype, const Dims& dims) = 0;
  // An owning handle of an input (copied if the executor does not own it); for sequences and
  // sub-graphs.
  virtual Result<Tensor> TakeInput(int i) = 0;
  virtual Status SetOutput(int output, Tensor t) = 0;
  virtual const SequenceValue* sequence(int i) const = 0;  // nullptr when the input is a tensor
  virtual Status SetSequence(int output, SequenceValue s) = 0;
  virtual SubgraphRunner* subgraph(int branch) = 0;
  virtual void* scratch() = 0;  // Kernel::scratch_bytes() bytes, 64-byte aligned
  // Splits work over the threads this run may use; see ThreadPool::ParallelFor.
  virtual void ParallelFor(int64_t count, int64_t grain, RangeFn fn) = 0;
  virtual int threads() const = 0;
};

// A value on its way into or out of a run: a tensor, a sequence or map, or nothing (an optional
// without a value).
struct RunValue {
  Tensor tensor;
  std::shared_ptr<const SequenceValue> sequence;
  bool present() const { return tensor.defined() || sequence != nullptr; }
};
// An input of any kind, owned; and an output of any kind. For steps that the executor runs
// dynamically.
Result<RunValue> TakeValue(RunContext& ctx, int input);
Status SetValue(RunContext& ctx, int output, RunValue value);

// Runs a sub-graph: formal inputs in, outputs out. Captured values are bound by the executor.
class SubgraphRunner {
 public:
  virtual ~SubgraphRunner() = default;
  virtual Result<std::vector<RunValue>> Run(std::vector<RunValue> formal) = 0;
};

// What a kernel does with an input that is constant while it runs. What is packed is not read, and
// needs no memory beside its packed form.
enum class InputUse : uint8_t {
  kNothing,
  kBytes,  // read by memcpy, at any address
  kValues,
};

// What a kernel that moves elements does, seen as one value being a part of another: an input of
// the output it goes to (Concat), or an output of the input it comes from (Split, Slice).
struct PartMove {
  static constexpr int64_t kNoPart = -1;
  int input = 0, output = 0;
  bool whole_is_output = false;
  int64_t offset = kNoPart;  // elements, from the start of the whole; kNoPart: it is none
  // TensorView::pixel_stride of the part where the whole is contiguous; 0: so is the part.
  int64_t pixel_stride = 0;
};

// One prepared computation: packed weights and precomputed arguments inside. Immutable and
// thread-safe; everything that changes lies in the RunContext.
class Kernel {
 public:
  virtual ~Kernel() = default;
  virtual Status Run(RunContext& ctx) const = 0;
  virtual size_t scratch_bytes() const { return 0; }
  virtual std::string_view name() const = 0;  // "gemm.packed"
  virtual InputUse uses(int input) const { return (void)input, InputUse::kValues; }
  // Whether that operand may have a pixel_stride. One that may not is contiguous.
  virtual bool reads_strided(int input) const { return (void)input, false; }
  virtual bool writes_strided(int output) const { return (void)output, false; }
  // All that a kernel does which does nothing but move elements; empty for others. Where part and
  // whole are the same memory, it moves nothing.
  virtual std::span<const PartMove> moves() const { return {}; }
  // The same computation in bands of rows, if it can be had; see ops/band.h.
  virtual const BandKernel* bands() const { return nullptr; }
};
using KernelPtr = std::unique_ptr<const Kernel>;

// Keeps packed weights once, however many plans and sessions use them.
class WeightCache {
 public:
  virtual ~WeightCache() = default;
  // The tensor made by `pack` the first time this (weight bytes, recipe) is asked for. `recipe`
  // must name everything the packing depends on besides the bytes. Thread-safe.
  virtual Result<Tensor> Get(const Tensor& weight, const std::string& recipe,
                             const std::function<Result<Tensor>(const Tensor&)>& pack) = 0;
  // For `pack`: splits its work over the threads there are; see ThreadPool::ParallelFor. What it
  // makes must not depend on the split.
  virtual void ParallelFor(int64_t count, int64_t grain, RangeFn fn) {
    (void)grain;
    if (count > 0) fn(0, count);
  }
  // Gives back memory that only packing needs.
  virtual void Trim() {}
};

// What a lowering knows: all types are static (IsStatic) and layouts are decided.
class LowerContext {
 public:
  virtual ~LowerContext() = default;
  virtual int input_count() const = 0;
  virtual int output_count() const = 0;
  virtual bool has(int i) const = 0;
  virtual bool wants(int output) const = 0;
  virtual const Type& input(int i) const = 0;
  virtual const Type& output(int i) const = 0;
  virtual const Tensor* value(int i) const = 0;  // constant inputs (weights)
  virtual Layout input_layout(int i) const = 0;
  virtual Layout output_layout(int i) const = 0;
  virtual WeightCache& weights() = 0;
  virtual int threads() const = 0;
  // Products of f32 with constant weights round both factors to bf16 and sum in f32
  // (kernels/bf16_product.h).
  virtual bool bf16_products() const { return false; }
};

// Layouts: a node says, given how its inputs are stored now, how it wants them and how it stores
// its outputs. Values whose rank is below 3, or whose two layouts coincide in memory, need no copy.
struct LayoutQuery {
  std::span<const Type> inputs;  // dtype kUndefined: absent
  std::span<const Type> outputs;
  std::span<const Layout> current;  // of each input
  std::vector<bool> constant;       // of each input
};
struct LayoutPlan {
  std::vector<Layout> inputs;
  std::vector<Layout> outputs;
};

struct OpImpl {
  Status (*reference)(const Attrs&, RunContext&) = nullptr;
  Result<KernelPtr> (*lower)(const Attrs&, LowerContext&) = nullptr;
  LayoutPlan (*layouts)(const Attrs&, const LayoutQuery&) = nullptr;
  // Multiply-accumulates for static types; nullptr: none.
  int64_t (*macs)(const Attrs&, std::span<const Type> in, std::span<const Type> out) = nullptr;
  // Output 0 may lie over this input when both have equal byte size and the input dies here; -1:
  // never, -2: any input of output 0's type.
  int in_place = -1;
};

struct OpTraits {
  std::string_view domain = "";
  int min_inputs = 1, max_inputs = 1;
  int min_outputs = 1, max_outputs = 1;
  bool is_view = false;
  bool nondeterministic = false;
  int subgraphs = 0;
  int in_place = -1;
};

// The table row of operator T. T may also be a table entry type whose functions are templates.
template <class T>
OpDef Declare(std::string_view name, const OpTraits& traits) {
  using A = typename T::Attrs;
  static const OpImpl impl = [&] {
    OpImpl i;
    i.reference = [](const Attrs& a, RunContext& c) -> Status { return T::Reference(As<A>(a), c); };
    if constexpr (requires { &T::Lower; })
      i.lower = [](const Attrs& a, LowerContext& c) -> Result<KernelPtr> {
        return T::Lower(As<A>(a), c);
      };
    if constexpr (requires { &T::Layouts; })
      i.layouts = [](const Attrs& a, const LayoutQuery& q) -> LayoutPlan {
        return T::Layouts(As<A>(a), q);
      };
    if constexpr (requires { &T::Macs; })
      i.macs = [](const Attrs& a, std::span<const Type> in, std::span<const Type> out) -> int64_t {
        return T::Macs(As<A>(a), in, out);
      };
    i.in_place = traits.in_place;
    return i;
  }();
  OpDef d;
  d.name = name;
  d.domain = traits.domain;
  d.min_inputs = traits.min_inputs;
  d.max_inputs = traits.max_inputs;
  d.min_outputs = traits.min_outputs;
  d.max_outputs = traits.max_outputs;
  d.is_view = traits.is_view;
  d.nondeterministic = traits.nondeterministic;
  d.subgraphs = traits.subgraphs;
  d.make_attrs = []() -> std::unique_ptr<Attrs> { return std::make_unique<AttrsOf<A>>(); };
  d.infer = [](const Attrs& a, InferContext& c) -> Status { return T::Infer(As<A>(a), c); };
  d.impl = &impl;
  return d;
}

// All operators of all families, sorted by (domain, name). The list of families is written by CMake
// from ops/CMakeLists.txt.
std::span<const OpDef* const> AllOps();
// nullptr when there is none.
const OpDef* FindOp(std::string_view name, std::string_view domain = "");

}  // namespace dunlin
