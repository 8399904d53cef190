#include "http/tensor_bytes.h"

#include <bit>
#include <cstring>

namespace dunlin::http {

static_assert(std::endian::native == std::endian::little, "the wire is little-endian");

namespace {

uint32_t LengthAt(std::string_view bytes, size_t at) {
  uint32_t n = 0;
  std::memcpy(&n, bytes.data() + at, sizeof n);
  return n;
}

// Elements in `bytes`, or nothing when a length points outside.
std::optional<int64_t> CountStrings(std::string_view bytes) {
  int64_t count = 0;
  for (size_t at = 0; at < bytes.size(); ++count) {
    if (bytes.size() - at < sizeof(uint32_t)) return std::nullopt;
    const uint32_t n = LengthAt(bytes, at);
    at += sizeof(uint32_t);
    if (bytes.size() - at < n) return std::nullopt;
    at += n;
  }
  return count;
}

}  // namespace

Result<Tensor> TensorFromBytes(DType dtype, const Dims& dims, std::string_view bytes,
                               std::string_view place) {
  const auto count = ElementCount(dims);
  if (!count)
    return Fail(Code::kInvalidArgument, "{}: shape {} does not describe a tensor", place,
                ToString(dims));
  if (dtype != DType::kString) {
    const int64_t expected = ByteSize(dtype, *count);
    if (expected != int64_t(bytes.size()))
      return Fail(Code::kInvalidArgument, "{}. Expected {}, got {}", place, expected, bytes.size());
    Tensor t = TRY(Tensor::Create(dtype, dims));
    if (!bytes.empty()) std::memcpy(t.raw(), bytes.data(), bytes.size());
    if (dtype == DType::kBool) {  // any other byte than 0 and 1 is no bool in C++
      auto* p = reinterpret_cast<uint8_t*>(t.raw());
      for (int64_t i = 0; i < *count; ++i) p[i] = p[i] != 0;
    }
    return t;
  }
  const auto held = CountStrings(bytes);
  if (!held)
    return Fail(Code::kInvalidArgument, "{}: a length in the BYTES data points outside of it",
                place);
  if (*held != *count)
    return Fail(Code::kInvalidArgument, "{}: expected {} BYTES elements, got {}", place, *count,
                *held);
  Tensor t = TRY(Tensor::Create(dtype, dims));
  auto* out = t.mut<std::string>();
  size_t at = 0;
  for (int64_t i = 0; i < *count; ++i) {
    const uint32_t n = LengthAt(bytes, at);
    out[i].assign(bytes.substr(at + sizeof n, n));
    at += sizeof n + n;
  }
  return t;
}

std::string StringBytes(const Tensor& t) {
  std::string out;
  size_t total = 0;
  for (const std::string& s : t.values<std::string>()) total += sizeof(uint32_t) + s.size();
  out.reserve(total);
  for (const std::string& s : t.values<std::string>()) {
    const auto n = uint32_t(s.size());
    out.append(reinterpret_cast<const char*>(&n), sizeof n);
    out += s;
  }
  return out;
}

}  // namespace dunlin::http
