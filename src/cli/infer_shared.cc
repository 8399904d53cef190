#include "cli/infer_shared.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "serve/wire.h"

namespace dunlin::cli {

Result<SharedRegion> SharedRegion::Create(Remote& remote, const std::string& purpose,
                                          uint64_t bytes) {
  SharedRegion region;
  region.name_ = fmt::format("dunlin_{}_{}", purpose, ::getpid());
  region.bytes_ = std::max<uint64_t>(bytes, 1);
  const std::string key = "/" + region.name_;
  const int fd = ::shm_open(key.c_str(), O_RDWR | O_CREAT | O_EXCL, 0600);
  const auto failed = [&](const char* what) {
    return Fail(Code::kResourceExhausted, "shared memory '{}': {}: {}", key, what,
                std::strerror(errno));
  };
  if (fd < 0) return failed("cannot be made");
  void* data = MAP_FAILED;
  if (::ftruncate(fd, off_t(region.bytes_)) == 0)
    data = ::mmap(nullptr, region.bytes_, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (data == MAP_FAILED) {
    ::shm_unlink(key.c_str());
    return failed("cannot be mapped");
  }
  region.data_ = static_cast<std::byte*>(data);
  TRY(remote.RegisterSharedMemory(region.name_, key, region.bytes_));
  region.remote_ = &remote;
  return region;
}

SharedRegion::SharedRegion(SharedRegion&& other) noexcept
    : remote_(std::exchange(other.remote_, nullptr)),
      name_(other.name_),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(other.bytes_) {}

SharedRegion::~SharedRegion() {
  if (data_ == nullptr) return;
  // A server that is gone has forgotten it already.
  if (remote_ != nullptr) (void)remote_->UnregisterSharedMemory(name_).has_value();
  ::munmap(data_, bytes_);
  ::shm_unlink(("/" + name_).c_str());
}

uint64_t StoredBytes(const Tensor& tensor) {
  return tensor.dtype() == DType::kString ? serve::StringBytes(tensor).size()
                                          : uint64_t(tensor.bytes());
}

Result<Tensor> LoadTensor(const serve::CallResult& result, std::span<const std::byte> area) {
  const auto too_long = [&] {
    return Fail(Code::kInternal, "output '{}' of {} bytes of shared memory is cut short",
                result.name, area.size());
  };
  const auto count = ElementCount(result.dims);
  if (!count || *count > int64_t(area.size()) * 8) return too_long();
  uint64_t bytes = 0;
  if (result.dtype == DType::kString) {
    for (int64_t i = 0; i < *count; ++i) {
      uint32_t length = 0;
      if (bytes + sizeof length > area.size()) return too_long();
      std::memcpy(&length, area.data() + bytes, sizeof length);
      bytes += sizeof length + length;
    }
  } else {
    bytes = uint64_t(ByteSize(result.dtype, *count));
  }
  if (bytes > area.size()) return too_long();
  return serve::TensorFromBytes(result.dtype, result.dims,
                                {reinterpret_cast<const char*>(area.data()), bytes});
}

uint64_t StoreTensor(const Tensor& tensor, std::byte* to) {
  if (tensor.dtype() == DType::kString) {
    const std::string bytes = serve::StringBytes(tensor);
    std::memcpy(to, bytes.data(), bytes.size());
    return bytes.size();
  }
  if (tensor.bytes() > 0) std::memcpy(to, tensor.raw(), size_t(tensor.bytes()));
  return uint64_t(tensor.bytes());
}

}  // namespace dunlin::cli
