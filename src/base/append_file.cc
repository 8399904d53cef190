#include "base/append_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace dunlin {
namespace {

Result<int> OpenPath(const std::string& path) {
  if (path.empty()) return STDERR_FILENO;
  if (path == "-") return STDOUT_FILENO;
  // Logs say who asked for what, which is not for everybody.
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
  if (fd < 0)
    return Fail(Code::kInvalidArgument, "cannot open {} for writing: {}", path,
                std::strerror(errno));
  return fd;
}

void ClosePath(int fd) {
  if (fd > STDERR_FILENO) ::close(fd);
}

}  // namespace

Result<std::unique_ptr<AppendFile>> AppendFile::Open(std::string path) {
  const int fd = TRY(OpenPath(path));
  return std::unique_ptr<AppendFile>(new AppendFile(std::move(path), fd));
}

AppendFile::~AppendFile() { ClosePath(fd_); }

bool AppendFile::Write(std::string_view text) {
  const std::lock_guard lock(mutex_);
  while (!text.empty()) {
    const ssize_t n = ::write(fd_, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    text.remove_prefix(size_t(n));
  }
  return true;
}

Status AppendFile::Reopen() {
  const int fd = TRY(OpenPath(path_));
  const std::lock_guard lock(mutex_);
  ClosePath(fd_);
  fd_ = fd;
  return {};
}

}  // namespace dunlin
