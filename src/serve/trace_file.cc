#include "serve/trace_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <map>

#include "base/json_writer.h"
#include "base/log.h"

namespace dunlin::serve {
namespace {

// A JSON array on disk that grows: the closing bracket is overwritten by what comes next.
class ArrayFile {
 public:
  explicit ArrayFile(const std::string& path)
      : path_(path), fd_(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640)) {
    if (fd_ < 0) Complain();
  }
  ~ArrayFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  ArrayFile(const ArrayFile&) = delete;
  ArrayFile& operator=(const ArrayFile&) = delete;

  // `objects` is one or more, separated by commas. False: not written.
  bool Append(const std::string& objects, int64_t max_bytes) {
    if (fd_ < 0 || size_ + int64_t(objects.size()) > max_bytes) return false;
    const std::string text = (size_ == 0 ? "[" : ",") + objects + "]";
    const int64_t at = size_ == 0 ? 0 : size_ - 1;
    for (size_t done = 0; done < text.size();) {
      const ssize_t n = ::pwrite(fd_, text.data() + done, text.size() - done, at + int64_t(done));
      if (n < 0 && errno == EINTR) continue;
      if (n <= 0) {
        Complain();
        // What was there before stays whole.
        [[maybe_unused]] const bool restored =
            ::ftruncate(fd_, at) == 0 && (at == 0 || ::pwrite(fd_, "]", 1, at) == 1);
        return false;
      }
      done += size_t(n);
    }
    size_ = at + int64_t(text.size());
    return true;
  }

 private:
  void Complain() {
    if (complained_) return;
    complained_ = true;
    log::Error("traces cannot be written", {{"file", path_}, {"error", std::strerror(errno)}});
  }
  const std::string path_;
  const int fd_;
  int64_t size_ = 0;
  bool complained_ = false;
};

// In Triton's form and order; one object per time stamp.
std::string ObjectsOf(const TraceRecord& r) {
  JsonWriter head;
  head.BeginObject().Key("id").Number(r.id).Key("model_name").String(r.model);
  head.Key("model_version").Number(r.version);
  if (!r.request_id.empty()) head.Key("request_id").String(r.request_id);
  if (r.parent_id != 0) head.Key("parent_id").Number(r.parent_id);
  std::string out = head.End().Take();
  for (size_t i = 0; r.timestamps && i < kTracePoints; ++i)
    if (r.ns[i] != 0)
      out += fmt::format(R"(,{{"id":{},"timestamps":[{{"name":"{}","ns":{}}}]}})", r.id,
                         TracePointName(TracePoint(i)), r.ns[i]);
  if (!r.tensors.empty()) {
    out += ',';
    out.append(r.tensors, 0, r.tensors.size() - 1);  // without its last comma
  }
  return out;
}

class TraceFile : public TraceSink {
 public:
  TraceFile(std::string path, int64_t max_bytes) : path_(std::move(path)), max_bytes_(max_bytes) {}

  void Write(std::vector<TraceRecord> records) override {
    // What goes to one file in one piece.
    ArrayFile* file = nullptr;
    std::string objects;
    uint64_t count = 0;
    const auto flush = [&] {
      if (count > 0 && !file->Append(objects, max_bytes_))
        dropped_.fetch_add(count, std::memory_order_relaxed);
      objects.clear();
      count = 0;
    };
    for (const TraceRecord& r : records) {
      ArrayFile* const next = FileFor(r, flush);
      if (next != file) flush();
      file = next;
      if (count++ > 0) objects += ',';
      objects += ObjectsOf(r);
      if (objects.size() > (1 << 20)) flush();
    }
    flush();
  }
  uint64_t dropped() const override { return dropped_.load(std::memory_order_relaxed); }

 private:
  // Those of one setting whose log frequency is not 0.
  struct Group {
    std::unique_ptr<ArrayFile> file;
    uint32_t taken = 0;
  };

  template <class Flush>
  ArrayFile* FileFor(const TraceRecord& r, Flush&& flush) {
    if (r.log_frequency == 0) {
      if (!whole_) whole_ = std::make_unique<ArrayFile>(path_);
      return whole_.get();
    }
    Group& g = groups_[r.group];
    if (!g.file || g.taken == r.log_frequency) {
      flush();  // before its file goes
      g.file = std::make_unique<ArrayFile>(fmt::format("{}.{}", path_, next_index_++));
      g.taken = 0;
      // Settings that were replaced send no more; a few stragglers begin a file of their own.
      while (groups_.size() > kMaxGroups && groups_.begin()->first != r.group)
        groups_.erase(groups_.begin());
    }
    ++g.taken;
    return g.file.get();
  }

  static constexpr size_t kMaxGroups = 64;
  const std::string path_;
  const int64_t max_bytes_;
  std::unique_ptr<ArrayFile> whole_;
  std::map<uint64_t, Group> groups_;
  int next_index_ = 0;
  std::atomic<uint64_t> dropped_{0};
};

}  // namespace

std::unique_ptr<TraceSink> MakeTraceFile(std::string path, int64_t max_bytes) {
  return std::make_unique<TraceFile>(std::move(path), max_bytes);
}

}  // namespace dunlin::serve
