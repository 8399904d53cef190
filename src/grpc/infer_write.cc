#include "grpc/infer_write.h"

#include <algorithm>

#include "grpc/wire_writer.h"
#include "serve/classify.h"
#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::grpc {
namespace {

// Below this a copy costs less than what lets the transport refer to the tensor's memory.
constexpr size_t kReferFrom = 4096;
constexpr size_t kUsualHead = 256;  // of a reply, with small tensors: grown once

// InferParameter entries of the map `field`.
template <class Value>
void PutParameter(std::string& out, uint32_t field, std::string_view key, const Value& value) {
  std::string inner;
  std::visit(
      [&inner]<class T>(const T& v) {
        if constexpr (std::is_same_v<T, bool>) {
          PutVarintField(inner, 1, v);
        } else if constexpr (std::is_same_v<T, int64_t>) {
          PutVarintField(inner, 2, uint64_t(v));
        } else if constexpr (std::is_same_v<T, uint64_t>) {
          PutVarintField(inner, 5, v);
        } else if constexpr (std::is_same_v<T, double>) {
          PutVarint(inner, 4 << 3 | 1);
          inner.append(reinterpret_cast<const char*>(&v), sizeof v);
        } else {
          PutBytes(inner, 3, v);  // also when empty: which one of the oneof it is counts
        }
      },
      value);
  std::string entry;
  PutBytes(entry, 1, key);
  PutBytes(entry, 2, inner);
  PutBytes(out, field, entry);
}

void PutTensor(std::string& out, const std::string& name, const Tensor& tensor) {
  std::string shape;
  for (const int64_t d : tensor.dims()) PutVarint(shape, uint64_t(d));
  std::string inner;
  PutString(inner, 1, name);
  PutString(inner, 2, serve::ProtocolName(tensor.dtype()));
  PutString(inner, 3, shape);
  PutBytes(out, 5, inner);
}

// The tensor's bytes as the protocol has them, as a tensor of numbers.
Tensor Raw(Tensor tensor) {
  if (tensor.dtype() != DType::kString) return tensor;
  auto bytes = std::make_shared<std::string>(serve::StringBytes(tensor));
  const size_t size = bytes->size();
  char* data = bytes->data();
  return Tensor::Over(DType::kU8, Dims{int64_t(size)},
                      Buffer::Borrow(data, size, std::move(bytes)));
}

}  // namespace

size_t MessageBytes(const Message& message) {
  size_t bytes = 0;
  for (const MessagePart& part : message) bytes += part.text.size() + size_t(part.tensor.bytes());
  return bytes;
}

Result<Message> WriteInferReply(const serve::ModelSpec& model, std::span<const OutputForm> forms,
                                serve::InferResponse response, ReplyForm reply_form) {
  Message message(1);
  std::string& head = message[0].text;
  head.reserve(kUsualHead);
  PutString(head, 1, response.model);
  PutString(head, 2, std::to_string(response.version));
  PutString(head, 3, response.id);
  for (const auto& [key, value] : response.parameters) PutParameter(head, 4, key, value);
  if (reply_form == ReplyForm::kStream)
    PutParameter(head, 4, "triton_final_response", std::variant<bool>(true));
  std::vector<Tensor> raw;
  raw.reserve(response.outputs.size());
  for (NamedTensor& output : response.outputs) {
    const auto form = std::find_if(forms.begin(), forms.end(),
                                   [&](const OutputForm& f) { return f.name == output.name; });
    Tensor tensor = std::move(output.tensor);
    if (form != forms.end() && form->classes > 0) {
      static const std::vector<std::string> kNone;
      const serve::TensorSpec* spec = model.FindOutput(output.name);
      tensor = TRY(serve::Classify(tensor, form->classes, model.max_batch_size > 0,
                                   spec ? spec->labels : kNone));
    }
    PutTensor(head, output.name, tensor);
    if (form != forms.end() && form->shared.region) {
      TRY(serve::WriteSharedMemory(form->shared, output.name, tensor));
      tensor = {};  // its entry among the raw contents is empty
    }
    raw.push_back(Raw(std::move(tensor)));
  }
  for (Tensor& tensor : raw) {
    const auto bytes = size_t(tensor.bytes());
    std::string& text = message.back().text;
    PutLength(text, 6, bytes);
    if (bytes < kReferFrom) {
      if (bytes > 0) text.append(reinterpret_cast<const char*>(tensor.raw()), bytes);
    } else {
      message.back().tensor = std::move(tensor);
      message.emplace_back();
    }
  }
  if (reply_form == ReplyForm::kStream) {
    std::string prefix;
    PutLength(prefix, 2, MessageBytes(message));
    message[0].text.insert(0, prefix);
  }
  return message;
}

Message WriteStreamError(const std::string& text, const std::string& request_id) {
  Message message(1);
  std::string response;
  PutString(response, 3, request_id);
  PutString(message[0].text, 1, text);
  PutBytes(message[0].text, 2, response);
  return message;
}

}  // namespace dunlin::grpc
