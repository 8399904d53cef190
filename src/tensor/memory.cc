#include "tensor/memory.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <string>

namespace dunlin {
namespace {

// Asking the system takes some 50 µs, about as long as the first touch of this much.
constexpr size_t kAskFrom = size_t{64} << 20;

// The number behind `key` in a file of the system; `otherwise` when there is none.
size_t ReadNumber(const char* path, const std::string& key, size_t otherwise) {
  std::ifstream in(path);
  std::string word;
  while (in >> word) {
    if (!key.empty() && word != key) {
      in.ignore(256, '\n');
      continue;
    }
    if (!key.empty() && !(in >> word)) break;
    size_t value = 0;
    const auto [at, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    return error == std::errc() && at == word.data() + word.size() ? value : otherwise;
  }
  return otherwise;
}

constexpr const char* kGroupMax = "/sys/fs/cgroup/memory.max";

size_t FreeMemory() {
  const size_t kib = ReadNumber("/proc/meminfo", "MemAvailable:", SIZE_MAX / 1024);
  const size_t machine = kib * 1024;
  const size_t max = ReadNumber(kGroupMax, "", SIZE_MAX);
  if (max == SIZE_MAX) return machine;
  // Pages of files count as used, but give way.
  const size_t used = ReadNumber("/sys/fs/cgroup/memory.current", "", 0);
  const size_t files = std::min(used, ReadNumber("/sys/fs/cgroup/memory.stat", "file", 0));
  return std::min(machine, max > used - files ? max - (used - files) : 0);
}

}  // namespace

size_t MemoryLimit() {
  static const size_t limit = [] {
    size_t bytes = size_t(::sysconf(_SC_PHYS_PAGES)) * size_t(::sysconf(_SC_PAGE_SIZE));
    bytes = std::min(bytes, ReadNumber(kGroupMax, "", SIZE_MAX)) / 10 * 8;
    if (const char* text = std::getenv("DUNLIN_MEMORY_LIMIT"))
      bytes = std::min<size_t>(bytes, std::strtoull(text, nullptr, 10));
    return bytes;
  }();
  return limit;
}

Status MemoryGate::Check(size_t bytes) {
  if (bytes > MemoryLimit())
    return Fail(Code::kResourceExhausted, "{} bytes are needed, at most {} are allowed", bytes,
                MemoryLimit());
  const size_t granted = granted_.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  if (granted < kAskFrom) return {};
  granted_ = 0;
  if (const size_t available = free_memory_(); granted > available)
    return Fail(Code::kResourceExhausted, "{} bytes are needed, {} are free", bytes, available);
  return {};
}

Status CheckMemory(size_t bytes) {
  static MemoryGate gate(FreeMemory);
  return gate.Check(bytes);
}

}  // namespace dunlin
