// A piece of system shared memory that a server on this machine reads and writes while this lives.
#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "base/result.h"
#include "cli/infer_remote.h"

namespace dunlin::cli {

class SharedRegion {
 public:
  // Under a name nobody else has. Pages take memory when they are written, not before.
  static Result<SharedRegion> Create(Remote& remote, const std::string& purpose, uint64_t bytes);
  SharedRegion(SharedRegion&& other) noexcept;
  SharedRegion& operator=(SharedRegion&&) = delete;
  ~SharedRegion();  // the server forgets it, too

  const std::string& name() const { return name_; }
  std::byte* data() const { return data_; }
  uint64_t bytes() const { return bytes_; }

 private:
  SharedRegion() = default;
  Remote* remote_ = nullptr;  // null: not registered
  std::string name_;
  std::byte* data_ = nullptr;
  uint64_t bytes_ = 0;
};

// A tensor's bytes at `to`, as the binary extension has them; how many.
uint64_t StoreTensor(const Tensor& tensor, std::byte* to);
uint64_t StoredBytes(const Tensor& tensor);
// The tensor that a server has put at the front of `area`. kInternal: it is longer than that.
Result<Tensor> LoadTensor(const serve::CallResult& result, std::span<const std::byte> area);

// Tensors in a region begin at cache lines.
inline uint64_t AlignedUp(uint64_t bytes) { return (bytes + 63) / 64 * 64; }

}  // namespace dunlin::cli
