#include "cli/sha256.h"

#include <openssl/evp.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>

namespace dunlin::cli {

Result<std::string> Sha256OfFile(const std::string& path) {
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rbe"),
                                                             std::fclose);
  if (!file) return Fail(Code::kNotFound, "cannot open {}: {}", path, std::strerror(errno));
  const std::unique_ptr<EVP_MD_CTX, void (*)(EVP_MD_CTX*)> context(EVP_MD_CTX_new(),
                                                                   EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1)
    return Fail(Code::kInternal, "SHA-256 is not available");
  std::array<char, 1 << 16> chunk;
  while (const size_t n = std::fread(chunk.data(), 1, chunk.size(), file.get()))
    EVP_DigestUpdate(context.get(), chunk.data(), n);
  if (std::ferror(file.get())) return Fail(Code::kUnavailable, "cannot read {}", path);
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest;
  unsigned length = 0;
  EVP_DigestFinal_ex(context.get(), digest.data(), &length);
  std::string text;
  for (unsigned i = 0; i < length; ++i) text += fmt::format("{:02x}", digest[i]);
  return text;
}

}  // namespace dunlin::cli
