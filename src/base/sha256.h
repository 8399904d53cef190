// SHA-256, piece by piece.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>

namespace dunlin {

class Sha256 {
 public:
  using Digest = std::array<uint8_t, 32>;
  Sha256();
  void Update(const void* data, size_t bytes);
  Digest Final();  // once

 private:
  std::shared_ptr<void> context_;
};

}  // namespace dunlin
