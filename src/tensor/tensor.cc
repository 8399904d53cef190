#include "tensor/tensor.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>

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

Result<std::shared_ptr<Buffer>> Buffer::Allocate(size_t bytes) {
  const size_t rounded = (std::max<size_t>(bytes, 1) + kAlignment - 1) / kAlignment * kAlignment;
  void* p = rounded < bytes ? nullptr : std::aligned_alloc(kAlignment, rounded);
  if (p == nullptr) return Fail(Code::kResourceExhausted, "cannot allocate {} bytes", bytes);
  return std::shared_ptr<Buffer>(new Buffer(Kind::kHeap, static_cast<std::byte*>(p), bytes));
}

Result<std::shared_ptr<Buffer>> Buffer::AllocateStrings(size_t count) {
  // A string tensor above this many elements is not one a person means; it bounds what a header can
  // ask for.
  if (count > (size_t{1} << 32))
    return Fail(Code::kResourceExhausted, "cannot allocate {} strings", count);
  auto* p = new (std::nothrow) std::string[count];
  if (p == nullptr) return Fail(Code::kResourceExhausted, "cannot allocate {} strings", count);
  return std::shared_ptr<Buffer>(
      new Buffer(Kind::kStrings, reinterpret_cast<std::byte*>(p), count * sizeof(std::string)));
}

Result<std::shared_ptr<Buffer>> Buffer::MapFile(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
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
  return std::shared_ptr<Buffer>(new Buffer(Kind::kMapped, static_cast<std::byte*>(p), size));
}

std::shared_ptr<Buffer> Buffer::Borrow(void* data, size_t bytes,
                                       std::shared_ptr<const void> owner) {
  auto b =
      std::shared_ptr<Buffer>(new Buffer(Kind::kBorrowed, static_cast<std::byte*>(data), bytes));
  b->owner_ = std::move(owner);
  return b;
}

Buffer::~Buffer() {
  switch (kind_) {
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

Result<std::vector<int64_t>> ToInts(const Tensor& t) {
  std::vector<int64_t> out(static_cast<size_t>(t.count()));
  const Status s = VisitDType(t.dtype(), "an integer list", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (std::is_integral_v<T>) {
      std::copy_n(t.as<T>(), out.size(), out.begin());
      return {};
    } else {
      return Fail(Code::kInvalidArgument, "an integer list has element type {}",
                  DTypeName(t.dtype()));
    }
  });
  if (!s) return Fail(s.error());
  return out;
}

namespace {
template <class To, class From>
To ConvertOne(From v) {
  if constexpr (kIsHalf<From>) {
    return ConvertOne<To>(float(v));
  } else if constexpr (std::is_same_v<To, bool>) {
    return v != From(0);
  } else if constexpr (kIsHalf<To>) {
    return To(float(v));
  } else if constexpr (std::is_floating_point_v<From> && std::is_integral_v<To>) {
    // Out-of-range conversions are undefined in C++; go through the widest integer, wrapping as x86
    // does.
    if (!(v > From(-9.2233720368547758e18) && v < From(9.2233720368547758e18))) {
      if constexpr (std::is_same_v<To, uint64_t>) {
        if (v >= From(9.2233720368547758e18) && v < From(1.8446744073709552e19))
          return static_cast<To>(v);
      }
      return static_cast<To>(std::numeric_limits<int64_t>::min());
    }
    return static_cast<To>(static_cast<int64_t>(v));
  } else {
    return static_cast<To>(v);
  }
}
}  // namespace

Result<Tensor> Convert(const Tensor& t, DType to) {
  Tensor out = TRY(Tensor::Create(to, t.dims()));
  const int64_t n = t.count();
  const Status s = VisitDType(t.dtype(), "Convert", [&]<class From>(TypeTag<From>) -> Status {
    return VisitDType(to, "Convert", [&]<class To>(TypeTag<To>) -> Status {
      if constexpr (std::is_same_v<From, std::string> || std::is_same_v<To, std::string>) {
        return Fail(Code::kUnimplemented, "Convert: strings");
      } else {
        const From* x = t.as<From>();
        To* y = out.mut<To>();
        for (int64_t i = 0; i < n; ++i) y[i] = ConvertOne<To>(x[i]);
        return {};
      }
    });
  });
  if (!s) return Fail(s.error());
  return out;
}

}  // namespace dunlin
