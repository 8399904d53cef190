#include "serve/join.h"

#include <algorithm>
#include <cstring>
#include <functional>

namespace dunlin::serve {
namespace {

uint64_t Mix(uint64_t hash, uint64_t value) {
  hash = (hash ^ value) * 0x9e3779b97f4a7c15ull;
  return hash ^ (hash >> 29);
}

}  // namespace

uint64_t ShapeKey(const ModelSpec& model, const InferRequest& request, bool ragged) {
  uint64_t key = request.inputs.size();
  const bool all = request.inputs.size() == model.inputs.size();
  for (size_t i = 0; i < request.inputs.size(); ++i) {
    const NamedTensor& in = request.inputs[i];
    if (!all) key = Mix(key, std::hash<std::string>()(in.name));
    const Dims& dims = in.tensor.dims();
    const TensorSpec* spec = all ? &model.inputs[i] : model.FindInput(in.name);
    key = Mix(key, dims.size());
    if (ragged && spec != nullptr && spec->ragged) continue;
    for (size_t d = model.max_batch_size > 0 ? 1 : 0; d < dims.size(); ++d)
      key = Mix(key, uint64_t(dims[d]));
  }
  return key;
}

bool SameShapes(std::span<const std::span<const NamedTensor>> requests) {
  for (const auto& r : requests.subspan(1)) {
    for (size_t i = 0; i < r.size(); ++i) {
      const std::span<const int64_t> a = requests[0][i].tensor.dims(), b = r[i].tensor.dims();
      if (!std::equal(a.begin() + 1, a.end(), b.begin() + 1, b.end())) return false;
    }
  }
  return true;
}

Result<std::vector<NamedTensor>> JoinInputs(
    std::span<const std::span<const NamedTensor>> requests) {
  std::vector<NamedTensor> joined;
  joined.reserve(requests[0].size());
  for (size_t i = 0; i < requests[0].size(); ++i) {
    const NamedTensor& first = requests[0][i];
    if (requests.size() == 1) {
      joined.push_back(first);
      continue;
    }
    Dims dims = first.tensor.dims();
    dims[0] = 0;
    for (const auto& r : requests) dims[0] += r[i].tensor.dims()[0];
    Tensor whole = TRY(Tensor::Create(first.tensor.dtype(), dims));
    std::byte* to = whole.raw();
    for (const auto& r : requests) {
      const Tensor& part = r[i].tensor;
      const auto bytes = size_t(part.bytes());
      if (part.dtype() == DType::kString)
        std::copy_n(part.as<std::string>(), part.count(), reinterpret_cast<std::string*>(to));
      else if (bytes > 0)
        std::memcpy(to, part.raw(), bytes);
      to += bytes;
    }
    joined.push_back({first.name, std::move(whole)});
  }
  return joined;
}

Tensor Part(const Tensor& output, int64_t first, int64_t count, int64_t total) {
  if (!output.defined() || output.rank() == 0 || output.dims()[0] != total) return {};
  if (count == total) return output;
  Dims dims = output.dims();
  const int64_t item_bytes = output.bytes() / total;
  dims[0] = count;
  return Tensor::Over(output.dtype(), dims, output.buffer(),
                      output.offset() + size_t(first * item_bytes));
}

}  // namespace dunlin::serve
