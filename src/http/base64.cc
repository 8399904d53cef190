#include "http/base64.h"

#include <array>
#include <cstdint>

namespace dunlin::http {
namespace {

constexpr std::string_view kAlphabet =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

constexpr std::array<int8_t, 256> Values() {
  std::array<int8_t, 256> values{};
  for (auto& v : values) v = -1;
  for (size_t i = 0; i < kAlphabet.size(); ++i) values[uint8_t(kAlphabet[i])] = int8_t(i);
  return values;
}
constexpr std::array<int8_t, 256> kValues = Values();

}  // namespace

Result<std::string> Base64Decode(std::string_view text) {
  Result<std::string> out;
  out->reserve(text.size() / 4 * 3 + 3);
  uint32_t bits = 0;
  size_t digits = 0, padding = 0;
  for (const char c : text) {
    if (c == '\n' || c == '\r') continue;
    if (c == '=') {
      ++padding;
      continue;
    }
    const int8_t value = kValues[uint8_t(c)];
    if (value < 0 || padding > 0)
      return Fail(Code::kInvalidArgument, "not base64: character {} of the text", digits + 1);
    bits = bits << 6 | uint32_t(value);
    if (++digits % 4 == 0) {
      for (const int shift : {16, 8, 0}) *out += char(bits >> shift & 0xff);
      bits = 0;
    }
  }
  const size_t rest = digits % 4;
  if (rest == 1 || padding > 2 || (padding > 0 && (rest + padding) % 4 != 0))
    return Fail(Code::kInvalidArgument, "not base64: the text is cut short");
  if (rest >= 2) *out += char(bits >> (rest == 2 ? 4 : 10) & 0xff);
  if (rest == 3) *out += char(bits >> 2 & 0xff);
  return out;
}

}  // namespace dunlin::http
