#include "formats/onnx/export_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace dunlin::onnx_export {
namespace {

constexpr size_t kChunk = size_t{4} << 20;  // between two calls of the progress function

struct Meter {
  const ExportOptions& options;
  int64_t total = 0, done = 0;
  Status Add(size_t bytes) {
    done += int64_t(bytes);
    if (options.progress && !options.progress(done, total))
      return Fail(Code::kCancelled, "interrupted");
    return {};
  }
};

// A file that takes its name only when it is complete.
class NewFile {
 public:
  NewFile(std::string path, Meter& meter)
      : path_(std::move(path)),
        temporary_(fmt::format("{}.new-{}", path_, ::getpid())),
        meter_(meter) {}
  ~NewFile() {
    if (fd_ >= 0) ::close(fd_);
    if (!placed_ && opened_) ::unlink(temporary_.c_str());
  }
  NewFile(const NewFile&) = delete;
  NewFile& operator=(const NewFile&) = delete;

  Status Open() {
    struct stat target {};
    if (::stat(path_.c_str(), &target) == 0 && !S_ISREG(target.st_mode))
      return Fail(Code::kInvalidArgument, "'{}' is there and is not a file", path_);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd_ < 0) return Failed("make", temporary_);
    opened_ = true;
    return {};
  }
  Status Write(const void* from, size_t bytes) {
    const auto* p = static_cast<const char*>(from);
    while (bytes > 0) {
      const ssize_t n = ::write(fd_, p, std::min(bytes, kChunk));
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Failed("write", temporary_);
      p += n;
      bytes -= size_t(n);
      at_ += uint64_t(n);
      TRY(meter_.Add(size_t(n)));
    }
    return {};
  }
  Status Write(const Tensor& t) {
    TRY(Write(t.source(), size_t(t.bytes())));
    t.buffer()->ReleasePages(t.offset(), size_t(t.bytes()));
    return {};
  }
  Status PadTo(uint64_t offset) {
    const std::string zeros(size_t(offset - at_), '\0');
    return Write(zeros.data(), zeros.size());
  }
  Status Close() {
    const bool synced = ::fsync(fd_) == 0;
    const bool closed = ::close(fd_) == 0;
    fd_ = -1;
    return synced && closed ? Status() : Failed("write", temporary_);
  }
  Status Place() {
    if (::rename(temporary_.c_str(), path_.c_str()) != 0) return Failed("make", path_);
    placed_ = true;
    return {};
  }

 private:
  static Status Failed(std::string_view what, const std::string& path) {
    const int error = errno;
    return Fail(
        error == ENOSPC || error == EDQUOT ? Code::kResourceExhausted : Code::kFailedPrecondition,
        "cannot {} '{}': {}", what, path, std::strerror(error));
  }
  std::string path_, temporary_;
  Meter& meter_;
  int fd_ = -1;
  uint64_t at_ = 0;
  bool opened_ = false, placed_ = false;
};

}  // namespace

Status WriteModel(const std::string& path, const Message& message, const DataFile& data,
                  const ExportOptions& options) {
  Meter meter{options, int64_t(message.size() + data.bytes)};
  NewFile model(path, meter);
  NewFile beside(path + ".data", meter);
  TRY(model.Open());
  if (!data.tensors.empty()) {
    TRY(beside.Open());
    for (size_t i = 0; i < data.tensors.size(); ++i) {
      TRY(beside.PadTo(data.offsets[i]));
      TRY(beside.Write(data.tensors[i]));
    }
    TRY(beside.Close());
  }
  for (const Message::Piece& p : message.pieces()) {
    TRY(model.Write(p.bytes.data(), p.bytes.size()));
    if (p.tensor.defined()) TRY(model.Write(p.tensor));
  }
  TRY(model.Close());
  if (!data.tensors.empty()) TRY(beside.Place());
  return model.Place();
}

}  // namespace dunlin::onnx_export
