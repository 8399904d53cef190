#include "serve/access_log.h"

#include <algorithm>
#include <ctime>

#include "base/log.h"

namespace dunlin::serve {
namespace {

constexpr size_t kMaxBytes = 4 << 20;
constexpr std::chrono::milliseconds kInterval{100};
// Of a path or an id, which clients choose.
constexpr size_t kMaxValue = 1024;

std::string LineOf(const AccessRecord& r) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  const int64_t ms = std::chrono::duration_cast<std::chrono::milliseconds>(now).count();
  const std::time_t seconds = ms / 1000;
  std::tm t{};
  ::gmtime_r(&seconds, &t);
  std::string line =
      fmt::format("time={:04}-{:02}-{:02}T{:02}:{:02}:{:02}.{:03}Z", t.tm_year + 1900, t.tm_mon + 1,
                  t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, ms % 1000);
  const auto add = [&line](std::string_view key, std::string_view value) {
    line += key;
    log::AppendValue(line, value.substr(0, kMaxValue));
  };
  add(" peer=", r.peer);
  add(" method=", r.method);
  add(" path=", r.path);
  fmt::format_to(std::back_inserter(line), " status={} bytes_in={} bytes_out={} us={:.1f}",
                 r.status, r.bytes_in, r.bytes_out, double(r.duration.count()) / 1e3);
  if (!r.request_id.empty()) add(" id=", r.request_id);
  if (!r.trace_id.empty()) add(" trace=", r.trace_id);
  return line += '\n';
}

}  // namespace

Result<std::unique_ptr<AccessLog>> AccessLog::Create(const std::string& path) {
  auto access_log = std::make_unique<AccessLog>();
  access_log->file_ = TRY(AppendFile::Open(path));
  access_log->thread_ = std::thread([self = access_log.get()] { self->Loop(); });
  return access_log;
}

AccessLog::~AccessLog() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

void AccessLog::Write(const AccessRecord& record) {
  if (!file_) return;
  const std::string line = LineOf(record);
  bool first = false;
  {
    const std::lock_guard lock(mutex_);
    if (lines_.size() + line.size() > kMaxBytes) {
      dropped_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    first = lines_.empty();
    lines_ += line;
  }
  if (first) wake_.notify_one();
}

void AccessLog::Loop() {
  std::string lines;
  std::unique_lock lock(mutex_);
  for (;;) {
    wake_.wait(lock, [this] { return stopping_ || !lines_.empty(); });
    if (lines_.empty()) return;
    wake_.wait_for(lock, kInterval, [this] { return stopping_; });
    lines.swap(lines_);
    lock.unlock();
    if (!file_->Write(lines)) {
      const auto lost = std::count(lines.begin(), lines.end(), '\n');
      dropped_.fetch_add(uint64_t(lost), std::memory_order_relaxed);
    }
    lines.clear();
    lock.lock();
  }
}

}  // namespace dunlin::serve
