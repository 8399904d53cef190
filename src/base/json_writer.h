// JSON text, written front to back; commas are its business. For reading JSON use simdjson.
//   JsonWriter json;
//   json.BeginObject().Key("name").String(name).Key("shape").BeginArray().Int(1).Int(3).End().End();
// Not for untrusted nesting: calls must pair up, which is the caller's duty and not checked.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace dunlin {

// `text` in quotes. Control characters are escaped; bytes that are not UTF-8 become U+FFFD, so that
// the result is always valid JSON.
std::string JsonQuoted(std::string_view text);

class JsonWriter {
 public:
  JsonWriter() = default;
  explicit JsonWriter(size_t expected_bytes) { text_.reserve(expected_bytes); }
  JsonWriter& BeginObject() { return Open('{', '}'); }
  JsonWriter& BeginArray() { return Open('[', ']'); }
  JsonWriter& End();
  JsonWriter& Key(std::string_view key);
  JsonWriter& String(std::string_view value);
  JsonWriter& Int(int64_t value);
  JsonWriter& Double(double value,
                     int digits = 6);  // significant digits; NaN and infinities become null
  // Integers in full; floats in the shortest form that reads back as the same value of their type,
  // and never as an integer; NaN and infinities become null.
  template <class T>
  JsonWriter& Number(T value) {
    Separate();
    if constexpr (std::is_floating_point_v<T>) {
      if (!std::isfinite(value)) {
        text_ += "null";
        return *this;
      }
    }
    char digits[32];
    const char* end = std::to_chars(digits, digits + sizeof digits, value).ptr;
    const std::string_view written(digits, size_t(end - digits));
    text_ += written;
    if (std::is_floating_point_v<T> && written.find_first_of(".e") == std::string_view::npos)
      text_ += ".0";
    return *this;
  }
  JsonWriter& Bool(bool value) { return Raw(value ? "true" : "false"); }
  JsonWriter& Raw(std::string_view json);  // a value that is JSON already

  const std::string& text() const { return text_; }
  std::string Take() { return std::move(text_); }

 private:
  JsonWriter& Open(char open, char close);
  void Separate();

  std::string text_;
  std::string closers_;  // what End() writes, innermost last
  bool first_ = true;    // nothing yet in the innermost object or array
  bool after_key_ = false;
};

}  // namespace dunlin
