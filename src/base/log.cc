#include "base/log.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>

#include "base/json_writer.h"

namespace dunlin::log {
namespace {

// Level and format are ours; spdlog gives the time stamp and the locked sink.
struct State {
  Options options;
  std::shared_ptr<spdlog::logger> logger;
};

State& Global() {
  static State state = [] {
    State s;
    s.logger = std::make_shared<spdlog::logger>("dunlin",
                                                std::make_shared<spdlog::sinks::stderr_sink_mt>());
    s.logger->set_level(spdlog::level::trace);
    s.logger->set_pattern("%Y-%m-%dT%H:%M:%S.%eZ %v", spdlog::pattern_time_type::utc);
    return s;
  }();
  return state;
}

constexpr std::string_view kLevelNames[] = {"verbose", "info", "warning", "error"};

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

void Configure(const Options& options) {
  State& state = Global();
  state.options = options;
  // In JSON the time stamp is the first member of the object that the message goes on with.
  state.logger->set_pattern(options.format == Format::kJson
                                ? "{\"time\":\"%Y-%m-%dT%H:%M:%S.%eZ\",%v}"
                                : "%Y-%m-%dT%H:%M:%S.%eZ %v",
                            spdlog::pattern_time_type::utc);
}

bool Enabled(Level level) {
  const Options& o = Global().options;
  if (level == Level::kVerbose) return o.verbose > 0;
  return level != Level::kInfo || o.info;
}

void Write(Level level, std::string_view event, std::initializer_list<Field> fields) {
  if (!Enabled(level)) return;
  State& state = Global();
  const std::string_view name = kLevelNames[static_cast<size_t>(level)];
  std::string line;
  if (state.options.format == Format::kJson) {
    line = fmt::format("\"level\":\"{}\",\"event\":{}", name, JsonQuoted(event));
    for (const Field& f : fields)
      line += fmt::format(",{}:{}", JsonQuoted(f.key), f.quoted ? JsonQuoted(f.text) : f.text);
  } else {
    line = fmt::format("{:7} ", name);
    AppendEscaped(line, event);
    for (const Field& f : fields) {
      line += fmt::format(" {}=", f.key);
      if (!f.quoted || IsPlainWord(f.text)) {
        line += f.text;
      } else {
        line += '"';
        AppendEscaped(line, f.text);
        line += '"';
      }
    }
  }
  state.logger->log(spdlog::level::info, spdlog::string_view_t(line.data(), line.size()));
  state.logger->flush();
}

}  // namespace dunlin::log
