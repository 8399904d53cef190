#include "serve/shared_memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstring>
#include <map>
#include <mutex>

namespace dunlin::serve {
namespace {

constexpr const char* kDisabled =
    "Client shared memory is disabled. Start the server with '--allow-client-shm=true' to enable.";
constexpr std::string_view kReservedPrefix = "triton_python_backend_shm_region_";
constexpr size_t kMaxNameBytes = 1024;
// Tensors up to this size are copied: what steers the engine (extents, scales, thresholds) is
// small, and a copy of a page costs less than keeping its region.
constexpr size_t kCopyBytes = 4096;

// --- Objects that shrink -----------------------------------------------------------------------
//
// Touching a mapped page behind the end of its object raises SIGBUS. The handler finds the mapping
// in this table, puts empty memory in its place and lets the thread go on.

struct Guarded {
  std::atomic<uintptr_t> begin{0};  // 0: free
  std::atomic<size_t> bytes{0};
  std::atomic<bool> lost{false};
};
constexpr size_t kMaxGuarded = 4096;
Guarded guarded[kMaxGuarded];       // NOLINT: a signal handler has no other place to look at
struct sigaction previous_handler;  // NOLINT

void OnBusError(int signal, siginfo_t* info, void*) {
  const auto at = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Guarded& g : guarded) {
    const uintptr_t begin = g.begin.load();
    if (begin == 0 || at < begin || at - begin >= g.bytes.load()) continue;
    g.lost.store(true);
    if (::mmap(reinterpret_cast<void*>(begin), g.bytes.load(), PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0) != MAP_FAILED)
      return;
  }
  ::sigaction(signal, &previous_handler, nullptr);  // not ours: the access faults again
}

// A place in the table; null when it is full.
Guarded* Guard(void* begin, size_t bytes) {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action {};
    action.sa_sigaction = OnBusError;
    action.sa_flags = SA_SIGINFO | SA_NODEFER;
    sigemptyset(&action.sa_mask);
    ::sigaction(SIGBUS, &action, &previous_handler);
  });
  static std::mutex mutex;
  const std::lock_guard lock(mutex);
  for (Guarded& g : guarded) {
    if (g.begin.load() != 0) continue;
    g.lost.store(false);
    g.bytes.store(bytes);
    g.begin.store(reinterpret_cast<uintptr_t>(begin));
    return &g;
  }
  return nullptr;
}

// --- A mapped region -----------------------------------------------------------------------------

struct Mapping {
  SharedMemory::Region info;
  int fd = -1;
  std::byte* base = nullptr;  // of the map, at a page
  size_t mapped = 0;
  std::byte* data = nullptr;  // of the region
  Guarded* guard = nullptr;
  int uses = 0;               // spans alive; under the lock
  bool unregistered = false;  // goes with its last use; under the lock

  Mapping() = default;
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;
  ~Mapping() {
    if (guard != nullptr) guard->begin.store(0);
    if (base != nullptr) ::munmap(base, mapped);
    if (fd >= 0) ::close(fd);
  }
};

Status CheckKey(const std::string& name, const std::string& key) {
  if (key.starts_with(kReservedPrefix) || key.starts_with("/" + std::string(kReservedPrefix)))
    return Fail(Code::kInvalidArgument,
                "cannot register shared memory region '{}' with key '{}' as the key contains the "
                "reserved prefix '{}'",
                name, key, kReservedPrefix);
  const std::string_view object = std::string_view(key).substr(key.starts_with('/') ? 1 : 0);
  if (!object.empty() && object.size() <= NAME_MAX && object != "." && object != ".." &&
      object.find('/') == std::string_view::npos && object.find('\0') == std::string_view::npos)
    return {};
  return Fail(Code::kInvalidArgument,
              "failed to register shared memory region '{}': the key '{}' is not the name of a "
              "shared memory object, such as '/name'",
              name, key);
}

Result<std::shared_ptr<Mapping>> Map(const SharedMemory::Region& info) {
  const auto refuse = [&](std::string_view why) {
    return Fail(Code::kInvalidArgument, "failed to register shared memory region '{}': {}",
                info.name, why);
  };
  auto m = std::make_shared<Mapping>();
  m->info = info;
  m->fd = ::shm_open(info.key.c_str(), O_RDWR, 0);
  if (m->fd < 0)
    return Fail(Code::kInternal, "Unable to open shared memory region: '{}'", info.key);
  struct stat file {};
  if (::fstat(m->fd, &file) != 0 || !S_ISREG(file.st_mode))
    return Fail(Code::kInternal, "Invalid shared memory region: '{}'", info.key);
  const auto size = uint64_t(file.st_size);
  if (info.byte_size == 0 || info.offset > size || info.byte_size > size - info.offset)
    return refuse("invalid args");
  const auto page = uint64_t(::sysconf(_SC_PAGE_SIZE));
  const uint64_t begin = info.offset / page * page;
  const size_t mapped = size_t(info.offset - begin + info.byte_size);
  void* const base =
      ::mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_SHARED, m->fd, off_t(begin));
  if (base == MAP_FAILED)
    return refuse("unable to process address space " + std::string(std::strerror(errno)));
  m->base = static_cast<std::byte*>(base);
  m->mapped = mapped;
  m->data = m->base + (info.offset - begin);
  m->guard = Guard(base, mapped);
  if (m->guard == nullptr) return refuse("too many regions");
  return m;
}

}  // namespace

struct SharedMemory::State {
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<Mapping>> regions;

  void Release(Mapping& m) {
    const std::lock_guard lock(mutex);
    if (--m.uses > 0 || !m.unregistered) return;
    regions.erase(m.info.name);
  }
};

SharedMemory::SharedMemory(SharedMemoryOptions options)
    : options_(options), state_(std::make_shared<State>()) {}
SharedMemory::~SharedMemory() = default;

Status SharedMemory::Register(const std::string& name, const std::string& key, uint64_t offset,
                              uint64_t byte_size) {
  if (!options_.allow) return Fail(Code::kUnavailable, "{}", kDisabled);
  TRY(CheckKey(name, key));
  if (name.empty() || name.size() > kMaxNameBytes)
    return Fail(Code::kInvalidArgument,
                "the name of a shared memory region must have 1 to {} bytes, got {}", kMaxNameBytes,
                name.size());
  const std::lock_guard lock(state_->mutex);
  if (state_->regions.contains(name))
    return Fail(Code::kAlreadyExists, "shared memory region '{}' already in manager", name);
  if (state_->regions.size() >= options_.max_regions)
    return Fail(Code::kResourceExhausted,
                "failed to register shared memory region '{}': there are {} regions already, which "
                "is the most; unregister some",
                name, options_.max_regions);
  state_->regions[name] = TRY(Map({name, key, offset, byte_size}));
  return {};
}

void SharedMemory::Unregister(const std::string& name) {
  const std::lock_guard lock(state_->mutex);
  std::erase_if(state_->regions, [&](auto& region) {
    if (!name.empty() && region.first != name) return false;
    Mapping& m = *region.second;
    m.unregistered = true;
    return m.uses == 0;
  });
}

Result<std::vector<SharedMemory::Region>> SharedMemory::List(const std::string& name) const {
  const std::lock_guard lock(state_->mutex);
  std::vector<Region> list;
  for (const auto& [n, m] : state_->regions)
    if (name.empty() || n == name) list.push_back(m->info);
  if (list.empty() && !name.empty())
    return Fail(Code::kNotFound, "Unable to find system shared memory region: '{}'", name);
  return list;
}

Result<SharedMemorySpan> SharedMemory::Pin(const SharedMemoryRange& range) const {
  if (!options_.allow) return Fail(Code::kUnavailable, "{}", kDisabled);
  std::unique_lock lock(state_->mutex);
  const auto it = state_->regions.find(range.region);
  if (it == state_->regions.end())
    return Fail(Code::kNotFound, "Unable to find shared memory region: '{}'", range.region);
  const std::shared_ptr<Mapping> m = it->second;
  ++m->uses;
  lock.unlock();
  SharedMemorySpan span;
  span.region = std::shared_ptr<const void>(
      m->data, [state = state_, m](const void*) { state->Release(*m); });
  const uint64_t size = m->info.byte_size;
  if (range.offset >= size)
    return Fail(Code::kInvalidArgument, "Invalid offset for shared memory region: '{}'",
                range.region);
  if (range.byte_size > SIZE_MAX - range.offset)
    return Fail(Code::kInvalidArgument,
                "Integer overflow detected: byte_size ({}) + offset ({}) exceeds maximum value "
                "({}) for region '{}'",
                range.byte_size, range.offset, SIZE_MAX, range.region);
  if (range.byte_size > size - range.offset)
    return Fail(Code::kInvalidArgument, "Invalid offset + byte size for shared memory region: '{}'",
                range.region);
  struct stat file {};
  if (m->guard->lost.load() || ::fstat(m->fd, &file) != 0 ||
      uint64_t(file.st_size) < m->info.offset + size)
    return Fail(Code::kInvalidArgument,
                "the object '{}' behind shared memory region '{}' has shrunk since it was "
                "registered",
                m->info.key, range.region);
  span.data = m->data + range.offset;
  span.bytes = size_t(range.byte_size);
  return span;
}

Result<Tensor> ReadSharedMemory(const InputPlace& place, DType dtype, const Dims& dims,
                                const SharedMemorySpan& span) {
  const std::string_view bytes(reinterpret_cast<const char*>(span.data), span.bytes);
  // Lengths that are checked must be the lengths that are used.
  if (dtype == DType::kString) return InputFromBytes(place, dtype, dims, std::string(bytes));
  const bool steers = dtype == DType::kI32 || dtype == DType::kI64 || span.bytes <= kCopyBytes;
  return InputFromBytes(place, dtype, dims, bytes, steers ? nullptr : span.region);
}

Result<size_t> WriteSharedMemory(const SharedMemorySpan& span, const std::string& output,
                                 const Tensor& tensor) {
  const std::string strings = tensor.dtype() == DType::kString ? StringBytes(tensor) : "";
  const bool text = tensor.dtype() == DType::kString;
  const auto bytes = text ? strings.size() : size_t(tensor.bytes());
  if (bytes > span.bytes)
    return Fail(Code::kInternal,
                "shared memory size specified with the request for output '{}' ({} bytes) should "
                "be at least {} bytes to hold the results",
                output, span.bytes, bytes);
  // The output may be a view of an input that lies in the same region.
  if (bytes > 0)
    std::memmove(span.data, text ? static_cast<const void*>(strings.data()) : tensor.source(),
                 bytes);
  return bytes;
}

}  // namespace dunlin::serve
