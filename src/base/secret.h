// Secrets: read from files that only their owner may read, kept as digests, compared in constant
// time. Nothing here ever puts a secret into a message.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dunlin {

// The whole of a small text file. kNotFound when it cannot be opened, kInvalidArgument when it is
// no regular file, larger than 1 MiB, or when others than its owner and group may read or change
// it.
Result<std::string> ReadSecretFile(const std::string& path);
// The same without the check of the mode, for what is not secret: certificates, lists of names.
Result<std::string> ReadSmallFile(const std::string& path);

using Digest = std::array<uint8_t, 32>;
Digest Sha256(std::string_view text);
// Takes the same time wherever the two differ.
bool EqualInConstantTime(const Digest& a, const Digest& b);

}  // namespace dunlin
