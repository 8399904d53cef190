// Structured log lines on stderr or in a file: an event name and key=value fields, as text or JSON
// lines. Not for the answers of command line tools; those go to stdout.
//
//   log::Info("model ready", {{"model", name}, {"version", version}, {"seconds", 0.5}});
#pragma once

#include <fmt/core.h>

#include <concepts>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dunlin::log {

enum class Level : uint8_t { kVerbose, kInfo, kWarning, kError };
enum class Format : uint8_t {
  kDefault,  // I1128 07:41:15.829575 3355 model ready model=net     (as Triton begins its lines)
  kIso8601,  // 2026-11-28T07:41:15.829Z info    model ready model=net
  kJson,  // {"time":"2026-11-28T07:41:15.829Z","level":"info","event":"model ready","model":"net"}
};
std::string_view FormatName(Format format);  // "default", "ISO8601", "json"
std::optional<Format> ParseFormat(std::string_view name);

struct Options {
  Format format = Format::kDefault;
  bool info = true, warning = true, error = true;
  int verbose = 0;  // 0: verbose lines are dropped
};
// Also while others log; until the first call, all but verbose lines go out.
void Configure(const Options& options);
Options Current();
bool Enabled(Level level);

// From now on to this file; "" is stderr. kInvalidArgument when it cannot be opened.
Status OpenFile(const std::string& path);
std::string FilePath();
// For rotation: opens the file's path again.
Status ReopenFile();

// What the logging extension changes: log_info, log_warning, log_error, log_verbose_level and
// log_format. The last is "default" or "ISO8601", as sent. log_file has `file` set, and is refused.
struct Change {
  std::optional<bool> info{}, warning{}, error{};
  std::optional<uint32_t> verbose_level{};
  std::optional<std::string> format{};
  bool file = false;
};
// All or nothing. Errors in the protocol's words.
Status Apply(const Change& change);

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

// A value as it stands after '=': between quotes and escaped where it is no plain word.
void AppendValue(std::string& out, std::string_view text, bool quoted = true);

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
