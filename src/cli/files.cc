#include "cli/files.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <new>

namespace dunlin::cli {
namespace {

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

Status WriteAll(int fd, const std::string& path, std::span<const std::byte> bytes) {
  for (size_t done = 0; done < bytes.size();) {
    const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      return Fail(Code::kFailedPrecondition, "cannot write {}: {}", path, std::strerror(errno));
    done += size_t(n);
  }
  return {};
}

}  // namespace

Result<std::vector<std::byte>> ReadFile(const std::string& path) {
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC)};
  if (file.fd < 0) return Fail(Code::kNotFound, "cannot open {}: {}", path, std::strerror(errno));
  struct stat st {};
  if (::fstat(file.fd, &st) != 0 || S_ISDIR(st.st_mode))
    return Fail(Code::kInvalidArgument, "{} is not a file", path);
  std::vector<std::byte> bytes;
  try {
    // A pipe says 0; the loop below grows as it reads.
    bytes.resize(S_ISREG(st.st_mode) ? size_t(st.st_size) : 0);
    size_t done = 0;
    for (;;) {
      if (done == bytes.size()) bytes.resize(done + (S_ISREG(st.st_mode) ? 1 : 1 << 16));
      const ssize_t n = ::read(file.fd, bytes.data() + done, bytes.size() - done);
      if (n < 0 && errno == EINTR) continue;
      if (n < 0) return Fail(Code::kUnavailable, "cannot read {}: {}", path, std::strerror(errno));
      if (n == 0) break;
      done += size_t(n);
    }
    bytes.resize(done);
  } catch (const std::bad_alloc&) {
    return Fail(Code::kResourceExhausted, "{}: {} bytes do not fit in memory", path,
                int64_t(st.st_size));
  }
  return bytes;
}

Result<std::string> ReadText(const std::string& path) {
  const auto bytes = TRY(ReadFile(path));
  return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

Result<std::vector<std::string>> ReadLines(const std::string& path) {
  const std::string text = TRY(ReadText(path));
  std::vector<std::string> lines;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const size_t length = end - at - (end > at && text[end - 1] == '\r' ? 1 : 0);
    lines.push_back(text.substr(at, length));
    at = end + 1;
  }
  return lines;
}

Status WriteFile(const std::string& path, std::span<const std::byte> bytes) {
  const std::string part = path + ".part";
  {
    const Descriptor file{::open(part.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666)};
    if (file.fd < 0)
      return Fail(Code::kFailedPrecondition, "cannot write {}: {}", path, std::strerror(errno));
    if (Status s = WriteAll(file.fd, path, bytes); !s) {
      ::unlink(part.c_str());
      return s;
    }
  }
  if (::rename(part.c_str(), path.c_str()) != 0) {
    const int reason = errno;
    ::unlink(part.c_str());
    return Fail(Code::kFailedPrecondition, "cannot write {}: {}", path, std::strerror(reason));
  }
  return {};
}

Status WriteText(const std::string& path, std::string_view text) {
  return WriteFile(path, std::as_bytes(std::span(text)));
}

std::string FileNameFor(std::string_view tensor_name) {
  std::string name(tensor_name);
  for (char& c : name)
    if (c == '/' || c == '\0') c = '_';
  if (name.empty() || name == "." || name == "..") return "_";
  // Room for ".<index>.npy.part" under the 255 bytes that file systems allow.
  if (name.size() > 230) name.resize(230);
  return name;
}

}  // namespace dunlin::cli
