// One line per request, for those who must know afterwards who asked for what. Off by default.
//
//   time=2026-11-28T07:41:15.829Z peer=10.0.0.7:51234 method=POST path=/v2/models/net/infer
//   status=200 bytes_in=312 bytes_out=190 us=812.4 id=42 trace=0af7651916cd43dd8448eb211c80319c
//
// (on one line). Over gRPC, path is the method's full name, method is the model, and status the
// gRPC code. Headers and bodies are never logged.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <thread>

#include "base/append_file.h"
#include "base/result.h"

namespace dunlin::serve {

struct AccessRecord {
  std::string_view peer, method, path;
  int status = 0;
  int64_t bytes_in = 0, bytes_out = 0;
  std::chrono::nanoseconds duration{0};
  std::string_view request_id = {}, trace_id = {};  // left out when empty
};

// Thread-safe. Who writes never waits for the disk: lines are collected in memory, at most 4 MiB,
// and written ten times a second by a thread of their own; what does not fit is counted.
class AccessLog {
 public:
  AccessLog() = default;  // off
  // "-" is standard output. kInvalidArgument when the file cannot be opened.
  static Result<std::unique_ptr<AccessLog>> Create(const std::string& path);
  ~AccessLog();

  bool enabled() const { return file_ != nullptr; }
  void Write(const AccessRecord& record);
  // After rotation. Lines that are still in memory go to the new file.
  Status Reopen() { return file_ ? file_->Reopen() : Status{}; }
  uint64_t dropped() const { return dropped_.load(std::memory_order_relaxed); }

 private:
  void Loop();

  std::unique_ptr<AppendFile> file_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::string lines_;      // under mutex_
  bool stopping_ = false;  // under mutex_
  std::atomic<uint64_t> dropped_{0};
  std::thread thread_;
};

}  // namespace dunlin::serve
