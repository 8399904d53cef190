// SharedMemory: the system shared memory regions that clients have registered. Tensors are read
// where they lie in a region and written into it, so that their bytes never pass a socket.
//
// Clients can change or shrink a region while it is used. Shrinking cannot crash the server: the
// region then reads as zeros and is refused from then on. See docs/serving/shared-memory.md.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "serve/wire.h"
#include "tensor/tensor.h"

namespace dunlin::serve {

// A part of a region, as a request names it: unchecked numbers of the client.
struct SharedMemoryRange {
  std::string region;
  uint64_t offset = 0;
  uint64_t byte_size = 0;
};

// A part of a region that is there. Keeps the region, even one that is unregistered meanwhile.
struct SharedMemorySpan {
  std::byte* data = nullptr;
  size_t bytes = 0;
  std::shared_ptr<const void> region;  // null: no span
};

struct SharedMemoryOptions {
  bool allow = false;         // off: everything but listing and unregistering is refused
  size_t max_regions = 1024;  // each holds a mapping and a file descriptor
};

// Thread-safe. Spans may outlive it.
class SharedMemory {
 public:
  struct Region {
    std::string name, key;
    uint64_t offset = 0, byte_size = 0;
  };
  explicit SharedMemory(SharedMemoryOptions options);
  ~SharedMemory();

  // Errors: kUnavailable (not allowed), kAlreadyExists (the name), kInternal (no such object),
  // kInvalidArgument (a key that is no plain name, a range outside the object),
  // kResourceExhausted.
  Status Register(const std::string& name, const std::string& key, uint64_t offset,
                  uint64_t byte_size);
  // "": all. A region in use goes with its last use, until then it is listed and usable. Unknown
  // names are no error.
  void Unregister(const std::string& name);
  Result<std::vector<Region>> List(const std::string& name) const;  // "": all, by name

  // The part must lie inside the region, and the region's object must still have its size.
  Result<SharedMemorySpan> Pin(const SharedMemoryRange& range) const;

 private:
  struct State;
  const SharedMemoryOptions options_;
  const std::shared_ptr<State> state_;
};

// A view of the bytes where that is safe. What the engine takes for indices or extents, and little
// tensors, are copied: a client that changes them meanwhile must not lead it astray.
Result<Tensor> ReadSharedMemory(const InputPlace& place, DType dtype, const Dims& dims,
                                const SharedMemorySpan& span);
// The tensor's bytes at the start of the span; how many. Errors: kInternal when there is no room.
Result<size_t> WriteSharedMemory(const SharedMemorySpan& span, const std::string& output,
                                 const Tensor& tensor);

}  // namespace dunlin::serve
