// The engine's public API: load a model, look at it, bind inputs, run. The command line, the server
// and embedders use this header alone.
//
//   auto model   = TRY(dunlin::Model::Load("net.onnx"));
//   auto session = TRY(dunlin::Session::Create(model));
//   auto outputs = TRY(session.Run({{"input", image}}));
//
// Thread safety: Model is immutable and shared freely; a Session is for one thread at a time (make
// one per worker: they share weights and compiled plans).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "formats/export.h"
#include "passes/report.h"
#include "runtime/allocator.h"
#include "tensor/tensor.h"

namespace dunlin {

// What a model input or output can hold.
struct PortInfo {
  std::string name;
  DType dtype = DType::kUndefined;  // kUndefined: the model does not say; any
  bool has_shape = false;           // false: any rank
  Dims dims;                        // unknown extents are negative
  std::vector<std::string>
      dim_names;          // per extent: the symbol's name, "" when it has none or is known
  bool optional = false;  // an input with a default value in the model
  bool sequence = false;  // a list of tensors (or maps), not one
  // Of a map, or of the maps in a sequence: the type of the keys, where dtype is that of the
  // values. kUndefined: there are no maps.
  DType key = DType::kUndefined;
};

// A tensor, a sequence of tensors, a map, a sequence of maps, or nothing (an optional that is
// absent). A map is two vectors of equal length: keys (i64 or string), which are distinct, and the
// value of each.
struct Value {
  enum class Kind : uint8_t { kNone, kTensor, kSequence, kMap } kind = Kind::kNone;
  Tensor tensor;                 // kMap: its values
  std::vector<Tensor> sequence;  // of maps: the values of each
  std::vector<Tensor> keys;      // kMap: its keys; a sequence of maps: the keys of each
  Value() = default;
  Value(Tensor t)
      : kind(Kind::kTensor), tensor(std::move(t)) {}  // NOLINT: a Value is mostly a tensor
  static Value Map(Tensor keys, Tensor values) {
    Value v(std::move(values));
    v.kind = Kind::kMap;
    v.keys.push_back(std::move(keys));
    return v;
  }
};

struct NamedTensor {
  std::string name;
  Tensor tensor;
};
struct NamedValue {
  std::string name;
  Value value;
};

enum class OptLevel : uint8_t {
  kNone,     // the graph as written, reference kernels where they differ from fast ones
  kDefault,  // everything that keeps results within the documented bounds
};

// Measuring which kernel is fastest for each step, instead of believing the cost models.
struct TuneOptions {
  // Where measurements are kept; empty: $XDG_CACHE_HOME/dunlin/tune-<hash of the CPU's model>.json.
  std::string file;
  // False: only what was measured before is used; nobody waits for measurements.
  bool measure = true;
  // The model has been run `done` of `total` times so far. Called on the thread that runs.
  std::function<void(int done, int total)> progress;
  // A sentence on a file that cannot be used; the measurements then last as long as the model.
  std::function<void(const std::string&)> warn;
};

// kBF16: f32 weights of matrix products with few rows, which take as long as reading them does, are
// rounded to bf16. Where the processor multiplies bf16 (kernels/bf16_product.h), both factors of
// matrix products and convolutions with constant weights are, whatever their rows. Sums and
// everything else compute as with kF32.
// kInt8: matrix products with constant weights compute on 8-bit codes: weights with a scale a
// column, the other factor quantised row by row as it comes (transformers); convolutions stay f32.
enum class Compute : uint8_t { kF32, kBF16, kInt8 };

struct LoadOptions {
  OptLevel opt = OptLevel::kDefault;
  Compute compute = Compute::kF32;
  // That sessions will mostly run with: work is split for so many. 0: all usable CPUs.
  int threads = 0;
  // Given: the first run with new input shapes measures, for `threads`, what the file does not
  // hold.
  std::optional<TuneOptions> tune;
  // Given: memory for this model's activations and packed weights; the model then has arenas of its
  // own, instead of sharing the process's. Results are not in it.
  std::optional<Allocator> allocator;
  // Where external data is looked for; empty: the model file's own folder.
  std::string external_data_dir;
  // Of Model::default_inputs: those that runs will give. The others are constants.
  std::vector<std::string> fed_defaults = {};
  // Names of values inside the model that are outputs as well, behind its own (dunlin/values.h);
  // codes come as the numbers they stand for. What computes them is fused no further than to them.
  std::vector<std::string> extra_outputs = {};
  // Outputs that are maps made of class scores (ZipMap) are the scores instead, as a tensor.
  bool scores_of_maps = false;
};

struct OperatorCount {
  std::string name;
  int count = 0;
};

// One row per executed step, filled by Session::Profile.
struct StepProfile {
  std::string name;    // node name of the source model, the first of a fused group
  std::string op;      // "Conv+Clip"
  std::string kernel;  // "conv.indirect", "reference", …
  std::string shape;   // output extents
  int64_t macs = 0;    // multiply-accumulates, 0 where the notion has no sense
  int64_t bytes = 0;   // inputs, outputs and weights, each counted once
  int64_t parameters = 0;
  double microseconds = 0;
};

// A step that several kernels can compute, as measured with LoadOptions::tune.
struct TunedStep {
  std::string name;                                 // node name of the source model
  std::string model_way, way;                       // what the cost model would take, what is taken
  double model_microseconds = 0, microseconds = 0;  // of each
};

// Totals for one set of input shapes.
struct CostReport {
  int64_t parameters = 0;  // elements of weights
  int64_t parameter_bytes = 0;
  int64_t macs = 0;
  int64_t memory_access_bytes = 0;
  int64_t arena_bytes = 0;          // planned peak of activations
  int64_t naive_bytes = 0;          // sum of all activations, had none been reused
  int64_t max_live_bytes = 0;       // lower bound for any plan
  OptimizationReport optimization;  // what knowing the shapes added to Model::optimization
  std::vector<StepProfile> steps;
};

class Model {
 public:
  // Reads, checks, and optimises a model file (.onnx). Errors: kNotFound, kInvalidArgument
  // (malformed, with the place), kUnimplemented (lists every operator that is missing, with node
  // names).
  static Result<std::shared_ptr<const Model>> Load(const std::string& path,
                                                   const LoadOptions& options = {});
  // The same from bytes of a model file; external data is looked for in options.external_data_dir.
  static Result<std::shared_ptr<const Model>> LoadBytes(std::span<const std::byte> bytes,
                                                        const LoadOptions& options = {});
  ~Model();

  std::span<const PortInfo> inputs() const;
  // Inputs with a value in the model (initialisers listed as inputs). They are constants; to give
  // them, load with LoadOptions::fed_defaults.
  std::span<const PortInfo> default_inputs() const;
  // The values in the model of those of inputs() that are there by LoadOptions::fed_defaults.
  std::span<const NamedTensor> fed_defaults() const;
  std::span<const PortInfo> outputs() const;
  const std::map<std::string, std::string>& metadata()
      const;                                     // producer, opset, ir_version, custom keys
  std::vector<OperatorCount> operators() const;  // of the graph as executed, sorted by name
  int64_t parameters() const;
  std::string Text() const;                        // the optimised graph, readable form
  const OptimizationReport& optimization() const;  // what loading did to the graph
  // Of LoadOptions::allocator, by this model and its sessions; zeros without one.
  MemoryUse memory() const;
  // Checks names, types and extents of inputs against the model; what Session::Run checks too.
  Status CheckInputs(std::span<const NamedTensor> inputs) const;
  Status CheckInputs(std::span<const NamedValue> inputs) const;
  // Whether Session::RunRagged can pack requests of different lengths; else kUnimplemented, naming
  // the node that stands against it. The first call takes as long as planning for new shapes.
  Status ragged() const;
  // Costs for these inputs (types and extents count, values matter only where they steer shapes).
  Result<CostReport> Cost(std::span<const NamedTensor> inputs) const;

 private:
  friend class Session;
  struct Impl;
  static Result<std::shared_ptr<const Model>> Parse(std::span<const std::byte> bytes,
                                                    std::shared_ptr<Buffer> backing,
                                                    const std::string& dir,
                                                    const std::string& real_dir,
                                                    const LoadOptions& options);
  explicit Model(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

struct SessionOptions {
  int threads = 0;  // at most this many of the process's pool; 0: all usable CPUs
};

struct RunOptions {
  std::vector<std::string> outputs;  // empty: all, in the model's order
  std::function<bool()> cancelled;   // polled between steps; true ends the run with kCancelled
  int threads = 0;                   // at most this many; 0: as many as the session may use
};

class Session {
 public:
  static Result<Session> Create(std::shared_ptr<const Model> model,
                                const SessionOptions& options = {});
  Session(Session&&) noexcept;
  Session& operator=(Session&&) noexcept;
  ~Session();

  // Inputs by name, in any order. Outputs are owned by the caller and stay valid after further
  // runs. Errors: kInvalidArgument (unknown or missing input, wrong type or shape), kCancelled,
  // kResourceExhausted, and kInvalidArgument from operators whose data break their contract (index
  // out of range…).
  Result<std::vector<NamedValue>> Run(std::span<const NamedTensor> inputs,
                                      const RunOptions& options = {});
  Result<std::vector<NamedValue>> Run(std::initializer_list<NamedTensor> inputs,
                                      const RunOptions& options = {}) {
    return Run(std::span<const NamedTensor>(inputs.begin(), inputs.size()), options);
  }
  // The same where all outputs asked for are tensors: less work around a small model.
  Result<std::vector<NamedTensor>> RunTensors(std::span<const NamedTensor> inputs,
                                              const RunOptions& options = {});
  // The same for models that take sequences or maps.
  Result<std::vector<NamedValue>> RunValues(std::span<const NamedValue> inputs,
                                            const RunOptions& options = {});
  // Several requests whose inputs [batch, length, …] differ in batch and length, as one run over
  // all tokens, without padding: the outputs of each, equal to those of a run of its own but for
  // the order of sums. Only where Model::ragged. An error is that of any of the requests. Outputs
  // share buffers. `cancelled` may be polled by several threads at once.
  Result<std::vector<std::vector<NamedTensor>>> RunRagged(
      std::span<const std::span<const NamedTensor>> requests, const RunOptions& options = {});
  // Plans and warms up for these inputs, so that the first Run with such shapes is as fast as the
  // next.
  Status Prepare(std::span<const NamedTensor> inputs);
  // Runs once, timing every step.
  Result<std::vector<StepProfile>> Profile(std::span<const NamedTensor> inputs);
  // What was measured for the steps outside sub-graphs; empty when the model is not tuned.
  Result<std::vector<TunedStep>> Tuning(std::span<const NamedTensor> inputs);
  int64_t arena_bytes() const;  // the workspace as it stands, its high-water mark
  const Model& model() const;

 private:
  struct Impl;
  explicit Session(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

// What WriteOptimized made.
struct WrittenModel {
  ExportReport file;
  OptimizationReport optimization;
};
// Reads the model file `from` and writes it to `to` as standard ONNX: what depends on constants
// only computed, what does nothing left out, equal nodes merged, scales and pads folded into
// convolutions. Other engines can load it and give the same answers. `to` must not be a file that
// the model is read from. Errors: those of Model::Load and ExportOnnx (formats/onnx.h).
Result<WrittenModel> WriteOptimized(const std::string& from, const std::string& to,
                                    const ExportOptions& options = {},
                                    const std::string& external_data_dir = {});

// The name and version of the engine, and the SIMD target it runs on here: "AVX3".
std::string_view Version();
std::string SimdTarget();

}  // namespace dunlin
