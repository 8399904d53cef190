#include "http/predict.h"

#include <algorithm>
#include <span>
#include <vector>

#include "base/json_writer.h"
#include "http/json_read.h"
#include "http/json_tensor.h"

namespace dunlin::http {
namespace {

using serve::ModelSpec;
using serve::TensorSpec;

// Extents of nested arrays, by their first elements; that all agree is seen when they are read.
Dims ShapeOf(JsonElement value) {
  Dims dims;
  simdjson::dom::array array;
  while (value.get(array) == simdjson::SUCCESS) {
    dims.push_back(int64_t(array.size()));
    if (array.size() == 0 || array.at(0).get(value) != simdjson::SUCCESS) break;
  }
  return dims;
}

// Whether the arrays nest as `dims` says, everywhere.
bool HasShape(JsonElement value, std::span<const int64_t> dims) {
  simdjson::dom::array array;
  if (value.get(array) != simdjson::SUCCESS) return dims.empty();
  if (dims.empty() || int64_t(array.size()) != dims[0]) return false;
  return std::all_of(array.begin(), array.end(),
                     [&](JsonElement e) { return HasShape(e, dims.subspan(1)); });
}

enum class Stack : unsigned char { kNo, kYes };

// The value of one input, or the values of its items to be stacked. The shape is the client's, or
// the model's where the client left out extents that say nothing.
Result<NamedTensor> MakeInput(const ModelSpec& model, const TensorSpec& input, Stack stack,
                              std::span<const JsonElement> values, size_t json_bytes) {
  Dims dims = ShapeOf(values[0]);
  for (const JsonElement& value : values)
    if (!HasShape(value, dims))
      return Fail(Code::kInvalidArgument, "the values of input '{}' do not all have shape {}",
                  input.name, ToString(dims));
  if (stack == Stack::kYes) dims.insert(0, int64_t(values.size()));
  Dims wanted = serve::FullDims(model, input.dims);
  if (!input.any_shape && wanted.size() != dims.size() && !dims.empty() && !wanted.empty()) {
    if (wanted[0] == -1) wanted[0] = dims[0];
    if (AllKnown(wanted) && ElementCount(wanted) == ElementCount(dims)) dims = wanted;
  }
  return NamedTensor{input.name,
                     TRY(TensorFromValues(input.dtype, dims, values, input.name, json_bytes))};
}

Result<JsonElement> InputOf(JsonElement instance, const ModelSpec& model, const TensorSpec& input) {
  simdjson::dom::object object;
  const bool named = instance.get(object) == simdjson::SUCCESS && !FindMember(instance, "b64");
  if (!named && model.inputs.size() == 1) return instance;
  if (named) {
    if (const auto value = FindMember(instance, input.name)) return *value;
  }
  return Fail(Code::kInvalidArgument, "an instance does not have input '{}' of model '{}'",
              input.name, model.name);
}

Status ParseRows(const ModelSpec& model, JsonElement member, size_t json_bytes,
                 serve::InferRequest& request) {
  auto array = AsArray(member);
  if (!array) return UnableToParse("instances", array.error());
  const std::vector<JsonElement> instances(array->begin(), array->end());
  if (instances.empty())
    return Fail(Code::kInvalidArgument, "Unable to parse 'instances': there are none");
  for (const TensorSpec& input : model.inputs) {
    simdjson::dom::object object;
    if (input.optional && instances[0].get(object) == simdjson::SUCCESS &&
        !FindMember(instances[0], input.name))
      continue;
    std::vector<JsonElement> values;
    values.reserve(instances.size());
    for (const JsonElement& i : instances) values.push_back(TRY(InputOf(i, model, input)));
    request.inputs.push_back(TRY(MakeInput(model, input, Stack::kYes, values, json_bytes)));
  }
  return {};
}

Status ParseColumns(const ModelSpec& model, JsonElement member, size_t json_bytes,
                    serve::InferRequest& request) {
  for (const TensorSpec& input : model.inputs) {
    simdjson::dom::object object;
    const bool named = member.get(object) == simdjson::SUCCESS && !FindMember(member, "b64");
    if (named && input.optional && !FindMember(member, input.name)) continue;
    const JsonElement value = TRY(InputOf(member, model, input));
    request.inputs.push_back(TRY(MakeInput(model, input, Stack::kNo, {&value, 1}, json_bytes)));
  }
  return {};
}

void WritePorts(JsonWriter& json, const ModelSpec& model, const std::vector<TensorSpec>& ports) {
  static constexpr std::pair<DType, std::string_view> kNames[] = {
      {DType::kF32, "DT_FLOAT"},     {DType::kF64, "DT_DOUBLE"},    {DType::kF16, "DT_HALF"},
      {DType::kBF16, "DT_BFLOAT16"}, {DType::kI8, "DT_INT8"},       {DType::kI16, "DT_INT16"},
      {DType::kI32, "DT_INT32"},     {DType::kI64, "DT_INT64"},     {DType::kU8, "DT_UINT8"},
      {DType::kU16, "DT_UINT16"},    {DType::kU32, "DT_UINT32"},    {DType::kU64, "DT_UINT64"},
      {DType::kBool, "DT_BOOL"},     {DType::kString, "DT_STRING"},
  };
  json.BeginObject();
  for (const TensorSpec& port : ports) {
    json.Key(port.name).BeginObject();
    std::string_view type = "DT_INVALID";
    for (const auto& [dtype, name] : kNames)
      if (dtype == port.dtype) type = name;
    json.Key("dtype").String(type);
    json.Key("tensor_shape").BeginObject().Key("dim").BeginArray();
    for (const int64_t d : serve::FullDims(model, port.dims))
      json.BeginObject().Key("size").String(std::to_string(d)).Key("name").String("").End();
    json.End().Key("unknown_rank").Bool(port.any_shape).End();
    json.Key("name").String(port.name).End();
  }
  json.End();
}

}  // namespace

Result<ParsedPredict> ParsePredict(const ModelSpec& model, std::string_view body) {
  JsonDocument document;
  const JsonElement root = TRY(document.Parse(body));
  Result<ParsedPredict> parsed;
  const auto rows = FindMember(root, "instances"), columns = FindMember(root, "inputs");
  if (rows && columns)
    return Fail(Code::kInvalidArgument,
                "the request has both 'instances' and 'inputs', expecting one of them");
  if (!rows && !columns)
    return Fail(Code::kInvalidArgument,
                "Unable to parse 'instances': attempt to access non-existing object member "
                "'instances'");
  parsed->form = rows ? PredictForm::kRows : PredictForm::kColumns;
  if (rows)
    TRY(ParseRows(model, *rows, body.size(), parsed->request));
  else
    TRY(ParseColumns(model, *columns, body.size(), parsed->request));
  return parsed;
}

Result<std::string> WritePredict(PredictForm form, const serve::InferResponse& response) {
  JsonWriter json;
  json.BeginObject();
  const bool single = response.outputs.size() == 1;
  if (form == PredictForm::kColumns) {
    json.Key("outputs");
    if (!single) json.BeginObject();
    for (const NamedTensor& output : response.outputs) {
      if (!single) json.Key(output.name);
      TRY(WriteNested(json, output.name, output.tensor, 0, 0));
    }
    if (!single) json.End();
    json.End();
    return json.Take();
  }
  const int64_t rows = response.outputs.empty() || response.outputs[0].tensor.rank() == 0
                           ? 0
                           : response.outputs[0].tensor.dims()[0];
  for (const NamedTensor& output : response.outputs)
    if (output.tensor.rank() == 0 || output.tensor.dims()[0] != rows)
      return Fail(Code::kInvalidArgument,
                  "output '{}' does not have one item per instance; use 'inputs' instead of "
                  "'instances'",
                  output.name);
  json.Key("predictions").BeginArray();
  for (int64_t row = 0; row < rows; ++row) {
    if (!single) json.BeginObject();
    for (const NamedTensor& output : response.outputs) {
      if (!single) json.Key(output.name);
      TRY(WriteNested(json, output.name, output.tensor, 1, row * (output.tensor.count() / rows)));
    }
    if (!single) json.End();
  }
  json.End().End();
  return json.Take();
}

std::string PredictMetadata(const ModelSpec& model) {
  JsonWriter json;
  json.BeginObject().Key("model_spec").BeginObject();
  json.Key("name").String(model.name).Key("signature_name").String("");
  json.Key("version").String(std::to_string(model.version)).End();
  json.Key("metadata").BeginObject().Key("signature_def").BeginObject();
  json.Key("signature_def").BeginObject().Key("serving_default").BeginObject();
  json.Key("inputs");
  WritePorts(json, model, model.inputs);
  json.Key("outputs");
  WritePorts(json, model, model.outputs);
  json.Key("method_name").String("tensorflow/serving/predict");
  json.End().End().End().End().End();
  return json.Take();
}

}  // namespace dunlin::http
