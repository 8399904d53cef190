#include "cli/utf8.h"

namespace dunlin::cli {
namespace {
constexpr char32_t kReplacement = U'\uFFFD';
bool IsScalarValue(char32_t c) { return c <= 0x10ffff && !(c >= 0xd800 && c <= 0xdfff); }
}  // namespace

std::string ToUtf8(std::u32string_view points) {
  std::string out;
  for (char32_t c : points) {
    if (!IsScalarValue(c)) c = kReplacement;
    if (c < 0x80) {
      out += char(c);
      continue;
    }
    const int tail = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    constexpr unsigned char kLead[] = {0, 0xc0, 0xe0, 0xf0};
    out += char(kLead[tail] | (c >> (6 * tail)));
    for (int i = tail - 1; i >= 0; --i) out += char(0x80 | (c >> (6 * i) & 0x3f));
  }
  return out;
}

std::u32string FromUtf8(std::string_view text) {
  std::u32string out;
  for (size_t at = 0; at < text.size();) {
    const auto lead = static_cast<unsigned char>(text[at++]);
    if (lead < 0x80) {
      out += char32_t(lead);
      continue;
    }
    const int tail = lead >= 0xf0 && lead < 0xf8 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc2 ? 1 : 0;
    constexpr char32_t kSmallest[] = {0, 0x80, 0x800, 0x10000};
    char32_t c = lead & (0x3f >> tail);
    int have = 0;
    while (have < tail && at < text.size() &&
           (static_cast<unsigned char>(text[at]) & 0xc0) == 0x80) {
      c = c << 6 | (static_cast<unsigned char>(text[at++]) & 0x3f);
      ++have;
    }
    const bool sound =
        lead < 0xf8 && tail > 0 && have == tail && c >= kSmallest[tail] && IsScalarValue(c);
    out += sound ? c : kReplacement;
  }
  return out;
}

}  // namespace dunlin::cli
