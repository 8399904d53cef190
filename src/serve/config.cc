#include "serve/config.h"

#include <fmt/format.h>
#include <google/protobuf/io/tokenizer.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <google/protobuf/text_format.h>
#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "base/json_writer.h"
#include "serve/config_check.h"
#include "serve/datatype.h"

namespace dunlin::serve {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using inference::ModelConfig;

constexpr int kMaxNesting = 64;  // the deepest real message nests 6 times
// Instances that the config route shows when nobody said; how many really run, the server decides.
constexpr int kShownInstances = 2;

class FirstError : public google::protobuf::io::ErrorCollector {
 public:
  void AddError(int line, google::protobuf::io::ColumnNumber column,
                const std::string& message) override {
    if (text.empty()) text = fmt::format("line {}, column {}: {}", line + 1, column + 1, message);
  }
  std::string text;
};

// --- JSON form -------------------------------------------------------------------------------

void AppendMessage(std::string& out, const Message& m);

// The value of a singular field (index < 0) or of one element of a repeated one.
void AppendValue(std::string& out, const Message& m, const FieldDescriptor* f, int index) {
  const Reflection* r = m.GetReflection();
  const bool one = index < 0;
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32:
      out += fmt::format("{}", one ? r->GetInt32(m, f) : r->GetRepeatedInt32(m, f, index));
      break;
    case FieldDescriptor::CPPTYPE_INT64:
      out += fmt::format("{}", one ? r->GetInt64(m, f) : r->GetRepeatedInt64(m, f, index));
      break;
    case FieldDescriptor::CPPTYPE_UINT32:
      out += fmt::format("{}", one ? r->GetUInt32(m, f) : r->GetRepeatedUInt32(m, f, index));
      break;
    case FieldDescriptor::CPPTYPE_UINT64:
      out += fmt::format("{}", one ? r->GetUInt64(m, f) : r->GetRepeatedUInt64(m, f, index));
      break;
    case FieldDescriptor::CPPTYPE_FLOAT:
    case FieldDescriptor::CPPTYPE_DOUBLE: {
      double v = 0;
      if (f->cpp_type() == FieldDescriptor::CPPTYPE_FLOAT)
        v = one ? r->GetFloat(m, f) : r->GetRepeatedFloat(m, f, index);
      else
        v = one ? r->GetDouble(m, f) : r->GetRepeatedDouble(m, f, index);
      out += std::isfinite(v) ? fmt::format("{}", v) : "null";
      break;
    }
    case FieldDescriptor::CPPTYPE_BOOL:
      out += (one ? r->GetBool(m, f) : r->GetRepeatedBool(m, f, index)) ? "true" : "false";
      break;
    case FieldDescriptor::CPPTYPE_ENUM:
      out += JsonQuoted((one ? r->GetEnum(m, f) : r->GetRepeatedEnum(m, f, index))->name());
      break;
    case FieldDescriptor::CPPTYPE_STRING:
      out += JsonQuoted(one ? r->GetString(m, f) : r->GetRepeatedString(m, f, index));
      break;
    case FieldDescriptor::CPPTYPE_MESSAGE:
      AppendMessage(out, one ? r->GetMessage(m, f) : r->GetRepeatedMessage(m, f, index));
      break;
  }
}

void AppendMap(std::string& out, const Message& m, const FieldDescriptor* f) {
  const FieldDescriptor* key = f->message_type()->map_key();
  const FieldDescriptor* value = f->message_type()->map_value();
  const Reflection* r = m.GetReflection();
  std::map<std::string, std::string> sorted;  // hash order would differ from run to run
  for (int i = 0; i < r->FieldSize(m, f); ++i) {
    const Message& entry = r->GetRepeatedMessage(m, f, i);
    std::string k, v;
    AppendValue(k, entry, key, -1);
    if (k.empty() || k[0] != '"') k = '"' + k + '"';
    AppendValue(v, entry, value, -1);
    sorted[k] = v;
  }
  out += '{';
  for (bool first = true; const auto& [k, v] : sorted) {
    if (!first) out += ',';
    first = false;
    out += k + ':' + v;
  }
  out += '}';
}

void AppendMessage(std::string& out, const Message& m) {
  const Reflection* r = m.GetReflection();
  out += '{';
  bool first = true;
  for (int i = 0; i < m.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* f = m.GetDescriptor()->field(i);
    const bool choice = f->real_containing_oneof() != nullptr;
    const bool message = !f->is_repeated() && f->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if ((choice || message) && !r->HasField(m, f)) continue;
    if (!first) out += ',';
    first = false;
    out += JsonQuoted(f->name());
    out += ':';
    if (f->is_map()) {
      AppendMap(out, m, f);
    } else if (f->is_repeated()) {
      out += '[';
      for (int k = 0; k < r->FieldSize(m, f); ++k) {
        if (k) out += ',';
        AppendValue(out, m, f, k);
      }
      out += ']';
    } else {
      AppendValue(out, m, f, -1);
    }
  }
  out += '}';
}

// --- Completion from the graph
// ---------------------------------------------------------------------

bool AllowsBatch(std::span<const PortInfo> ports) {
  return std::all_of(ports.begin(), ports.end(), [](const PortInfo& p) {
    return p.has_shape && !p.dims.empty() && !IsKnown(p.dims[0]);
  });
}

// The extents the engine sees for one item: those of `reshape` where the configuration has one.
template <class Io>
std::vector<int64_t> EngineDims(const Io& io) {
  if (io.has_reshape()) return {io.reshape().shape().begin(), io.reshape().shape().end()};
  return {io.dims().begin(), io.dims().end()};
}

// True when a configured tensor already spells out the batch dimension, so there is no implicit
// one.
template <class Ios>
bool SpellsOutBatch(const Ios& ios, std::span<const PortInfo> ports) {
  for (const auto& io : ios) {
    const PortInfo* p = FindPort(ports, io.name());
    if (p != nullptr && io.dims_size() > 0 && EngineDims(io).size() == p->dims.size()) return true;
  }
  return false;
}

template <class Io>
void CompleteIo(Io& io, const PortInfo& port, bool batched) {
  if (io.data_type() == inference::TYPE_INVALID) io.set_data_type(ToConfigType(port.dtype));
  if (io.dims_size() > 0) return;
  if (!port.has_shape) {
    io.add_dims(-1);
    return;
  }
  const Dims dims = VisibleDims(port.dims);
  for (size_t i = batched ? 1 : 0; i < dims.size(); ++i) io.add_dims(dims[i]);
  if (io.dims_size() == 0) {  // the configuration has no scalars: one element, reshaped to none
    io.add_dims(1);
    io.mutable_reshape();
  }
}

template <class Ios>
void CompleteIos(Ios& ios, std::span<const PortInfo> ports, bool batched, bool add_missing) {
  for (auto& io : ios)
    if (const PortInfo* p = FindPort(ports, io.name())) CompleteIo(io, *p, batched);
  if (!add_missing) return;
  for (const PortInfo& p : ports) {
    const bool known =
        std::any_of(ios.begin(), ios.end(), [&](const auto& io) { return io.name() == p.name; });
    if (known || p.optional) continue;
    auto* io = ios.Add();
    io->set_name(p.name);
    CompleteIo(*io, p, batched);
  }
}

// The groups as they will be: a group that is not there is named after the model, one without a
// name after the model and its place.
void CompleteInstanceGroups(ModelConfig& config) {
  if (config.instance_group().empty()) config.add_instance_group()->set_name(config.name());
  for (int i = 0; i < config.instance_group_size(); ++i) {
    inference::ModelInstanceGroup& g = *config.mutable_instance_group(i);
    if (g.name().empty()) g.set_name(fmt::format("{}_{}", config.name(), i));
    if (g.count() == 0) g.set_count(kShownInstances);
    if (g.kind() == inference::ModelInstanceGroup::KIND_AUTO)
      g.set_kind(inference::ModelInstanceGroup::KIND_CPU);
  }
}

// Defaults as clients of the protocol expect to read them.
void CompleteScheduling(ModelConfig& config) {
  if (config.has_dynamic_batching() && config.max_batch_size() > 0 &&
      config.dynamic_batching().preferred_batch_size().empty())
    config.mutable_dynamic_batching()->add_preferred_batch_size(config.max_batch_size());
  if (config.has_ensemble_scheduling()) return;
  inference::ModelOptimizationPolicy& o = *config.mutable_optimization();
  if (!o.has_input_pinned_memory()) o.mutable_input_pinned_memory()->set_enable(true);
  if (!o.has_output_pinned_memory()) o.mutable_output_pinned_memory()->set_enable(true);
}

}  // namespace

Result<ModelConfig> ParseConfigText(std::string_view text) {
  ModelConfig config;
  FirstError errors;
  google::protobuf::TextFormat::Parser parser;
  parser.RecordErrorsTo(&errors);
  parser.SetRecursionLimit(kMaxNesting);
  google::protobuf::io::ArrayInputStream stream(text.data(), int(text.size()));
  if (!parser.Parse(&stream, &config))
    return Fail(Code::kInvalidArgument, "{}", errors.text.empty() ? "malformed" : errors.text);
  return config;
}

Result<ModelConfig> ParseConfigJson(std::string_view json) {
  ModelConfig config;
  const auto status = google::protobuf::util::JsonStringToMessage(
      google::protobuf::StringPiece(json.data(), json.size()), &config);
  if (!status.ok())
    return Fail(Code::kInvalidArgument, "{}",
                std::string_view(status.message().data(), status.message().size()));
  return config;
}

std::string ConfigToJson(const ModelConfig& config) {
  std::string out;
  AppendMessage(out, config);
  return out;
}

Status Normalise(ModelConfig& config, std::string_view model_name) {
  if (config.name().empty()) config.set_name(std::string(model_name));
  if (config.name() != model_name) {
    return Fail(
        Code::kInvalidArgument,
        "unexpected directory name '{}' for model '{}', directory name must equal model name",
        model_name, config.name());
  }
  const std::string_view backend = config.backend(), platform = config.platform();
  const bool onnx = platform.empty() || platform == "onnxruntime_onnx";
  if (!backend.empty() && backend != "onnxruntime" && backend != "dunlin")
    return Fail(Code::kInvalidArgument,
                "unable to find backend library for backend '{}': this server runs ONNX models "
                "(backend 'onnxruntime' or 'dunlin')",
                backend);
  if (!onnx && backend.empty())
    return Fail(Code::kInvalidArgument, "unexpected platform type '{}' for {}", platform,
                config.name());
  if (!onnx && platform != "dunlin")
    return Fail(Code::kInvalidArgument, "unexpected 'platform' and 'backend' pair, got:{}, {}",
                platform, backend);
  if (platform.empty()) config.set_platform("onnxruntime_onnx");
  if (backend.empty()) config.set_backend("onnxruntime");
  if (config.default_model_filename().empty()) config.set_default_model_filename("model.onnx");
  if (config.default_model_filename().find('/') != std::string::npos ||
      config.default_model_filename() == "..") {
    return Fail(Code::kInvalidArgument,
                "default_model_filename '{}' of model '{}' must be a file in the version folder",
                config.default_model_filename(), config.name());
  }
  if (config.version_policy().policy_choice_case() ==
      inference::ModelVersionPolicy::POLICY_CHOICE_NOT_SET)
    config.mutable_version_policy()->mutable_latest()->set_num_versions(1);
  return {};
}

Status CompleteAndCheck(ModelConfig& config, std::span<const PortInfo> inputs,
                        std::span<const PortInfo> outputs, AutoComplete mode) {
  const std::string& name = config.name();
  const bool allows_batch = AllowsBatch(inputs) && AllowsBatch(outputs);
  if (mode == AutoComplete::kOn) {
    if (!config.has_max_batch_size() && allows_batch && !SpellsOutBatch(config.input(), inputs) &&
        !SpellsOutBatch(config.output(), outputs)) {
      config.set_max_batch_size(kDefaultMaxBatchSize);
      if (config.scheduling_choice_case() == ModelConfig::SCHEDULING_CHOICE_NOT_SET)
        config.mutable_dynamic_batching();
    }
    if (config.max_batch_size() > 0 && !allows_batch) {
      return Fail(Code::kInvalidArgument,
                  "autofill failed for model '{}': model does not support batching while non-zero "
                  "max_batch_size is specified",
                  name);
    }
    const bool batched = config.max_batch_size() > 0;
    CompleteIos(*config.mutable_input(), inputs, batched, true);
    CompleteIos(*config.mutable_output(), outputs, batched, config.output_size() == 0);
  }
  CompleteInstanceGroups(config);
  CompleteScheduling(config);
  return CheckConfig(config, inputs, outputs);
}

}  // namespace dunlin::serve
