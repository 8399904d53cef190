#include "tensor/tensor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

#include "tensor/memory.h"

namespace dunlin {

std::optional<int64_t> ElementCount(std::span<const int64_t> d) {
  int64_t n = 1;
  bool zero = false;
  for (const int64_t x : d) {
    if (x < 0) return std::nullopt;
    if (x == 0)
      zero = true;
    else if (__builtin_mul_overflow(n, x, &n) || n > (int64_t{1} << 56))
      return std::nullopt;
  }
  return zero ? 0 : n;
}

std::string ToString(std::span<const int64_t> d) {
  std::string s = "[";
  for (size_t i = 0; i < d.size(); ++i) {
    if (i) s += ',';
    if (IsKnown(d[i]))
      s += std::to_string(d[i]);
    else if (IsSymbol(d[i]))
      s += 's' + std::to_string(SymbolIndex(d[i]));
    else
      s += '?';
  }
  return s + ']';
}

std::optional<Dims> Broadcast(std::span<const int64_t> a, std::span<const int64_t> b) {
  if (a.size() < b.size()) std::swap(a, b);
  Dims out(a);
  const size_t shift = a.size() - b.size();
  for (size_t i = 0; i < b.size(); ++i) {
    int64_t& x = out[shift + i];
    const int64_t y = b[i];
    if (x == y || y == 1) continue;
    if (x == 1)
      x = y;
    else if (IsKnown(x) && IsKnown(y))
      return std::nullopt;
    else if (IsKnown(y))
      x = y;
    else if (!IsKnown(x))
      x = kUnknownDim;
  }
  return out;
}

namespace {
constexpr size_t kHugePage = size_t{2} << 20;

// Pages of our own from the system, on a border of huge pages and asking for them: fewer page
// faults while they are filled, fewer misses of the address cache while weights stream. Null when
// there are none.
void* MapPages(size_t bytes) {
  if (bytes > SIZE_MAX - 2 * kHugePage) return nullptr;
  void* p = ::mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                   -1, 0);
  if (p == MAP_FAILED) return nullptr;
  auto* const begin = static_cast<std::byte*>(p);
  const size_t before = (kHugePage - reinterpret_cast<uintptr_t>(begin) % kHugePage) % kHugePage;
  if (before > 0) ::munmap(begin, before);
  const size_t page = size_t(::sysconf(_SC_PAGESIZE));
  const size_t used = (bytes + page - 1) / page * page;
  if (kHugePage > before + (used - bytes))
    ::munmap(begin + before + used, kHugePage - before - (used - bytes));
  ::madvise(begin + before, bytes, MADV_HUGEPAGE);  // a wish: without it the pages are small
  return begin + before;
}
}  // namespace

Result<std::shared_ptr<Buffer>> Buffer::Allocate(size_t bytes) {
  struct Made : Buffer {  // one block of memory for the object and its reference count
    Made(Kind k, std::byte* d, size_t b) : Buffer(k, d, b) {}
  };
  TRY(CheckMemory(bytes));
  if (bytes >= kHugePage) {
    void* p = MapPages(bytes);
    if (p == nullptr) return Fail(Code::kResourceExhausted, "cannot allocate {} bytes", bytes);
    return std::make_shared<Made>(Kind::kPages, static_cast<std::byte*>(p), bytes);
  }
  const size_t rounded = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  void* p = rounded < bytes ? nullptr : std::aligned_alloc(kAlignment, rounded);
  if (p == nullptr) return Fail(Code::kResourceExhausted, "cannot allocate {} bytes", bytes);
  return std::make_shared<Made>(Kind::kHeap, static_cast<std::byte*>(p), bytes);
}

Result<std::shared_ptr<Buffer>> Buffer::AllocateStrings(size_t count) {
  // A string tensor above this many elements is not one a person means; it bounds what a header can
  // ask for.
  if (count > (size_t{1} << 32))
    return Fail(Code::kResourceExhausted, "cannot allocate {} strings", count);
  TRY(CheckMemory(count * sizeof(std::string)));
  auto* p = new (std::nothrow) std::string[count];
  if (p == nullptr) return Fail(Code::kResourceExhausted, "cannot allocate {} strings", count);
  return std::shared_ptr<Buffer>(
      new Buffer(Kind::kStrings, reinterpret_cast<std::byte*>(p), count * sizeof(std::string)));
}

Result<std::shared_ptr<Buffer>> Buffer::MapFile(const std::string& path) {
  // Without O_NONBLOCK, opening a named pipe waits for somebody to write into it.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) return Fail(Code::kNotFound, "{}: {}", path, std::strerror(errno));
  struct stat st {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd);
    return Fail(Code::kInvalidArgument, "{}: not a regular file", path);
  }
  const auto size = size_t(st.st_size);
  void* p = size == 0 ? nullptr : ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, fd, 0);
  ::close(fd);
  if (p == MAP_FAILED)
    return Fail(Code::kResourceExhausted, "{}: cannot map: {}", path, std::strerror(errno));
  // A huge page of the file would count as resident as a whole for one row that is read of a table.
  if (size > 0) ::madvise(p, size, MADV_NOHUGEPAGE);
  return std::shared_ptr<Buffer>(new Buffer(Kind::kMapped, static_cast<std::byte*>(p), size));
}

std::shared_ptr<Buffer> Buffer::Borrow(void* data, size_t bytes,
                                       std::shared_ptr<const void> owner) {
  struct Made : Buffer {  // as above
    Made(Kind k, std::byte* d, size_t b) : Buffer(k, d, b) {}
  };
  auto b = std::make_shared<Made>(Kind::kBorrowed, static_cast<std::byte*>(data), bytes);
  b->owner_ = std::move(owner);
  return b;
}

std::shared_ptr<Buffer> Buffer::Unaligned(std::shared_ptr<Buffer> file, size_t offset,
                                          size_t bytes) {
  DUNLIN_CHECK(offset <= file->bytes() && bytes <= file->bytes() - offset,
               "bytes the file does not have");
  auto b = std::shared_ptr<Buffer>(new Buffer(Kind::kUnaligned, file->data() + offset, bytes));
  b->file_ = std::move(file);
  b->file_offset_ = offset;
  return b;
}

std::shared_ptr<Buffer> Buffer::Widened(std::shared_ptr<Buffer> narrow, size_t offset, DType type,
                                        size_t count) {
  const auto bytes = size_t(ByteSize(type, int64_t(count)));
  DUNLIN_CHECK(offset <= narrow->bytes() && bytes <= narrow->bytes() - offset,
               "numbers the buffer does not have");
  auto* const from = const_cast<std::byte*>(narrow->source()) + offset;
  auto b = std::shared_ptr<Buffer>(new Buffer(Kind::kUnaligned, from, count * sizeof(float)));
  b->file_ = std::move(narrow);
  b->file_offset_ = offset;
  b->narrow_ = type;
  return b;
}

std::optional<Buffer::Narrow> Buffer::narrow() const {
  return widened() ? std::optional(Narrow{file_, file_offset_, narrow_}) : std::nullopt;
}

void Buffer::CopyTo(std::byte* to, size_t offset, size_t bytes) const {
  if (!widened() || copied_.load()) {
    if (bytes > 0) std::memcpy(to, source() + offset, bytes);
    return;
  }
  // By way of an aligned place: the numbers may lie anywhere.
  constexpr size_t kStep = 1024;
  alignas(kAlignment) uint16_t narrow[kStep];
  const size_t end = (offset + bytes) / sizeof(float);
  for (size_t i = offset / sizeof(float); i < end; i += kStep) {
    const size_t n = std::min(kStep, end - i);
    std::memcpy(narrow, data_ + i * sizeof(uint16_t), n * sizeof(uint16_t));
    const Status s = ConvertElements(narrow_, narrow, DType::kF32,
                                     to + (i * sizeof(float) - offset), 0, int64_t(n));
    DUNLIN_CHECK(s.has_value(), "only numbers are widened");
  }
}

std::byte* Buffer::AlignedCopy() const {
  std::call_once(once_, [&] {
    auto copy = Allocate(bytes_);
    if (!copy) throw std::bad_alloc();
    CopyTo((*copy)->data(), 0, bytes_);
    copy_ = std::move(*copy);
    copied_.store(true);
  });
  return copy_->data();
}

std::shared_ptr<const Buffer> Buffer::FileOf(const std::shared_ptr<Buffer>& buffer) {
  if (buffer == nullptr) return nullptr;
  if (buffer->kind_ == Kind::kUnaligned) return FileOf(buffer->file_);
  return buffer->kind_ == Kind::kMapped ? buffer : nullptr;
}

void Buffer::ReleasePages(size_t offset, size_t bytes) const {
  if (widened()) offset /= 2, bytes = (bytes + 1) / 2;
  if (kind_ == Kind::kUnaligned) return file_->ReleasePages(file_offset_ + offset, bytes);
  if (kind_ != Kind::kMapped) return;
  // With what a fault brings in around a byte (64 KiB by default). The map is read-only: what is
  // read again comes from the file again.
  constexpr uintptr_t kAround = 65536;
  const auto page = uintptr_t(::sysconf(_SC_PAGESIZE));
  const auto base = reinterpret_cast<uintptr_t>(data_), begin = base + offset;
  const uintptr_t first = std::max(base, begin / kAround * kAround);
  const uintptr_t last = std::min((base + bytes_ + page - 1) / page * page,
                                  (begin + bytes + kAround - 1) / kAround * kAround);
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

Buffer::~Buffer() {
  switch (kind_) {
    case Kind::kPages:
      ::munmap(data_, bytes_);
      break;
    case Kind::kUnaligned:
      break;
    case Kind::kHeap:
      std::free(data_);
      break;
    case Kind::kStrings:
      delete[] reinterpret_cast<std::string*>(data_);
      break;
    case Kind::kMapped:
      if (data_ != nullptr) ::munmap(data_, bytes_);
      break;
    case Kind::kBorrowed:
      break;
  }
}

Result<Tensor> Tensor::Create(DType dtype, const Dims& dims) {
  const auto count = ElementCount(dims);
  if (!count)
    return Fail(Code::kInvalidArgument, "extents {} do not describe a tensor", ToString(dims));
  Tensor t;
  t.dtype_ = dtype;
  t.dims_ = dims;
  t.buffer_ = dtype == DType::kString ? TRY(Buffer::AllocateStrings(size_t(*count)))
                                      : TRY(Buffer::Allocate(size_t(ByteSize(dtype, *count))));
  return t;
}

Result<Tensor> Tensor::Zeros(DType dtype, const Dims& dims) {
  Tensor t = TRY(Create(dtype, dims));
  if (dtype != DType::kString) std::memset(t.raw(), 0, size_t(t.bytes()));
  return t;
}

Tensor Tensor::Over(DType dtype, const Dims& dims, std::shared_ptr<Buffer> buffer, size_t offset) {
  const auto count = ElementCount(dims);
  DUNLIN_CHECK(count && buffer && offset + size_t(ByteSize(dtype, *count)) <= buffer->bytes(),
               "a tensor over bytes its buffer does not have");
  Tensor t;
  t.dtype_ = dtype;
  t.dims_ = dims;
  t.buffer_ = std::move(buffer);
  t.offset_ = offset;
  return t;
}

Tensor Tensor::Reshaped(const Dims& dims) const {
  DUNLIN_CHECK(CountOf(dims) == count(), "Reshaped: another element count");
  Tensor t = *this;
  t.dims_ = dims;
  return t;
}

Result<Tensor> Tensor::Clone() const {
  Tensor t = TRY(Create(dtype_, dims_));
  if (dtype_ == DType::kString)
    std::copy_n(as<std::string>(), count(), t.mut<std::string>());
  else if (bytes() > 0)
    std::memcpy(t.raw(), raw(), size_t(bytes()));
  return t;
}

}  // namespace dunlin
