#include "serve/config_check.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string_view>

#include "serve/datatype.h"

namespace dunlin::serve {
namespace {

using inference::ModelConfig;

constexpr int kMaxInstances = 256;             // per model; each is a thread
constexpr uint64_t kMaxPriorityLevels = 1000;  // each is a queue

// Parameters that are obeyed. Others are read by other engines only.
constexpr std::string_view kParameters[] = {"compute", "intra_op_thread_count", "slo_p99_ms"};

template <class... A>
tl::unexpected<Error> Invalid(fmt::format_string<A...> format, A&&... args) {
  return Fail(Code::kInvalidArgument, format, std::forward<A>(args)...);
}

template <class Repeated>
std::string List(const Repeated& dims) {
  return fmt::format("[{}]", fmt::join(dims.begin(), dims.end(), ","));
}

// --- Inputs and outputs ------------------------------------------------------------------------

// Elements between the variable dimensions: a reshape keeps each of these products.
template <class Repeated>
std::vector<int64_t> Products(const Repeated& dims) {
  std::vector<int64_t> products = {1};
  for (const int64_t d : dims) {
    if (d == -1)
      products.push_back(1);
    else if (__builtin_mul_overflow(products.back(), d, &products.back()))
      products.back() = 0;
  }
  return products;
}

template <class Io>
Status CheckShape(const ModelConfig& config, const Io& io, std::string_view kind) {
  const std::string& model = config.name();
  if (io.name().empty()) return Invalid("model {} must specify 'name' for {}", kind, model);
  const std::string place = fmt::format("model {} '{}'", kind, io.name());
  if (io.data_type() == inference::TYPE_INVALID)
    return Invalid("{} must specify 'data_type' for {}", place, model);
  if (io.dims_size() == 0) return Invalid("{} must specify 'dims' for {}", place, model);
  const auto sound = [](int64_t d) { return d >= 1 || d == -1; };
  if (!std::all_of(io.dims().begin(), io.dims().end(), sound))
    return Invalid(
        "{} dimension must be integer >= 1, or -1 to indicate a variable-size dimension for {}",
        place, model);
  if (io.is_shape_tensor())
    return Invalid("shape tensors are only supported for TensorRT platform for {}", model);
  if (io.is_non_linear_format_io())
    return Invalid("Non-linear IO format is only supported for the TensorRT platform for {}",
                   model);
  if (!io.has_reshape()) return {};
  const auto& shape = io.reshape().shape();
  if (!std::all_of(shape.begin(), shape.end(), sound))
    return Invalid(
        "{} reshape dimensions must be integer >= 1, or -1 to indicate a variable-size dimension "
        "for {}",
        place, model);
  const std::vector<int64_t> from = Products(io.dims()), to = Products(shape);
  if (from.size() != to.size() && from.size() > 1 && to.size() > 1)
    return Invalid(
        "{} has different number of variable-size dimensions for dims and reshape for {}", place,
        model);
  if (from != to || std::count(from.begin(), from.end(), 0) > 0)
    return Invalid("{} has different size for dims and reshape for {}", place, model);
  return {};
}

std::string TypeOf(const PortInfo& port) {
  if (port.sequence) return "sequence";
  if (port.key != DType::kUndefined) return "map";
  return fmt::format("tensor of {}", DTypeName(port.dtype));
}

// Against the graph.
template <class Io>
Status CheckPort(const ModelConfig& config, const Io& io, std::string_view kind,
                 std::span<const PortInfo> ports) {
  const std::string& model = config.name();
  const PortInfo* port = FindPort(ports, io.name());
  if (port == nullptr) {
    std::set<std::string> names;
    for (const PortInfo& p : ports) names.insert(p.name);
    return Invalid("unexpected inference {} '{}', allowed {}s are: {}", kind, io.name(), kind,
                   fmt::join(names, ", "));
  }
  if (port->sequence || port->key != DType::kUndefined ||
      ToConfigType(port->dtype) == inference::TYPE_INVALID)
    return Fail(Code::kUnimplemented,
                "{} '{}' of model '{}' is a {}, which the protocol cannot "
                "carry",
                kind, io.name(), model, TypeOf(*port));
  if (FromConfigType(io.data_type()) != port->dtype)
    return Invalid(
        "unable to load model '{}', configuration expects datatype {} for {} '{}', model provides "
        "{}",
        model, inference::DataType_Name(io.data_type()), kind, io.name(),
        inference::DataType_Name(ToConfigType(port->dtype)));
  if (!port->has_shape) return {};
  const auto& item = io.has_reshape() ? io.reshape().shape() : io.dims();
  std::vector<int64_t> full(item.begin(), item.end());
  const bool batched = config.max_batch_size() > 0;
  if (batched) full.insert(full.begin(), -1);
  const Dims graph = VisibleDims(port->dims);
  if (batched && (graph.empty() || graph[0] != -1))
    return Invalid(
        "model '{}', tensor '{}': for the model to support batching the shape should have at least "
        "1 dimension and the first dimension must be -1; but shape expected by the model is {}",
        model, io.name(), List(graph));
  const bool fits = full.size() == graph.size() &&
                    std::equal(full.begin(), full.end(), graph.begin(),
                               [](int64_t c, int64_t g) { return g == -1 || c == g; });
  if (fits) return {};
  return Invalid(
      "model '{}', tensor '{}': the model expects {} dimensions (shape {}) but the model "
      "configuration specifies {} dimensions ({}shape {})",
      model, io.name(), graph.size(), List(graph), full.size(),
      batched ? "an initial batch dimension because max_batch_size > 0 followed by the explicit "
                "tensor shape, making complete "
              : "",
      List(full));
}

template <class Ios>
Status CheckIos(const ModelConfig& config, const Ios& ios, std::string_view kind,
                std::span<const PortInfo> ports) {
  std::set<std::string_view> names;
  for (const auto& io : ios) {
    TRY(CheckShape(config, io, kind));
    TRY(CheckPort(config, io, kind, ports));
    if (!names.insert(io.name()).second)
      return Invalid("model {} '{}' is specified more than once for {}", kind, io.name(),
                     config.name());
  }
  return {};
}

Status CheckInputs(const ModelConfig& config, std::span<const PortInfo> ports) {
  for (const inference::ModelInput& io : config.input()) {
    if (io.format() != inference::ModelInput::FORMAT_NONE && io.dims_size() != 3)
      return Invalid("model input NHWC/NCHW require 3 dims for {}", config.name());
  }
  for (const PortInfo& p : ports) {
    const bool listed = std::any_of(config.input().begin(), config.input().end(),
                                    [&](const auto& io) { return io.name() == p.name; });
    if (!listed && !p.optional)
      return Invalid(
          "unable to load model '{}', configuration expects {} inputs, model provides "
          "{}",
          config.name(), config.input_size(), ports.size());
  }
  return {};
}

// --- Scheduling ----------------------------------------------------------------------------------

bool Delays(const inference::ModelQueuePolicy& policy) {
  return policy.default_timeout_microseconds() != 0 &&
         policy.timeout_action() == inference::ModelQueuePolicy::DELAY;
}

Status CheckBatching(const ModelConfig& config) {
  const inference::ModelDynamicBatching& d = config.dynamic_batching();
  const std::string& name = config.name();
  for (const int32_t size : d.preferred_batch_size()) {
    if (size <= 0) return Invalid("dynamic batching preferred size must be positive for {}", name);
    if (size > config.max_batch_size())
      return Invalid("dynamic batching preferred size must be <= max batch size for {}", name);
  }
  const uint64_t levels = d.priority_levels();
  if (levels > kMaxPriorityLevels)
    return Invalid("priority_levels must be at most {} for {}, got {}", kMaxPriorityLevels, name,
                   levels);
  if (levels != 0) {
    if (d.default_priority_level() == 0 || d.default_priority_level() > levels)
      return Invalid("default priority level must be in range [1, {}] for {}", levels, name);
    for (const auto& [level, policy] : d.priority_queue_policy())
      if (level == 0 || level > levels)
        return Invalid("priority queue policy must have priority level in range [1, {}] for {}",
                       levels, name);
  }
  if (!d.preserve_ordering()) return {};
  if (levels > 1)
    return Invalid("Only one priority level is allowed when 'preserve_ordering' is true for {}",
                   name);
  const auto& by_level = d.priority_queue_policy();
  if (Delays(d.default_queue_policy()) ||
      std::any_of(by_level.begin(), by_level.end(), [](const auto& p) { return Delays(p.second); }))
    return Invalid(
        "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for {}",
        name);
  return {};
}

Status CheckInstanceGroups(const ModelConfig& config) {
  int total = 0;
  for (const inference::ModelInstanceGroup& g : config.instance_group()) {
    const std::string place = fmt::format("instance group {} of model {}", g.name(), config.name());
    if (g.kind() == inference::ModelInstanceGroup::KIND_GPU)
      return Invalid("{} has kind KIND_GPU but server does not support GPUs", place);
    if (g.gpus_size() > 0)
      return Invalid("{} has kind {} but specifies one or more GPUs", place,
                     inference::ModelInstanceGroup::Kind_Name(g.kind()));
    if (g.profile_size() > 0)
      return Invalid(
          "{} and platform {} specifies profile field which is only supported for TensorRT models",
          place, config.platform());
    if (g.count() < 1 || g.count() > kMaxInstances - total)
      return Invalid("{} has count {}; counts must be positive and at most {} together", place,
                     g.count(), kMaxInstances);
    if (!g.passive()) total += g.count();
  }
  if (total == 0)
    return Invalid("all instance groups of model {} are passive; nothing could serve it",
                   config.name());
  return {};
}

Status CheckMetrics(const inference::ModelMetrics& metrics) {
  for (const auto& control : metrics.metric_control()) {
    if (!control.has_metric_identifier())
      return Invalid("metric control must specify 'metric_identifier'");
    if (control.metric_identifier().family().empty())
      return Invalid("metric identifier must specify non-empty 'family'");
    if (!control.has_histogram_options())
      return Invalid("metric control must specify 'histogram_options'");
    const auto& buckets = control.histogram_options().buckets();
    if (buckets.empty()) return Invalid("histogram options must specify non-empty 'buckets'");
    for (int i = 0; i < buckets.size(); ++i)
      if (!(i == 0 ? buckets[i] == buckets[i] : buckets[i - 1] < buckets[i]))
        return Invalid("histogram options must specify 'buckets' in ascending order");
  }
  return {};
}

Status CheckResponseCache(const ModelConfig& config) {
  if (!config.response_cache().enable()) return {};
  std::string_view with;
  if (config.has_sequence_batching()) with = "sequence batching scheduler";
  if (config.model_transaction_policy().decoupled()) with = "'decoupled' transaction policy";
  if (with.empty()) return {};
  return Invalid(
      "Response Cache does not currently support model {} with {}. Please disable the response "
      "cache.",
      config.name(), with);
}

// What a later version may serve and this one refuses by name rather than serve wrongly.
Status CheckSupported(const ModelConfig& config) {
  std::string_view what;
  if (config.has_ensemble_scheduling()) what = "ensemble_scheduling";
  if (config.has_sequence_batching()) what = "sequence_batching";
  if (config.model_transaction_policy().decoupled()) what = "a decoupled transaction policy";
  if (config.batch_input_size() > 0 || config.batch_output_size() > 0)
    what = "batch_input and batch_output";
  if (config.model_repository_agents().agents_size() > 0) what = "model_repository_agents";
  if (config.model_operations().op_library_filename_size() > 0)
    what = "model_operations (libraries of custom operators)";
  if (what.empty()) return {};
  return Fail(Code::kUnimplemented, "model '{}' asks for {}, which is not supported", config.name(),
              what);
}

}  // namespace

Dims VisibleDims(const Dims& dims) {
  Dims v = dims;
  for (int64_t& d : v)
    if (!IsKnown(d)) d = -1;
  return v;
}

const PortInfo* FindPort(std::span<const PortInfo> ports, std::string_view name) {
  const auto it =
      std::find_if(ports.begin(), ports.end(), [&](const PortInfo& p) { return p.name == name; });
  return it == ports.end() ? nullptr : &*it;
}

Status CheckConfig(const ModelConfig& config, std::span<const PortInfo> inputs,
                   std::span<const PortInfo> outputs) {
  if (config.max_batch_size() < 0)
    return Invalid("'max_batch_size' must be non-negative value for {}", config.name());
  TRY(CheckIos(config, config.input(), "input", inputs));
  TRY(CheckIos(config, config.output(), "output", outputs));
  if (config.output_size() == 0)
    return Invalid("model configuration must specify at least one output for {}", config.name());
  TRY(CheckInputs(config, inputs));
  TRY(CheckBatching(config));
  TRY(CheckResponseCache(config));
  TRY(CheckMetrics(config.model_metrics()));
  TRY(CheckInstanceGroups(config));
  return CheckSupported(config);
}

std::vector<std::string> IgnoredFields(const ModelConfig& config) {
  std::set<std::string> fields;
  const auto note = [&](bool set, std::string field) {
    if (set) fields.insert(std::move(field));
  };
  for (const auto& io : config.input())
    note(io.format() != inference::ModelInput::FORMAT_NONE, "input.format");
  for (const auto& g : config.instance_group()) {
    note(g.has_rate_limiter(), "instance_group.rate_limiter");
    note(!g.host_policy().empty(), "instance_group.host_policy");
    note(g.secondary_devices_size() > 0, "instance_group.secondary_devices");
    note(g.passive(), "instance_group.passive");
  }
  const inference::ModelOptimizationPolicy& o = config.optimization();
  note(o.priority() != inference::ModelOptimizationPolicy::PRIORITY_DEFAULT,
       "optimization.priority");
  note(o.has_cuda(), "optimization.cuda");
  note(o.has_execution_accelerators(), "optimization.execution_accelerators");
  note(o.gather_kernel_buffer_threshold() > 0, "optimization.gather_kernel_buffer_threshold");
  note(o.eager_batching(), "optimization.eager_batching");
  note(!config.cc_model_filenames().empty(), "cc_model_filenames");
  note(!config.runtime().empty(), "runtime");
  for (const auto& [key, value] : config.parameters())
    note(std::find(std::begin(kParameters), std::end(kParameters), key) == std::end(kParameters),
         "parameters." + key);
  return {fields.begin(), fields.end()};
}

}  // namespace dunlin::serve
