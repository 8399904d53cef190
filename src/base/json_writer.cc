#include "base/json_writer.h"

#include <fmt/core.h>

#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>

namespace dunlin {
namespace {

// Length of the UTF-8 sequence at the front of `s`, 0 when there is none.
size_t SequenceLength(std::string_view s) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(s[i]); };
  const auto tail = [&](size_t i, unsigned low = 0x80, unsigned high = 0xbf) {
    return i < s.size() && byte(i) >= low && byte(i) <= high;
  };
  const unsigned lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead >= 0xc2 && lead <= 0xdf) return tail(1) ? 2 : 0;
  // The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF.
  if (lead >= 0xe0 && lead <= 0xef)
    return tail(1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf) && tail(2) ? 3 : 0;
  if (lead >= 0xf0 && lead <= 0xf4)
    return tail(1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf) && tail(2) && tail(3)
               ? 4
               : 0;
  return 0;
}

// Characters that stand for themselves.
constexpr auto kPlain = [] {
  std::array<bool, 256> plain{};
  for (size_t c = 0x20; c < 0x80; ++c) plain[c] = c != '"' && c != '\\';
  return plain;
}();

// Whether all eight characters of a word stand for themselves.
bool IsPlain(uint64_t word) {
  constexpr uint64_t kOnes = 0x0101010101010101u, kHigh = 0x80 * kOnes;
  // The high bit of a byte is set where it is below `limit`; what follows such a byte may be wrong.
  const auto below = [](uint64_t w, uint64_t limit) { return (w - limit * kOnes) & ~w & kHigh; };
  const auto is = [&](char c) { return below(word ^ (uint64_t(c) * kOnes), 1); };
  return ((word & kHigh) | below(word, 0x20) | is('"') | is('\\')) == 0;
}

// Appends `text` in quotes.
void AppendQuoted(std::string& out, std::string_view text) {
  out += '"';
  while (!text.empty()) {
    size_t run = 0;
    for (uint64_t word = 0; run + sizeof word <= text.size(); run += sizeof word) {
      std::memcpy(&word, text.data() + run, sizeof word);
      if (!IsPlain(word)) break;
    }
    while (run < text.size() && kPlain[static_cast<unsigned char>(text[run])]) ++run;
    out += text.substr(0, run);
    text.remove_prefix(run);
    if (text.empty()) break;
    const size_t n = SequenceLength(text);
    const char c = text[0];
    if (n == 0)
      out += "\xef\xbf\xbd";
    else if (c == '"' || c == '\\')
      (out += '\\') += c;
    else if (c == '\n')
      out += "\\n";
    else if (c == '\t')
      out += "\\t";
    else if (static_cast<unsigned char>(c) < 0x20)
      out += fmt::format("\\u{:04x}", c);
    else
      out += text.substr(0, n);
    text.remove_prefix(n == 0 ? 1 : n);
  }
  out += '"';
}

}  // namespace

std::string JsonQuoted(std::string_view text) {
  std::string out;
  AppendQuoted(out, text);
  return out;
}

void JsonWriter::Separate() {
  if (!first_ && !after_key_) text_ += ',';
  first_ = false;
  after_key_ = false;
}

JsonWriter& JsonWriter::Open(char open, char close) {
  Separate();
  text_ += open;
  closers_ += close;
  first_ = true;
  return *this;
}

JsonWriter& JsonWriter::End() {
  text_ += closers_.back();
  closers_.pop_back();
  first_ = false;
  return *this;
}

JsonWriter& JsonWriter::Key(std::string_view key) {
  Separate();
  AppendQuoted(text_, key);
  text_ += ':';
  after_key_ = true;
  return *this;
}

JsonWriter& JsonWriter::String(std::string_view value) {
  Separate();
  AppendQuoted(text_, value);
  return *this;
}

JsonWriter& JsonWriter::Raw(std::string_view json) {
  Separate();
  text_ += json;
  return *this;
}

JsonWriter& JsonWriter::Int(int64_t value) { return Raw(fmt::format("{}", value)); }

JsonWriter& JsonWriter::Double(double value, int digits) {
  return Raw(std::isfinite(value) ? fmt::format("{:.{}g}", value, digits) : "null");
}

}  // namespace dunlin
