#include "serve/trace_options.h"

#include <charconv>
#include <limits>
#include <string_view>

namespace dunlin::serve {
namespace {

template <class T>
Result<T> Number(std::string_view text, std::string_view what, int64_t least, int64_t most) {
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size() || value < least ||
      value > most)
    return Fail(Code::kInvalidArgument,
                "--trace-config: {} must be a whole number from {} to {}, got '{}'", what, least,
                most, text);
  return static_cast<T>(value);
}

Status SetOpenTelemetry(TraceOptions& o, std::string_view key, std::string_view value) {
  constexpr int64_t kMost = 1 << 20;
  if (key == "url") {
    o.url = value;
  } else if (key == "resource") {
    const size_t equals = value.find('=');
    if (equals == 0 || equals == value.npos)
      return Fail(Code::kInvalidArgument,
                  "--trace-config: opentelemetry,resource must be <name>=<value>, got '{}'", value);
    o.resource.emplace_back(value.substr(0, equals), value.substr(equals + 1));
  } else if (key == "bsp_max_queue_size") {
    o.max_queue_size = TRY(Number<size_t>(value, key, 1, kMost));
  } else if (key == "bsp_max_export_batch_size") {
    o.max_export_batch_size = TRY(Number<size_t>(value, key, 1, kMost));
  } else if (key == "bsp_schedule_delay") {
    o.schedule_delay = std::chrono::milliseconds(TRY(Number<int64_t>(value, key, 1, 3'600'000)));
  } else {
    return Fail(Code::kInvalidArgument, "--trace-config: unknown setting 'opentelemetry,{}'", key);
  }
  return {};
}

Status Set(TraceOptions& o, std::string_view key, std::string_view value,
           std::vector<std::string>& levels) {
  constexpr int64_t kMax32 = std::numeric_limits<int32_t>::max();
  if (key == "mode") {
    if (value != "triton" && value != "opentelemetry")
      return Fail(Code::kInvalidArgument,
                  "--trace-config: mode must be triton or opentelemetry, got '{}'", value);
    o.mode = value == "triton" ? TraceMode::kTriton : TraceMode::kOpenTelemetry;
  } else if (key == "rate") {
    o.values.rate = TRY(Number<uint32_t>(value, key, 1, kMax32));
  } else if (key == "count") {
    o.values.count = TRY(Number<int64_t>(value, key, -1, kMax32));
  } else if (key == "level") {
    levels.emplace_back(value);
  } else if (key == "triton,file") {
    o.file = value;
  } else if (key == "triton,log-frequency") {
    o.values.log_frequency = TRY(Number<uint32_t>(value, key, 0, kMax32));
  } else if (constexpr std::string_view kPrefix = "opentelemetry,"; key.starts_with(kPrefix)) {
    return SetOpenTelemetry(o, key.substr(kPrefix.size()), value);
  } else {
    return Fail(Code::kInvalidArgument, "--trace-config: unknown setting '{}'", key);
  }
  return {};
}

}  // namespace

Result<uint8_t> ParseTraceLevel(const std::vector<std::string>& names) {
  uint8_t level = 0;
  bool off = false;
  for (const std::string& name : names) {
    if (name == "OFF")
      off = true;
    else if (name == "TIMESTAMPS")
      level |= kTraceTimestamps;
    else if (name == "TENSORS")
      level |= kTraceTensors;
    else
      return Fail(Code::kInvalidArgument,
                  "Unable to parse 'trace_level', got: {}, expecting OFF, TIMESTAMPS or TENSORS",
                  name);
  }
  if (off && level != 0)
    return Fail(Code::kInvalidArgument,
                "Expect only one trace level 'OFF' is specified, it does not go with others");
  return level;
}

std::vector<std::string> TraceLevelNames(uint8_t level) {
  std::vector<std::string> names;
  if ((level & kTraceTimestamps) != 0) names.emplace_back("TIMESTAMPS");
  if ((level & kTraceTensors) != 0) names.emplace_back("TENSORS");
  if (names.empty()) names.emplace_back("OFF");
  return names;
}

Result<TraceOptions> ParseTraceConfig(const std::vector<std::string>& flags) {
  TraceOptions o;
  std::vector<std::string> levels;
  for (const std::string& flag : flags) {
    // The key may have a comma in it, the value may have anything.
    const size_t equals = flag.find('=');
    if (equals == flag.npos)
      return Fail(Code::kInvalidArgument,
                  "--trace-config must be <key>=<value> or <mode>,<key>=<value>, got '{}'", flag);
    const std::string_view view = flag;
    TRY(Set(o, view.substr(0, equals), view.substr(equals + 1), levels));
  }
  o.values.level = TRY(ParseTraceLevel(levels));
  if (o.mode == TraceMode::kTriton) {
    if (o.values.level != 0 && o.file.empty())
      return Fail(Code::kInvalidArgument,
                  "--trace-config: level needs a file to write to: triton,file=<path>");
    // A file takes them as they come; the queue is for a disk that falls behind.
    o.max_queue_size = 16384;
    o.schedule_delay = std::chrono::milliseconds(200);
  }
  return o;
}

}  // namespace dunlin::serve
