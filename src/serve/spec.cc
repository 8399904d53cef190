#include "serve/spec.h"

#include <algorithm>
#include <charconv>
#include <fstream>

#include "serve/config.h"
#include "serve/datatype.h"

namespace dunlin::serve {
namespace {

constexpr size_t kMaxLabelBytes = size_t{64} << 20;

const TensorSpec* Find(const std::vector<TensorSpec>& specs, std::string_view name) {
  const auto it =
      std::find_if(specs.begin(), specs.end(), [&](const TensorSpec& s) { return s.name == name; });
  return it == specs.end() ? nullptr : &*it;
}

template <class Repeated>
Dims ToDims(const Repeated& values) {
  Dims d;
  for (const int64_t v : values) d.push_back(v);
  return d;
}

template <class Io>
TensorSpec ToTensorSpec(const Io& io) {
  TensorSpec s;
  s.name = io.name();
  s.dtype = FromConfigType(io.data_type());
  s.dims = ToDims(io.dims());
  if (io.has_reshape()) s.reshape = ToDims(io.reshape().shape());
  return s;
}

// A path inside the model's folder; nothing that climbs out of it.
Result<std::string> InsideModel(const std::string& model_dir, const std::string& file,
                                std::string_view what) {
  if (file.empty() || file[0] == '/' || file.find("..") != std::string::npos)
    return Fail(Code::kInvalidArgument, "{} '{}' must be a path inside the model's folder", what,
                file);
  return model_dir + "/" + file;
}

Result<std::vector<std::string>> ReadLabels(const std::string& path) {
  std::ifstream in(path);
  if (!in) return Fail(Code::kNotFound, "unable to open label file '{}'", path);
  std::vector<std::string> labels;
  size_t bytes = 0;
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line.back() == '\r') line.pop_back();
    bytes += line.size() + 1;
    if (bytes > kMaxLabelBytes)
      return Fail(Code::kInvalidArgument, "label file '{}' is larger than {} bytes", path,
                  kMaxLabelBytes);
    labels.push_back(std::move(line));
  }
  return labels;
}

Result<int> IntParameter(const inference::ModelConfig& config, const std::string& key,
                         int fallback) {
  const auto it = config.parameters().find(key);
  if (it == config.parameters().end() || it->second.string_value().empty()) return fallback;
  const std::string& text = it->second.string_value();
  int value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || value < 0 || value > 1024)
    return Fail(Code::kInvalidArgument,
                "parameter '{}' of model '{}' must be a number from 0 to 1024, got '{}'", key,
                config.name(), text);
  return value == 0 ? fallback : value;
}

// Microseconds from a parameter in milliseconds; 0 when it is absent.
Result<std::chrono::microseconds> MillisecondParameter(const inference::ModelConfig& config,
                                                       const std::string& key) {
  const auto it = config.parameters().find(key);
  if (it == config.parameters().end() || it->second.string_value().empty())
    return std::chrono::microseconds(0);
  const std::string& text = it->second.string_value();
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size() || !(value >= 0.001) ||
      value > 3.6e6)
    return Fail(Code::kInvalidArgument,
                "parameter '{}' of model '{}' must be a number of milliseconds from 0.001 to "
                "3600000, got '{}'",
                key, config.name(), text);
  return std::chrono::microseconds(int64_t(value * 1000));
}

QueuePolicy ToQueuePolicy(const inference::ModelQueuePolicy& policy, int max_queue_size) {
  // Beyond a year a time-out is none; the bound keeps the arithmetic of clocks safe.
  constexpr uint64_t kYear = 366ull * 24 * 3600 * 1000000;
  QueuePolicy p;
  p.timeout_action = policy.timeout_action() == inference::ModelQueuePolicy::DELAY
                         ? TimeoutAction::kDelay
                         : TimeoutAction::kReject;
  p.max_size = policy.max_queue_size() > 0
                   ? int(std::min<uint32_t>(policy.max_queue_size(), 1 << 24))
                   : max_queue_size;
  p.default_timeout =
      std::chrono::microseconds(std::min(policy.default_timeout_microseconds(), kYear));
  p.allow_timeout_override = policy.allow_timeout_override();
  return p;
}

// `written`: before completion, which adds the sizes nobody asked for.
BatchingSpec ToBatchingSpec(const inference::ModelDynamicBatching& batching,
                            const inference::ModelDynamicBatching& written, int max_queue_size) {
  constexpr uint64_t kHour = 3600ull * 1000000;
  BatchingSpec b;
  b.max_delay = std::chrono::microseconds(std::min(written.max_queue_delay_microseconds(), kHour));
  if (written.preferred_batch_size_size() > 0 || b.max_delay.count() > 0)
    b.preferred_sizes.assign(batching.preferred_batch_size().begin(),
                             batching.preferred_batch_size().end());
  std::sort(b.preferred_sizes.begin(), b.preferred_sizes.end());
  b.preserve_ordering = batching.preserve_ordering();
  b.priority_levels = batching.priority_levels();
  b.default_priority = batching.default_priority_level();
  for (const auto& [level, policy] : batching.priority_queue_policy())
    b.policies[level] = ToQueuePolicy(policy, max_queue_size);
  return b;
}

Result<std::vector<WarmupSample>> MakeWarmup(const inference::ModelConfig& config,
                                             const std::string& model_dir) {
  std::vector<WarmupSample> samples;
  for (const inference::ModelWarmup& w : config.model_warmup()) {
    WarmupSample s;
    s.name = w.name();
    s.batch_size = int(std::clamp<uint32_t>(w.batch_size(), 1, 1 << 20));
    s.count = int(std::clamp<uint32_t>(w.count(), 1, 10000));
    for (const auto& [name, in] : w.inputs()) {
      WarmupInput input{.name = name,
                        .dtype = FromConfigType(in.data_type()),
                        .dims = ToDims(in.dims()),
                        .data = WarmupInput::Data::kZero,
                        .file = {}};
      switch (in.input_data_type_case()) {
        case inference::ModelWarmup::Input::kZeroData:
          break;
        case inference::ModelWarmup::Input::kRandomData:
          input.data = WarmupInput::Data::kRandom;
          break;
        case inference::ModelWarmup::Input::kInputDataFile:
          input.data = WarmupInput::Data::kFile;
          input.file =
              TRY(InsideModel(model_dir + "/warmup", in.input_data_file(), "warm-up file"));
          break;
        case inference::ModelWarmup::Input::INPUT_DATA_TYPE_NOT_SET:
          return Fail(
              Code::kInvalidArgument,
              "warm-up sample '{}' of model '{}' must give input '{}' zero_data, random_data "
              "or input_data_file",
              w.name(), config.name(), name);
      }
      s.inputs.push_back(std::move(input));
    }
    samples.push_back(std::move(s));
  }
  return samples;
}

}  // namespace

const TensorSpec* ModelSpec::FindInput(std::string_view input) const { return Find(inputs, input); }
const TensorSpec* ModelSpec::FindOutput(std::string_view output) const {
  return Find(outputs, output);
}

bool WantsOptimization(const inference::ModelConfig& config) {
  return config.optimization().graph().level() >= 0;
}

Result<dunlin::Compute> ComputeOf(const inference::ModelConfig& config) {
  const auto it = config.parameters().find("compute");
  if (it == config.parameters().end() || it->second.string_value() == "f32")
    return dunlin::Compute::kF32;
  if (it->second.string_value() == "bf16") return dunlin::Compute::kBF16;
  if (it->second.string_value() == "int8") return dunlin::Compute::kInt8;
  return Fail(Code::kInvalidArgument, "parameters.compute is '{}'; give f32, bf16 or int8",
              it->second.string_value());
}

Dims FullDims(const ModelSpec& model, const Dims& item) {
  if (model.max_batch_size == 0) return item;
  Dims full = item;
  full.insert(0, -1);
  return full;
}

Result<ModelSpec> MakeSpec(const inference::ModelConfig& config,
                           const inference::ModelConfig& written, int64_t version,
                           const std::string& model_dir, const SpecDefaults& defaults) {
  ModelSpec spec;
  spec.name = config.name();
  spec.version = version;
  spec.platform = config.platform();
  spec.max_batch_size = config.max_batch_size();
  for (const auto& io : config.input()) {
    spec.inputs.push_back(ToTensorSpec(io));
    spec.inputs.back().optional = io.optional();
    spec.inputs.back().ragged = io.allow_ragged_batch();
  }
  for (const auto& io : config.output()) {
    spec.outputs.push_back(ToTensorSpec(io));
    if (io.label_filename().empty()) continue;
    const std::string path = TRY(InsideModel(model_dir, io.label_filename(), "label_filename"));
    spec.outputs.back().labels = TRY(ReadLabels(path));
  }
  for (const auto& group : written.instance_group())
    if (group.count() > 0 && !group.passive()) spec.instances += group.count();
  spec.threads = TRY(IntParameter(config, "intra_op_thread_count", 0));
  spec.optimize = WantsOptimization(config);
  spec.queue.max_size = defaults.max_queue_size;
  if (config.dynamic_batching().has_default_queue_policy())
    spec.queue =
        ToQueuePolicy(config.dynamic_batching().default_queue_policy(), defaults.max_queue_size);
  if (config.has_dynamic_batching() && config.max_batch_size() > 0)
    spec.batching = ToBatchingSpec(config.dynamic_batching(), written.dynamic_batching(),
                                   defaults.max_queue_size);
  spec.slo = TRY(MillisecondParameter(config, "slo_p99_ms"));
  spec.response_cache = config.response_cache().enable();
  for (const auto& control : config.model_metrics().metric_control()) {
    const auto& buckets = control.histogram_options().buckets();
    spec.histograms[control.metric_identifier().family()].assign(buckets.begin(), buckets.end());
  }
  spec.warmup = TRY(MakeWarmup(config, model_dir));
  for (const auto& [k, v] : config.metric_tags()) spec.metric_tags[k] = v;
  spec.config_json = ConfigToJson(config);
  return spec;
}

}  // namespace dunlin::serve
