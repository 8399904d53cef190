// What --trace-config says.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/result.h"

namespace dunlin::serve {

enum class TraceMode : uint8_t { kTriton, kOpenTelemetry };

// Bits of a level; none is OFF.
inline constexpr uint8_t kTraceTimestamps = 1;
inline constexpr uint8_t kTraceTensors = 2;

struct TraceValues {
  uint8_t level = 0;
  uint32_t rate = 1000;        // one request of this many
  int64_t count = -1;          // traces still to be made; -1: no end
  uint32_t log_frequency = 0;  // traces per file; 0: all in one
};

struct TraceOptions {
  TraceMode mode = TraceMode::kTriton;
  TraceValues values;
  std::string file;  // kTriton
  // kOpenTelemetry
  std::string url = "http://localhost:4318/v1/traces";
  std::vector<std::pair<std::string, std::string>>
      resource;  // attributes; service.name is "dunlin"
  // Traces that wait for the writer, that are written at once, and how long they may wait.
  size_t max_queue_size = 2048;
  size_t max_export_batch_size = 512;
  std::chrono::milliseconds schedule_delay{5000};
};

// The flag's values, each "key=value" for all modes or "mode,key=value" for one, as Triton has
// them: mode, rate, level, count; triton,file; triton,log-frequency; opentelemetry,url;
// opentelemetry,resource=name=value; opentelemetry,bsp_max_queue_size, bsp_max_export_batch_size,
// bsp_schedule_delay (ms). kInvalidArgument names the value that is wrong.
Result<TraceOptions> ParseTraceConfig(const std::vector<std::string>& flags);

// "OFF", "TIMESTAMPS", "TENSORS" to bits and back; OFF only alone.
Result<uint8_t> ParseTraceLevel(const std::vector<std::string>& names);
std::vector<std::string> TraceLevelNames(uint8_t level);

}  // namespace dunlin::serve
