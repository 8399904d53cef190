// How much memory there is. Sizes come from files and requests: what cannot be had is refused with
// a sentence, instead of being promised by the system and ending the process when it is touched.
#pragma once

#include <atomic>
#include <cstddef>

#include "base/result.h"

namespace dunlin {

// The most that one piece of memory may have: 80 % of what the machine, or the container, has;
// fewer where the environment's DUNLIN_MEMORY_LIMIT says so, in bytes.
size_t MemoryLimit();
// kResourceExhausted when `bytes` more are above the limit or more than is free. Called before
// every allocation whose size a file or a request decides.
Status CheckMemory(size_t bytes);

// Asks how much is free once for every 64 MiB that are granted, in one piece or in many: what was
// granted since the last time may not have been touched yet, and counts as taken. Thread-safe.
class MemoryGate {
 public:
  explicit MemoryGate(size_t (*free_memory)()) : free_memory_(free_memory) {}
  Status Check(size_t bytes);

 private:
  size_t (*free_memory_)();
  std::atomic<size_t> granted_{0};
};

}  // namespace dunlin
