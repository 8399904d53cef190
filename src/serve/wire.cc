#include "serve/wire.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <charconv>
#include <cstring>
#include <optional>

namespace dunlin::serve {

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

Result<Tensor> StringsFromBytes(const Dims& dims, int64_t count, std::string_view bytes) {
  const auto held = CountStrings(bytes);
  if (!held) return Fail(Code::kInvalidArgument, "A length in the BYTES data points outside of it");
  if (*held != count)
    return Fail(Code::kInvalidArgument, "Expected {} BYTES elements, got {}", count, *held);
  Tensor t = TRY(Tensor::Create(DType::kString, dims));
  auto* out = t.mut<std::string>();
  size_t at = 0;
  for (int64_t i = 0; i < count; ++i) {
    const uint32_t n = LengthAt(bytes, at);
    out[i].assign(bytes.substr(at + sizeof n, n));
    at += sizeof n + n;
  }
  return t;
}

}  // namespace

std::span<const std::string_view> ServerExtensions() {
  static constexpr std::string_view kExtensions[] = {"classification",
                                                     "model_repository",
                                                     "model_repository(unload_dependents)",
                                                     "schedule_policy",
                                                     "model_configuration",
                                                     "system_shared_memory",
                                                     "binary_tensor_data",
                                                     "parameters",
                                                     "statistics",
                                                     "trace",
                                                     "logging"};
  return kExtensions;
}

Result<int64_t> ParseVersion(std::string_view text) {
  if (text.empty()) return 0;
  int64_t version = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), version);
  if (error == std::errc() && end == text.data() + text.size() && version > 0) return version;
  return Fail(
      Code::kInvalidArgument,
      "failed to get model version from specified version string '{}' (details: stol), version "
      "should be an integral value > 0",
      text);
}

Status CheckParameterName(std::string_view name) {
  if (name.substr(0, 7) == "triton_")
    return Fail(
        Code::kInvalidArgument,
        "parameter keys starting with 'triton_' are reserved for Triton usage and should not be "
        "specified.");
  if (name == "headers")
    return Fail(Code::kInvalidArgument,
                "parameter key 'headers' is reserved and should not be specified.");
  return {};
}

Result<Tensor> TensorFromBytes(DType dtype, const Dims& dims, std::string_view bytes,
                               std::shared_ptr<const void> owner) {
  const auto count = ElementCount(dims);
  if (!count)
    return Fail(Code::kInvalidArgument, "Shape [{}] does not describe a tensor",
                fmt::join(dims.begin(), dims.end(), ","));
  if (dtype == DType::kString) return StringsFromBytes(dims, *count, bytes);
  const int64_t expected = ByteSize(dtype, *count);
  if (expected != int64_t(bytes.size()))
    return Fail(Code::kInvalidArgument, "Expected {}, got {}", expected, bytes.size());
  const auto alignment = size_t(std::max(1, DTypeBits(dtype) / 8));
  const bool aligned = reinterpret_cast<uintptr_t>(bytes.data()) % alignment == 0;
  if (owner && aligned && dtype != DType::kBool && !bytes.empty())
    return Tensor::Over(
        dtype, dims,
        Buffer::Borrow(const_cast<char*>(bytes.data()), bytes.size(), std::move(owner)));
  Tensor t = TRY(Tensor::Create(dtype, dims));
  if (!bytes.empty()) std::memcpy(t.raw(), bytes.data(), bytes.size());
  if (dtype == DType::kBool) {  // any other byte than 0 and 1 is no bool in C++
    auto* p = reinterpret_cast<uint8_t*>(t.raw());
    for (int64_t i = 0; i < *count; ++i) p[i] = p[i] != 0;
  }
  return t;
}

Result<Tensor> InputFromBytes(const InputPlace& place, DType dtype, const Dims& dims,
                              std::string_view bytes, std::shared_ptr<const void> owner) {
  auto tensor = TensorFromBytes(dtype, dims, bytes, std::move(owner));
  if (tensor) return tensor;
  const std::string_view id = place.request_id.empty() ? "<id_unknown>" : place.request_id;
  return Fail(tensor.error().code,
              "[request id: {}] input byte size mismatch for input '{}' for model '{}'. {}", id,
              place.input, place.model, tensor.error().message);
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

Result<std::string> DecodeBase64(std::string_view text) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  static const auto values = [&] {
    std::array<uint8_t, 256> v;
    v.fill(64);
    for (size_t i = 0; i < kDigits.size(); ++i) v[uint8_t(kDigits[i])] = uint8_t(i);
    return v;
  }();
  const auto malformed = [] { return Fail(Code::kInvalidArgument, "malformed base64"); };
  if (text.size() % 4 != 0) return malformed();
  for (int i = 0; i < 2 && text.ends_with('='); ++i) text.remove_suffix(1);
  Result<std::string> out;
  out->reserve(text.size() / 4 * 3 + 2);
  uint32_t bits = 0;
  for (size_t i = 0; i < text.size(); ++i) {
    const uint8_t v = values[uint8_t(text[i])];
    if (v == 64) return malformed();
    bits = bits << 6 | v;
    if (i % 4 > 0) out->push_back(char(bits >> (6 - 2 * (i % 4))));
  }
  return out;
}

}  // namespace dunlin::serve
