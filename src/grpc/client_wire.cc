#include "grpc/client_wire.h"

#include "grpc/client.h"
#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::grpc {
namespace {

template <class Map>
void SetMemory(Map& parameters, const serve::SharedMemoryRange& range) {
  parameters["shared_memory_region"].set_string_param(range.region);
  parameters["shared_memory_byte_size"].set_int64_param(int64_t(range.byte_size));
  if (range.offset > 0) parameters["shared_memory_offset"].set_int64_param(int64_t(range.offset));
}

void Set(inference::InferParameter& to, bool v) { to.set_bool_param(v); }
void Set(inference::InferParameter& to, int64_t v) { to.set_int64_param(v); }
void Set(inference::InferParameter& to, uint64_t v) { to.set_uint64_param(v); }
void Set(inference::InferParameter& to, double v) { to.set_double_param(v); }
void Set(inference::InferParameter& to, const std::string& v) { to.set_string_param(v); }

}  // namespace

Result<std::string> EncodeInfer(const serve::InferCall& call) {
  inference::ModelInferRequest request;
  request.set_model_name(call.model);
  request.set_model_version(call.version);
  request.set_id(call.id);
  for (const auto& [name, value] : call.parameters)
    std::visit([&, key = name](const auto& v) { Set((*request.mutable_parameters())[key], v); },
               value);
  for (const serve::CallInput& in : call.inputs) {
    auto* input = request.add_inputs();
    input->set_name(in.name);
    const std::string_view type = serve::ProtocolName(in.tensor.dtype());
    if (type.empty())
      return Fail(Code::kInvalidArgument, "input '{}' has a type that the protocol lacks", in.name);
    input->set_datatype(std::string(type));
    for (const int64_t d : in.tensor.dims()) input->add_shape(d);
    if (in.memory) {
      SetMemory(*input->mutable_parameters(), *in.memory);
    } else if (in.tensor.dtype() == DType::kString) {
      request.add_raw_input_contents(serve::StringBytes(in.tensor));
    } else {
      request.add_raw_input_contents(in.tensor.raw(), size_t(in.tensor.bytes()));
    }
  }
  for (const serve::CallOutput& out : call.outputs) {
    auto* output = request.add_outputs();
    output->set_name(out.name);
    auto& parameters = *output->mutable_parameters();
    if (out.classes > 0) parameters["classification"].set_int64_param(int64_t(out.classes));
    if (out.memory) SetMemory(parameters, *out.memory);
  }
  return request.SerializeAsString();
}

Result<std::vector<serve::CallResult>> ParseInferReply(std::string_view message) {
  inference::ModelInferResponse response;
  if (message.size() > INT32_MAX || !response.ParseFromArray(message.data(), int(message.size())) ||
      response.outputs_size() != response.raw_output_contents_size())
    return Fail(Code::kInternal, "the answer is no ModelInferResponse with raw contents");
  std::vector<serve::CallResult> results;
  for (int i = 0; i < response.outputs_size(); ++i) {
    const auto& output = response.outputs(i);
    serve::CallResult& result = results.emplace_back();
    result.name = output.name();
    result.dtype = serve::FromProtocolName(output.datatype());
    result.dims = Dims(std::span(output.shape().data(), size_t(output.shape_size())));
    if (result.dtype == DType::kUndefined)
      return Fail(Code::kInternal, "output '{}' has the unknown type '{}'", output.name(),
                  output.datatype());
    const std::string& raw = response.raw_output_contents(i);
    if (raw.empty() && ElementCount(result.dims) != 0) continue;  // it went to shared memory
    auto tensor = serve::TensorFromBytes(result.dtype, result.dims, raw);
    if (!tensor)
      return Fail(Code::kInternal, "output '{}': {}", output.name(), tensor.error().message);
    result.tensor = std::move(*tensor);
  }
  return results;
}

Result<serve::RemoteModel> ToRemoteModel(const inference::ModelMetadataResponse& response) {
  Result<serve::RemoteModel> model;
  model->name = response.name();
  const auto read = [](const auto& tensors, std::vector<PortInfo>& out) -> Status {
    for (const auto& tensor : tensors) {
      PortInfo& port = out.emplace_back();
      port.name = tensor.name();
      port.dtype = serve::FromProtocolName(tensor.datatype());
      port.has_shape = true;
      for (const int64_t d : tensor.shape()) port.dims.push_back(d < 0 ? kUnknownDim : d);
      port.dim_names.resize(port.dims.size());
      if (port.dtype == DType::kUndefined)
        return Fail(Code::kInternal, "'{}' has the unknown type '{}'", port.name,
                    tensor.datatype());
    }
    return {};
  };
  TRY(read(response.inputs(), model->inputs));
  TRY(read(response.outputs(), model->outputs));
  return model;
}

serve::ModelStatistics SumStatistics(const inference::ModelStatisticsResponse& response) {
  serve::ModelStatistics sum;
  const auto add = [](const inference::StatisticDuration& from, serve::DurationStat& to) {
    to.count += from.count();
    to.ns += from.ns();
  };
  for (const auto& s : response.model_stats()) {
    sum.last_inference_ms = std::max<uint64_t>(sum.last_inference_ms, s.last_inference());
    sum.inference_count += s.inference_count();
    sum.execution_count += s.execution_count();
    const auto& t = s.inference_stats();
    add(t.success(), sum.success);
    add(t.fail(), sum.fail);
    add(t.queue(), sum.queue);
    add(t.compute_input(), sum.compute_input);
    add(t.compute_infer(), sum.compute_infer);
    add(t.compute_output(), sum.compute_output);
    add(t.cache_hit(), sum.cache_hit);
    add(t.cache_miss(), sum.cache_miss);
    for (const auto& b : s.batch_stats()) {
      serve::BatchStat& batch = sum.batches[int64_t(b.batch_size())];
      add(b.compute_input(), batch.compute_input);
      add(b.compute_infer(), batch.compute_infer);
      add(b.compute_output(), batch.compute_output);
    }
    for (const auto& m : s.memory_usage()) sum.memory_bytes += int64_t(m.byte_size());
  }
  return sum;
}

}  // namespace dunlin::grpc
