#include "http/infer_write.h"

#include <fmt/format.h>

#include "base/json_writer.h"
#include "http/json_tensor.h"
#include "serve/classify.h"
#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::http {
namespace {

void WriteParameter(JsonWriter& json, bool value) { json.Bool(value); }
void WriteParameter(JsonWriter& json, const std::string& value) { json.String(value); }
template <class T>
void WriteParameter(JsonWriter& json, T value) {
  json.Number(value);
}

// The raw bytes as a tensor whose memory lives until the reply is sent.
Result<Tensor> RawBytes(const Tensor& t) {
  if (t.dtype() != DType::kString) return t;
  auto bytes = std::make_shared<std::string>(serve::StringBytes(t));
  const auto size = bytes->size();
  return Tensor::Over(DType::kU8, Dims{int64_t(size)}, Buffer::Borrow(bytes->data(), size, bytes));
}

}  // namespace

Result<Reply> WriteInfer(const serve::ModelSpec& model, const ParsedInfer& parsed,
                         serve::InferResponse response) {
  Reply reply;
  JsonWriter json(256);  // what most replies take that carry no tensor
  json.BeginObject();
  if (!response.id.empty()) json.Key("id").String(response.id);
  json.Key("model_name").String(response.model);
  json.Key("model_version").String(std::to_string(response.version));
  if (!response.parameters.empty()) {
    json.Key("parameters").BeginObject();
    for (const auto& [name, value] : response.parameters) {
      json.Key(name);
      std::visit([&](const auto& v) { WriteParameter(json, v); }, value);
    }
    json.End();
  }
  json.Key("outputs").BeginArray();
  size_t binary_bytes = 0;
  for (NamedTensor& output : response.outputs) {
    const OutputForm* const form = parsed.FormOf(output.name);
    Tensor tensor = std::move(output.tensor);
    if (form != nullptr && form->classes > 0) {
      const serve::TensorSpec* spec = model.FindOutput(output.name);
      tensor = TRY(serve::Classify(tensor, form->classes, model.max_batch_size > 0,
                                   spec ? spec->labels : std::vector<std::string>()));
    }
    json.BeginObject();
    json.Key("name").String(output.name);
    json.Key("datatype").String(serve::ProtocolName(tensor.dtype()));
    json.Key("shape").BeginArray();
    for (const int64_t d : tensor.dims()) json.Number(d);
    json.End();
    if (form != nullptr && form->span.region) {
      const size_t bytes = TRY(serve::WriteSharedMemory(form->span, output.name, tensor));
      json.Key("parameters").BeginObject();
      json.Key("shared_memory_region").String(form->range.region);
      if (form->range.offset > 0) json.Key("shared_memory_offset").Number(form->range.offset);
      json.Key("shared_memory_byte_size").Number(bytes).End();
    } else if (form != nullptr ? form->binary : parsed.binary_default) {
      Tensor raw = TRY(RawBytes(tensor));
      json.Key("parameters").BeginObject().Key("binary_data_size").Number(raw.bytes()).End();
      binary_bytes += size_t(raw.bytes());
      reply.tensors.push_back(std::move(raw));
    } else {
      json.Key("data");
      TRY(WriteData(json, output.name, tensor));
    }
    json.End();
  }
  json.End().End();
  reply.body = json.Take();
  reply.content_type = "application/json";
  if (binary_bytes > 0) {
    reply.content_type = "application/octet-stream";
    reply.headers.emplace_back("Inference-Header-Content-Length",
                               std::to_string(reply.body.size()));
  }
  return reply;
}

}  // namespace dunlin::http
