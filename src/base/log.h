// Structured log lines on stderr: an event name and key=value fields, as text or JSON lines.
// Not for the answers of command line tools; those go to stdout.
//
//   log::Info("model ready", {{"model", name}, {"version", version}, {"seconds", 0.5}});
#pragma once

#include <fmt/core.h>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

namespace dunlin::log {

enum class Level : uint8_t { kVerbose, kInfo, kWarning, kError };
enum class Format : uint8_t { kText, kJson };

struct Options {
  Format format = Format::kText;
  bool info = true;
  int verbose = 0;  // 0: verbose lines are dropped
};
// Before threads log; until then warnings, errors and info go out as text.
void Configure(const Options& options);
bool Enabled(Level level);

struct Field {
  std::string_view key;
  std::string text;
  bool quoted;  // a JSON string rather than a number or bool

  Field(std::string_view k, std::string_view v) : key(k), text(v), quoted(true) {}
  Field(std::string_view k, const std::string& v) : key(k), text(v), quoted(true) {}
  Field(std::string_view k, const char* v) : key(k), text(v), quoted(true) {}
  Field(std::string_view k, bool v) : key(k), text(v ? "true" : "false"), quoted(false) {}
  template <std::integral T>
  Field(std::string_view k, T v) : key(k), text(fmt::format("{}", v)), quoted(false) {}
  Field(std::string_view k, double v) : key(k), text(fmt::format("{:.6g}", v)), quoted(false) {}
};

// One line, written at once; thread-safe. Control characters are escaped, so that what a client
// sent cannot forge a line.
void Write(Level level, std::string_view event, std::initializer_list<Field> fields = {});

inline void Verbose(std::string_view event, std::initializer_list<Field> fields = {}) {
  if (Enabled(Level::kVerbose)) Write(Level::kVerbose, event, fields);
}
inline void Info(std::string_view event, std::initializer_list<Field> fields = {}) {
  Write(Level::kInfo, event, fields);
}
inline void Warning(std::string_view event, std::initializer_list<Field> fields = {}) {
  Write(Level::kWarning, event, fields);
}
inline void Error(std::string_view event, std::initializer_list<Field> fields = {}) {
  Write(Level::kError, event, fields);
}

}  // namespace dunlin::log
