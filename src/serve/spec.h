// ModelSpec: what serving needs of a checked configuration, in native types.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "dunlin/engine.h"
#include "serve/model_config.pb.h"
#include "tensor/dims.h"
#include "tensor/dtype.h"

namespace dunlin::serve {

struct TensorSpec {
  std::string name;
  DType dtype = DType::kUndefined;
  Dims dims;  // of one item as clients see it, -1 variable; without the batch dimension
  std::optional<Dims> reshape;  // of one item as the engine sees it, when that differs
  bool any_shape = false;       // the graph does not say: any extents pass
  bool optional = false;
  bool ragged = false;              // inputs: requests of different extents may run together
  std::vector<std::string> labels;  // outputs: names of classes, may be empty
};

struct WarmupInput {
  std::string name;
  DType dtype = DType::kUndefined;
  Dims dims;  // of one item
  enum class Data : uint8_t { kZero, kRandom, kFile } data = Data::kZero;
  std::string file;  // kFile: path of raw bytes
};
struct WarmupSample {
  std::string name;
  int batch_size = 1;
  int count = 1;
  std::vector<WarmupInput> inputs;
};

// What becomes of a request that has waited for its time-out: refused, or run after all others.
enum class TimeoutAction : uint8_t { kReject, kDelay };

struct QueuePolicy {
  TimeoutAction timeout_action = TimeoutAction::kReject;
  int max_size = 0;                              // requests that may wait; 0: no bound of its own
  std::chrono::microseconds default_timeout{0};  // 0: none
  bool allow_timeout_override = true;
};

// dynamic_batching: requests are joined into batches.
struct BatchingSpec {
  // Sizes worth waiting for, ascending. Empty, with no delay: nobody said, so they are measured.
  std::vector<int64_t> preferred_sizes;
  std::chrono::microseconds max_delay{0};  // longest wait for a batch of such a size
  bool preserve_ordering = false;
  uint64_t priority_levels = 0;  // 0: no priorities
  uint64_t default_priority = 0;
  std::map<uint64_t, QueuePolicy> policies;  // by priority; others have ModelSpec::queue

  bool automatic() const { return preferred_sizes.empty() && max_delay.count() == 0; }
};

struct ModelSpec {
  std::string name;
  int64_t version = 0;
  std::string platform;
  int max_batch_size = 0;  // 0: shapes are complete as configured
  std::vector<TensorSpec> inputs, outputs;
  int instances = 0;  // executions side by side; 0: nobody said
  int threads = 0;    // of the engine, per execution; 0: nobody said
  bool optimize = true;
  QueuePolicy queue;
  std::optional<BatchingSpec> batching;
  std::chrono::microseconds slo{0};  // parameter slo_p99_ms: what requests should take; 0: none
  bool response_cache = false;
  std::vector<WarmupSample> warmup;
  std::map<std::string, std::string> metric_tags;
  std::map<std::string, std::vector<double>> histograms;  // of model_metrics: buckets by family
  std::string config_json;  // the whole configuration, for the config route

  const TensorSpec* FindInput(std::string_view input) const;
  const TensorSpec* FindOutput(std::string_view output) const;
};

struct SpecDefaults {
  int max_queue_size = 1024;
};

// From a configuration that CompleteAndCheck has passed; `written` is the same before completion,
// where what nobody said is still absent. `model_dir` is where label and warm-up files lie. Errors:
// kInvalidArgument (a parameter that is not a number), kNotFound (a label file).
Result<ModelSpec> MakeSpec(const inference::ModelConfig& config,
                           const inference::ModelConfig& written, int64_t version,
                           const std::string& model_dir, const SpecDefaults& defaults);

// Whether the engine may optimise: `optimization { graph { level: -1 } }` turns it off.
bool WantsOptimization(const inference::ModelConfig& config);
// Of the parameter "compute"; kInvalidArgument when it is none of f32, bf16 and int8.
Result<dunlin::Compute> ComputeOf(const inference::ModelConfig& config);

// Extents of a whole tensor: the batch dimension in front where the model has one.
Dims FullDims(const ModelSpec& model, const Dims& item);

}  // namespace dunlin::serve
