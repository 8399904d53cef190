#include "base/log.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <climits>
#include <ctime>
#include <memory>
#include <mutex>

#include "base/append_file.h"
#include "base/json_writer.h"

namespace dunlin::log {
namespace {

struct State {
  std::atomic<Format> format{Format::kDefault};
  std::atomic<bool> info{true}, warning{true}, error{true};
  std::atomic<int> verbose{0};
  std::mutex mutex;
  std::shared_ptr<AppendFile> file = AppendFile::Open("").value();  // under mutex
};

State& Global() {
  static State* const state = new State;  // threads may log until the very end
  return *state;
}

std::shared_ptr<AppendFile> File() {
  State& state = Global();
  const std::lock_guard lock(state.mutex);
  return state.file;
}

constexpr std::string_view kLevelNames[] = {"verbose", "info", "warning", "error"};
constexpr char kLevelLetters[] = {'V', 'I', 'W', 'E'};
constexpr std::string_view kFormatNames[] = {"default", "ISO8601", "json"};

// What stands before the event.
std::string Head(Level level, Format format) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const int64_t us = std::chrono::duration_cast<std::chrono::microseconds>(now).count();
  const std::time_t seconds = us / 1'000'000;
  std::tm t{};
  ::gmtime_r(&seconds, &t);
  const auto micro = int(us % 1'000'000);
  if (format == Format::kDefault)
    return fmt::format("{}{:02}{:02} {:02}:{:02}:{:02}.{:06} {} ", kLevelLetters[size_t(level)],
                       t.tm_mon + 1, t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, micro, ::getpid());
  const std::string_view name = kLevelNames[size_t(level)];
  const std::string time =
      fmt::format("{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", t.tm_year + 1900, t.tm_mon + 1,
                  t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, micro / 1000);
  if (format == Format::kIso8601) return fmt::format("{} {:7} ", time, name);
  return fmt::format("{{\"time\":\"{}\",\"level\":\"{}\",", time, name);
}

void AppendEscaped(std::string& out, std::string_view s) {
  for (const char c : s) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (c == '\n') {
      out += "\\n";
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
    } else {
      out += c;
    }
  }
}

bool IsPlainWord(std::string_view s) {
  if (s.empty()) return false;
  for (const char c : s)
    if (static_cast<unsigned char>(c) <= 0x20 || c == '"' || c == '=' || c == '\\' || c == 0x7f)
      return false;
  return true;
}

}  // namespace

void AppendValue(std::string& out, std::string_view text, bool quoted) {
  if (!quoted || IsPlainWord(text)) {
    out += text;
  } else {
    out += '"';
    AppendEscaped(out, text);
    out += '"';
  }
}

void Configure(const Options& o) {
  State& state = Global();
  state.format = o.format;
  state.info = o.info;
  state.warning = o.warning;
  state.error = o.error;
  state.verbose = o.verbose;
}

Options Current() {
  const State& s = Global();
  return {.format = s.format,
          .info = s.info,
          .warning = s.warning,
          .error = s.error,
          .verbose = s.verbose};
}

std::string_view FormatName(Format format) { return kFormatNames[size_t(format)]; }

std::optional<Format> ParseFormat(std::string_view name) {
  const auto* const it = std::find(std::begin(kFormatNames), std::end(kFormatNames), name);
  if (it == std::end(kFormatNames)) return {};
  return Format(it - std::begin(kFormatNames));
}

Status OpenFile(const std::string& path) {
  std::shared_ptr<AppendFile> file = TRY(AppendFile::Open(path));
  State& state = Global();
  const std::lock_guard lock(state.mutex);
  state.file = std::move(file);
  return {};
}

std::string FilePath() { return File()->path(); }
Status ReopenFile() { return File()->Reopen(); }

Status Apply(const Change& change) {
  if (change.file)
    return Fail(Code::kUnimplemented,
                "log file location can not be updated through network protocol");
  Options o = Current();
  o.info = change.info.value_or(o.info);
  o.warning = change.warning.value_or(o.warning);
  o.error = change.error.value_or(o.error);
  if (change.verbose_level) o.verbose = int(std::min<uint32_t>(*change.verbose_level, INT_MAX));
  if (change.format) {
    const auto format = ParseFormat(*change.format);
    if (!format || *format == Format::kJson)
      return Fail(Code::kInvalidArgument, "invalid argument for log_format, got: {}",
                  *change.format);
    o.format = *format;
  }
  Configure(o);
  return {};
}

bool Enabled(Level level) {
  const State& s = Global();
  switch (level) {
    case Level::kVerbose:
      return s.verbose.load(std::memory_order_relaxed) > 0;
    case Level::kInfo:
      return s.info.load(std::memory_order_relaxed);
    case Level::kWarning:
      return s.warning.load(std::memory_order_relaxed);
    case Level::kError:
      return s.error.load(std::memory_order_relaxed);
  }
  return true;
}

void Write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  if (!Enabled(level)) return;
  const Format format = Global().format;
  std::string line = Head(level, format);
  if (format == Format::kJson) {
    fmt::format_to(std::back_inserter(line), "\"event\":{}", JsonQuoted(event));
    for (const Field& f : fields)
      fmt::format_to(std::back_inserter(line), ",{}:{}", JsonQuoted(f.key),
                     f.quoted ? JsonQuoted(f.text) : f.text);
    line += '}';
  } else {
    AppendEscaped(line, event);
    for (const Field& f : fields) {
      (line += ' ').append(f.key) += '=';
      AppendValue(line, f.text, f.quoted);
    }
  }
  line += '\n';
  File()->Write(line);
}

}  // namespace dunlin::log
