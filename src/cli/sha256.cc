#include "cli/sha256.h"

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

#include "base/sha256.h"

namespace dunlin::cli {

Result<std::string> Sha256OfFile(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                             std::fclose);
  if (!file) return Fail(Code::kNotFound, "cannot open {}: {}", path, std::strerror(errno));
  Sha256 sha;
  std::array<char, 1 << 16> chunk;
  while (const size_t n = std::fread(chunk.data(), 1, chunk.size(), file.get()))
    sha.Update(chunk.data(), n);
  if (std::ferror(file.get())) return Fail(Code::kUnavailable, "cannot read {}", path);
  std::string text;
  for (const uint8_t byte : sha.Final()) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace dunlin::cli
