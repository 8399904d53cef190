// Writing JSON text. What it writes is always valid JSON: control characters are escaped, bytes
// that are not UTF-8 become U+FFFD, and numbers JSON does not have (NaN, infinities) become null.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

namespace dunlin::http {

void AppendJsonString(std::string& out, std::string_view text);
bool IsUtf8(std::string_view text);

// Floats in the shortest form that reads back as the same value of their type.
template <class T>
void AppendJsonNumber(std::string& out, T value) {
  char text[32];
  if constexpr (std::is_floating_point_v<T>) {
    if (!std::isfinite(value)) {
      out += "null";
      return;
    }
  }
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  out.append(text, size_t(end - text));
  // 1 would read back as an integer in languages that tell the two apart.
  if (std::is_floating_point_v<T> &&
      std::string_view(text, size_t(end - text)).find_first_of(".e") == std::string_view::npos)
    out += ".0";
}

// Writes commas where they belong: Key/Value calls inside Begin/End.
class JsonWriter {
 public:
  JsonWriter& BeginObject() { return Open('{'); }
  JsonWriter& EndObject() { return Close('}'); }
  JsonWriter& BeginArray() { return Open('['); }
  JsonWriter& EndArray() { return Close(']'); }
  JsonWriter& Key(std::string_view key) {
    Comma();
    AppendJsonString(out_, key);
    out_ += ':';
    fresh_ = true;
    return *this;
  }
  JsonWriter& String(std::string_view value) {
    Comma();
    AppendJsonString(out_, value);
    return *this;
  }
  template <class T>
  JsonWriter& Number(T value) {
    Comma();
    AppendJsonNumber(out_, value);
    return *this;
  }
  JsonWriter& Bool(bool value) { return Raw(value ? "true" : "false"); }
  // Text that is JSON already.
  JsonWriter& Raw(std::string_view json) {
    Comma();
    out_ += json;
    return *this;
  }
  // For values written straight into the text, after Comma().
  std::string& out() { return out_; }
  void Comma() {
    if (!fresh_) out_ += ',';
    fresh_ = false;
  }
  std::string Take() { return std::move(out_); }

 private:
  JsonWriter& Open(char c) {
    Comma();
    out_ += c;
    fresh_ = true;
    return *this;
  }
  JsonWriter& Close(char c) {
    out_ += c;
    fresh_ = false;
    return *this;
  }
  std::string out_;
  bool fresh_ = true;  // no comma before the next item
};

}  // namespace dunlin::http
