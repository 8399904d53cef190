#include "http/json_read.h"

#include <algorithm>

#include "http/infer_parse.h"
#include "http/message.h"

namespace dunlin::http {
namespace {

template <class T>
Result<T> As(simdjson::simdjson_result<T> r, std::string_view name) {
  T value{};
  if (std::move(r).get(value) == simdjson::SUCCESS) return value;
  return Fail(Code::kInvalidArgument, "attempt to access JSON non-{} as {}", name, name);
}

}  // namespace

Result<JsonElement> JsonDocument::Parse(std::string_view text) {
  // What a parser keeps is several times the text.
  constexpr size_t kSmallBytes = 64 << 10;
  thread_local simdjson::dom::parser small;
  simdjson::dom::parser& parser = text.size() <= kSmallBytes ? small : large_.emplace();
  const size_t needed = text.size() <= kSmallBytes ? kSmallBytes : text.size();
  if (parser.capacity() < needed) {
    if (parser.allocate(needed, kMaxJsonDepth) != simdjson::SUCCESS)
      return Fail(Code::kResourceExhausted, "not enough memory to parse {} bytes of JSON",
                  text.size());
  }
  JsonElement root;
  // The caller has made sure of the padding, so nothing is copied.
  const auto error = parser.parse(text.data(), text.size(), false).get(root);
  if (error == simdjson::DEPTH_ERROR)
    return Fail(Code::kInvalidArgument,
                "failed to parse the request JSON buffer: JSON nesting depth exceeds maximum "
                "allowed limit ({})",
                kMaxJsonDepth);
  if (error != simdjson::SUCCESS)
    return Fail(error == simdjson::MEMALLOC ? Code::kResourceExhausted : Code::kInvalidArgument,
                "failed to parse the request JSON buffer: {}", simdjson::error_message(error));
  return root;
}

Result<JsonElement> JsonDocument::ParseCopy(std::string_view text) {
  copy_.reserve(text.size() + kBodyPadding);
  copy_ = text;
  return Parse(copy_);
}

std::optional<JsonElement> FindMember(JsonElement object, std::string_view key) {
  simdjson::dom::object o;
  JsonElement value;
  if (object.get(o) != simdjson::SUCCESS) return std::nullopt;
  if (o.at_key(key).get(value) != simdjson::SUCCESS) return std::nullopt;
  return value;
}

Result<JsonElement> Member(JsonElement object, std::string_view key) {
  if (auto found = FindMember(object, key)) return *found;
  return Fail(Code::kInvalidArgument, "attempt to access non-existing object member '{}'", key);
}

Result<std::string_view> AsString(JsonElement e) { return As(e.get_string(), "string"); }
Result<simdjson::dom::array> AsArray(JsonElement e) { return As(e.get_array(), "array"); }
Result<simdjson::dom::object> AsObject(JsonElement e) { return As(e.get_object(), "object"); }
Result<bool> AsBool(JsonElement e) { return As(e.get_bool(), "boolean"); }
Result<uint64_t> AsUnsigned(JsonElement e) { return As(e.get_uint64(), "unsigned-integer"); }

}  // namespace dunlin::http
