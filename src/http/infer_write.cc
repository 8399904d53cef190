#include "http/infer_write.h"

#include <fmt/format.h>
#include <simdjson.h>

#include "base/json_writer.h"
#include "serve/classify.h"
#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::http {
namespace {

Status WriteData(JsonWriter& json, const std::string& name, const Tensor& t) {
  if (t.dtype() == DType::kF16 || t.dtype() == DType::kBF16)
    return Fail(Code::kInvalidArgument,
                "sending {} data via JSON is not supported. Please use the binary data format for "
                "output '{}'",
                serve::ProtocolName(t.dtype()), name);
  json.BeginArray();
  TRY(VisitDType(t.dtype(), name, [&]<class T>(TypeTag<T>) -> Status {
    for (const T& v : t.values<T>()) {
      if constexpr (std::is_same_v<T, std::string>) {
        if (!simdjson::validate_utf8(v.data(), v.size()))
          return Fail(
              Code::kInvalidArgument,
              "output '{}' holds bytes that are not UTF-8, which JSON cannot carry. Please use "
              "the binary data format for output '{}'",
              name, name);
        json.String(v);
      } else if constexpr (std::is_same_v<T, bool>) {
        json.Bool(v);
      } else if constexpr (!kIsHalf<T>) {
        json.Number(v);
      }
    }
    return {};
  }));
  json.End();
  return {};
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
  JsonWriter json;
  json.BeginObject();
  if (!response.id.empty()) json.Key("id").String(response.id);
  json.Key("model_name").String(response.model);
  json.Key("model_version").String(std::to_string(response.version));
  json.Key("outputs").BeginArray();
  size_t binary_bytes = 0;
  for (NamedTensor& output : response.outputs) {
    const OutputForm form = parsed.FormOf(output.name);
    const serve::TensorSpec* spec = model.FindOutput(output.name);
    Tensor tensor = std::move(output.tensor);
    if (form.classes > 0)
      tensor = TRY(serve::Classify(tensor, form.classes, model.max_batch_size > 0,
                                   spec ? spec->labels : std::vector<std::string>()));
    json.BeginObject();
    json.Key("name").String(output.name);
    json.Key("datatype").String(serve::ProtocolName(tensor.dtype()));
    json.Key("shape").BeginArray();
    for (const int64_t d : tensor.dims()) json.Number(d);
    json.End();
    if (form.binary) {
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
