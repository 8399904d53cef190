#include "base/secret.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace dunlin {
namespace {

constexpr int64_t kMaxBytes = 1 << 20;

Result<std::string> Read(const std::string& path, mode_t forbidden) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // a FIFO must not block
  if (fd < 0) return Fail(Code::kNotFound, "cannot open {}: {}", path, std::strerror(errno));
  struct Close {
    int fd;
    ~Close() { ::close(fd); }
  } const close{fd};
  struct stat info {};
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode))
    return Fail(Code::kInvalidArgument, "{} is not a regular file", path);
  if ((info.st_mode & forbidden) != 0)
    return Fail(Code::kInvalidArgument,
                "{} holds secrets and has mode {:04o}: others must not be able to read it, nor the "
                "group to change it; use chmod 600 (or 640)",
                path, info.st_mode & 07777);
  if (info.st_size > kMaxBytes)
    return Fail(Code::kInvalidArgument, "{} is larger than {} bytes", path, kMaxBytes);
  std::string text(size_t(info.st_size), '\0');
  size_t got = 0;
  while (got < text.size()) {
    const ssize_t n = ::read(fd, text.data() + got, text.size() - got);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return Fail(Code::kUnavailable, "cannot read {}: {}", path, std::strerror(errno));
    if (n == 0) break;  // it has shrunk
    got += size_t(n);
  }
  text.resize(got);
  return text;
}

}  // namespace

Result<std::string> ReadSecretFile(const std::string& path) {
  return Read(path, S_IWGRP | S_IRWXO);
}
Result<std::string> ReadSmallFile(const std::string& path) { return Read(path, 0); }

Digest Sha256(std::string_view text) {
  Digest digest;
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  return digest;
}

bool EqualInConstantTime(const Digest& a, const Digest& b) {
  return CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace dunlin
