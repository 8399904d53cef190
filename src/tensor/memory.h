// How much memory there is. Sizes come from files and requests: what cannot be had is refused with
// a sentence, instead of being promised by the system and ending the process when it is touched.
#pragma once

#include <cstddef>

#include "base/result.h"

namespace dunlin {

// The most that one piece of memory may have: 80 % of what the machine, or the container, has;
// fewer where the environment's DUNLIN_MEMORY_LIMIT says so, in bytes.
size_t MemoryLimit();
// kResourceExhausted when `bytes` more are above the limit or, for large requests, more than is
// free.
Status CheckMemory(size_t bytes);

}  // namespace dunlin
