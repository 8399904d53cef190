// Reading JSON that clients send: simdjson's DOM, with the errors the protocol's clients know.
#pragma once

#include <simdjson.h>

#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dunlin::http {

using JsonElement = simdjson::dom::element;

// One document. Elements live as long as the JsonDocument. One at a time per thread: small ones use
// memory that stays with it.
class JsonDocument {
 public:
  // Needs kBodyPadding readable bytes behind `text`. kInvalidArgument for what is not JSON or nests
  // too deeply.
  Result<JsonElement> Parse(std::string_view text);
  // The same for a text that has no such bytes: it is copied.
  Result<JsonElement> ParseCopy(std::string_view text);

 private:
  std::optional<simdjson::dom::parser> large_;
  std::string copy_;
};

// "attempt to access non-existing object member 'x'" when `object` has none.
Result<JsonElement> Member(JsonElement object, std::string_view key);
std::optional<JsonElement> FindMember(JsonElement object, std::string_view key);

// The value of an element, or "attempt to access JSON non-string as string" and so on.
Result<std::string_view> AsString(JsonElement e);
Result<simdjson::dom::array> AsArray(JsonElement e);
Result<simdjson::dom::object> AsObject(JsonElement e);
Result<bool> AsBool(JsonElement e);
Result<uint64_t> AsUnsigned(JsonElement e);

// "Unable to parse 'shape': …"
inline tl::unexpected<Error> UnableToParse(std::string_view what, const Error& error) {
  return Fail(error.code, "Unable to parse '{}': {}", what, error.message);
}

}  // namespace dunlin::http
