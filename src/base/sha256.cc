#include "base/sha256.h"

#include <openssl/evp.h>

#include "base/check.h"

namespace dunlin {

Sha256::Sha256()
    : context_(EVP_MD_CTX_new(), [](void* c) { EVP_MD_CTX_free(static_cast<EVP_MD_CTX*>(c)); }) {
  static const EVP_MD* const kSha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
  auto* context = static_cast<EVP_MD_CTX*>(context_.get());
  DUNLIN_CHECK(context != nullptr && EVP_DigestInit_ex(context, kSha256, nullptr) == 1,
               "SHA-256 is not available");
}

void Sha256::Update(const void* data, size_t bytes) {
  EVP_DigestUpdate(static_cast<EVP_MD_CTX*>(context_.get()), data, bytes);
}

Sha256::Digest Sha256::Final() {
  Digest digest{};
  EVP_DigestFinal_ex(static_cast<EVP_MD_CTX*>(context_.get()), digest.data(), nullptr);
  return digest;
}

}  // namespace dunlin
