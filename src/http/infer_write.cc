#include "http/infer_write.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/json_writer.h"
#include "http/tensor_bytes.h"
#include "serve/datatype.h"

namespace dunlin::http {
namespace {

constexpr int64_t kMaxClassifiedElements = 1000000;

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
  auto bytes = std::make_shared<std::string>(StringBytes(t));
  const auto size = bytes->size();
  return Tensor::Over(DType::kU8, Dims{int64_t(size)}, Buffer::Borrow(bytes->data(), size, bytes));
}

template <class T>
void BestOfRow(const T* row, int64_t n, int64_t k, const std::vector<std::string>& labels,
               std::string* out) {
  std::vector<int64_t> order(size_t(n), 0);
  std::iota(order.begin(), order.end(), 0);
  // NaN compares with nothing, which would break the sort: it goes last.
  const auto before = [row](int64_t a, int64_t b) {
    if constexpr (std::is_floating_point_v<T>) {
      if (std::isnan(row[a]) || std::isnan(row[b])) {
        if (std::isnan(row[a]) != std::isnan(row[b])) return std::isnan(row[b]);
        return a < b;
      }
    }
    return row[a] != row[b] ? row[a] > row[b] : a < b;
  };
  std::partial_sort(order.begin(), order.begin() + k, order.end(), before);
  for (int64_t i = 0; i < k; ++i) {
    const int64_t index = order[size_t(i)];
    out[i] = std::to_string(row[index]) + ":" + std::to_string(index);
    if (size_t(index) < labels.size()) out[i] += ":" + labels[size_t(index)];
  }
}

}  // namespace

Result<Tensor> Classify(const Tensor& t, uint64_t count, bool batched,
                        const std::vector<std::string>& labels) {
  if (t.count() > kMaxClassifiedElements)
    return Fail(Code::kInvalidArgument, "classification output tensor too large");
  const int64_t rows = batched && t.rank() > 0 ? t.dims()[0] : 1;
  const int64_t n = rows > 0 ? t.count() / rows : 0;
  const auto k = int64_t(std::min<uint64_t>(count, uint64_t(n)));
  Tensor out = TRY(Tensor::Create(DType::kString, batched ? Dims{rows, k} : Dims{k}));
  TRY(VisitDType(t.dtype(), "classification", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
      for (int64_t r = 0; r < rows; ++r)
        BestOfRow(t.as<T>() + r * n, n, k, labels, out.mut<std::string>() + r * k);
      return {};
    } else {
      return Fail(Code::kInvalidArgument,
                  "class result not available for output due to unsupported type '{}'",
                  serve::ProtocolName(t.dtype()));
    }
  }));
  return out;
}

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
      tensor = TRY(Classify(tensor, form.classes, model.max_batch_size > 0,
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
