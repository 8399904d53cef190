// A model file from anywhere: loading must answer with a model or an error, and running what loaded
// with results or an error, whatever the file says.
#include <chrono>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>

#include "dunlin/engine.h"
#include "formats/onnx.h"
#include "fuzz/mutate_model.h"
#include "ops/op.h"

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

using namespace dunlin;  // NOLINT: a test's main file

constexpr int64_t kMaxElements = 1 << 14;  // of an input
// A run is stopped between steps; one step of a model this small takes far less.
constexpr auto kMaxRun = std::chrono::seconds(1);

// "Conv" or "domain.Name".
const std::vector<std::string>& Operators() {
  static const auto* names = [] {
    auto* all = new std::vector<std::string>;
    for (const OpDef* op : AllOps())
      all->push_back((op->domain.empty() ? "" : std::string(op->domain) + ".") +
                     std::string(op->name));
    return all;
  }();
  return *names;
}

// Small numbers that repeat, with what is special among them.
std::optional<Tensor> MakeTensor(const PortInfo& port, size_t variant) {
  Dims dims = port.dims;
  if (!port.has_shape) dims = Dims(size_t(variant % 4), 2);
  for (size_t i = 0; i < dims.size(); ++i)
    if (!IsKnown(dims[i])) dims[i] = int64_t(1 + (variant + i) % 3);
  const auto count = ElementCount(dims);
  if (!count || *count > kMaxElements) return std::nullopt;
  const DType dtype = port.dtype == DType::kUndefined ? DType::kF32 : port.dtype;
  auto t = Tensor::Create(dtype, dims);
  if (!t) return std::nullopt;
  if (DTypeBits(dtype) <= 8 && dtype != DType::kBool && dtype != DType::kString) {
    for (int64_t i = 0; i < t->bytes(); ++i)
      t->raw()[i] = std::byte((i * 37 + int64_t(variant)) & 0xff);
    return *t;
  }
  const Status filled = VisitDType(dtype, "input", [&]<class T>(TypeTag<T>) -> Status {
    for (int64_t i = 0; i < *count; ++i) {
      const int64_t v = (i + int64_t(variant)) % 11 - 2;
      if constexpr (std::is_same_v<T, std::string>)
        t->mut<T>()[i] = std::string(size_t(v + 2), char('a' + v));
      else if constexpr (std::is_same_v<T, bool>)
        t->mut<T>()[i] = v % 2 != 0;
      else if constexpr (kIsFloat<T>)
        t->mut<T>()[i] = T(v == 8 ? INFINITY : v == 7 ? NAN : float(v) / 2);
      else
        t->mut<T>()[i] = T(v);
    }
    return {};
  });
  return filled ? std::optional(*t) : std::nullopt;
}

void RunOnce(const std::shared_ptr<const Model>& model, size_t variant) {
  std::vector<NamedValue> inputs;
  for (const PortInfo& p : model->inputs()) {
    Value v;
    if (p.key != DType::kUndefined) return;  // maps come from operators alone
    if (p.sequence) {
      v.kind = Value::Kind::kSequence;
      for (size_t i = 0; i < variant % 3; ++i)
        if (auto t = MakeTensor(p, variant + i)) v.sequence.push_back(*t);
    } else if (!p.optional || variant % 2 == 0) {
      const auto t = MakeTensor(p, variant);
      if (!t) return;
      v = Value(*t);
    }
    inputs.push_back({p.name, std::move(v)});
  }
  auto session = Session::Create(model, {.threads = 1});
  if (!session) __builtin_trap();
  const auto end = std::chrono::steady_clock::now() + kMaxRun;
  const auto late = [end] { return std::chrono::steady_clock::now() > end; };
  const auto outputs = session->RunValues(inputs, {.outputs = {}, .cancelled = late});
  if (!outputs.has_value() && outputs.error().message.empty()) __builtin_trap();
}

// What can be written can be read; that it answers alike is tested elsewhere.
void WriteAndRead(std::span<const std::byte> bytes) {
  const auto copy = [](const void* from, size_t size) {
    auto buffer = Buffer::Allocate(size);
    if (buffer && size > 0) std::memcpy((*buffer)->data(), from, size);
    return buffer;
  };
  const auto in = copy(bytes.data(), bytes.size());
  if (!in) return;
  const auto model = ImportOnnx({(*in)->data(), bytes.size()}, *in, "");
  if (!model) return;
  const auto written = ExportOnnxBytes(*model, {});
  if (!written) return;
  if (const auto back = copy(written->data(), written->size()))
    (void)ImportOnnx({(*back)->data(), written->size()}, *back, "");
}

}  // namespace

// What a file may ask for is not what the machine has: far less than 64 KiB of it have a right to.
extern "C" int LLVMFuzzerInitialize(int*, char***) {
  return ::setenv("DUNLIN_MEMORY_LIMIT", "268435456", 1);
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  WriteAndRead(std::as_bytes(std::span(data, size)));
  for (const OptLevel opt : {OptLevel::kDefault, OptLevel::kNone}) {
    LoadOptions options;
    options.opt = opt;
    options.threads = 1;
    // No file of this machine decides what the bytes mean.
    options.external_data_dir = "/nonexistent";
    const auto model = Model::LoadBytes(std::as_bytes(std::span(data, size)), options);
    if (!model.has_value()) {
      if (model.error().message.empty()) __builtin_trap();
      return 0;
    }
    (void)(*model)->Text();
    (void)(*model)->operators();
    for (const size_t variant : {size % 5, size % 5 + 3}) RunOnce(*model, variant);
  }
  return 0;
}

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed) {
  onnx::ModelProto model;
  // Bytes are changed as bytes now and then: the reader of the file must bear that, too.
  if (seed % 16 == 0 || !model.ParseFromArray(data, int(size)))
    return LLVMFuzzerMutate(data, size, max_size);
  fuzz::ModelMutator(seed, Operators()).Mutate(model);
  const std::string out = model.SerializePartialAsString();
  if (out.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
  std::memcpy(data, out.data(), out.size());
  return out.size();
}

extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* a, size_t a_size, const uint8_t* b,
                                            size_t b_size, uint8_t* out, size_t max_size,
                                            unsigned seed) {
  onnx::ModelProto first, second;
  if (!first.ParseFromArray(a, int(a_size)) || !second.ParseFromArray(b, int(b_size))) return 0;
  fuzz::ModelMutator(seed, Operators()).Join(first, second);
  const std::string joined = first.SerializePartialAsString();
  if (joined.size() > max_size) return 0;
  std::memcpy(out, joined.data(), joined.size());
  return joined.size();
}
