#include "http/generate.h"

#include <algorithm>

#include "base/json_writer.h"
#include "http/json_read.h"
#include "http/json_tensor.h"
#include "serve/wire.h"

namespace dunlin::http {
namespace {

// The request says how many elements there are, the model how they lie: the innermost variable
// extent takes what the fixed ones leave, the others are 1.
Result<Dims> Distribute(const serve::ModelSpec& model, const serve::TensorSpec& input,
                        int64_t elements) {
  if (input.any_shape) return Dims{elements};
  Dims dims = serve::FullDims(model, input.dims);
  const auto mismatch = [&] {
    return Fail(Code::kInvalidArgument,
                "The schema can not convert input '{}' to tensor with proper shape", input.name);
  };
  for (const int64_t d : dims) {
    if (d == -1) continue;
    if (d == 0 || elements % d != 0) return mismatch();
    elements /= d;
  }
  for (size_t i = dims.size(); i-- > 0;)
    if (dims[i] == -1) dims[i] = std::exchange(elements, 1);
  if (elements != 1) return mismatch();
  return dims;
}

Status AddInput(const serve::ModelSpec& model, const serve::TensorSpec& input, JsonElement value,
                size_t json_bytes, serve::InferRequest& request) {
  simdjson::dom::array array;
  const bool is_array = value.get(array) == simdjson::SUCCESS;
  const int64_t elements = is_array ? int64_t(array.size()) : 1;
  const Dims dims = TRY(Distribute(model, input, elements));
  request.inputs.push_back(
      {input.name, TRY(TensorFromValues(input.dtype, dims, {&value, 1}, input.name, json_bytes))});
  return {};
}

Status AddMembers(const serve::ModelSpec& model, simdjson::dom::object object, bool nested,
                  size_t json_bytes, serve::InferRequest& request) {
  for (const auto [key, value] : object) {
    if (const serve::TensorSpec* input = model.FindInput(key)) {
      TRY(AddInput(model, *input, value, json_bytes, request));
    } else if (!nested && key == "parameters") {
      auto inner = AsObject(value);
      if (!inner)
        return Fail(Code::kInvalidArgument, "Expected JSON object for keyword: 'parameters': {}",
                    inner.error().message);
      TRY(AddMembers(model, *inner, true, json_bytes, request));
    } else if (!nested && key == "id" && value.is<std::string_view>()) {
      request.id = value.get_string().value_unsafe();
    } else {
      TRY(serve::CheckParameterName(key));
      TRY(ParseParameter(key, value, request));
    }
  }
  return {};
}

}  // namespace

Result<serve::InferRequest> ParseGenerate(const serve::ModelSpec& model, std::string_view body) {
  JsonDocument document;
  const JsonElement root = TRY(document.Parse(body));
  auto object = AsObject(root);
  if (!object)
    return Fail(Code::kInvalidArgument, "failed to parse the request JSON buffer: {}",
                object.error().message);
  Result<serve::InferRequest> request;
  TRY(AddMembers(model, *object, false, body.size(), *request));
  return request;
}

Result<std::string> WriteGenerate(const serve::InferResponse& response) {
  JsonWriter json;
  json.BeginObject();
  if (!response.id.empty()) json.Key("id").String(response.id);
  json.Key("model_name").String(response.model);
  json.Key("model_version").String(std::to_string(response.version));
  for (const NamedTensor& output : response.outputs) {
    json.Key(output.name);
    if (output.tensor.count() == 1)
      TRY(WriteNested(json, output.name, output.tensor, output.tensor.rank(), 0));
    else
      TRY(WriteData(json, output.name, output.tensor));
  }
  json.End();
  return json.Take();
}

Reply EventReply(std::string_view json) {
  Reply reply;
  reply.content_type = "text/event-stream; charset=utf-8";
  reply.body.reserve(json.size() + 8);
  reply.body += "data: ";
  reply.body += json;
  reply.body += "\n\n";
  return reply;
}

}  // namespace dunlin::http
