// Tensor: dense elements, their type and extents, sharing a reference-counted buffer.
// TensorView: the same without ownership, for kernels.
#pragma once

#include <atomic>
#include <cstddef>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/check.h"
#include "base/result.h"
#include "tensor/dims.h"
#include "tensor/dtype.h"
#include "tensor/narrow.h"

namespace dunlin {

// How extents map to memory. The extents are always the logical ones, [N, C, spatial…].
enum class Layout : uint8_t {
  kRowMajor,      // the last extent is contiguous
  kChannelsLast,  // stored as [N, spatial…, C]; for rank >= 3
};

struct TensorView {
  DType dtype = DType::kUndefined;
  Layout layout = Layout::kRowMajor;
  Dims dims;
  void* data = nullptr;
  // Channels-last: elements from one pixel's channels to the next one's, where the value is a part
  // of a wider one. 0: they follow each other.
  int64_t pixel_stride = 0;

  int64_t pixel_step() const { return pixel_stride != 0 ? pixel_stride : dims[1]; }
  int rank() const { return dims.rank(); }
  int64_t count() const { return CountOf(dims); }
  int64_t bytes() const { return ByteSize(dtype, count()); }
  template <class T>
  const T* as() const {
    DUNLIN_DCHECK(kDTypeOf<T> == dtype, "a view read as another type");
    return static_cast<const T*>(data);
  }
  template <class T>
  T* mut() {
    DUNLIN_DCHECK(kDTypeOf<T> == dtype, "a view written as another type");
    return static_cast<T*>(data);
  }
};

// Bytes, aligned to kAlignment where we allocate them; possibly mapped from a file.
class Buffer {
 public:
  static constexpr size_t kAlignment = 64;  // a cache line, and the widest vector
  // kResourceExhausted when the system has not that much memory. Contents undefined.
  static Result<std::shared_ptr<Buffer>> Allocate(size_t bytes);
  static Result<std::shared_ptr<Buffer>> AllocateStrings(
      size_t count);  // std::string[count], empty
  // Read-only map of a whole file. Writing through data() faults.
  static Result<std::shared_ptr<Buffer>> MapFile(const std::string& path);
  // Bytes that live as long as `owner`.
  static std::shared_ptr<Buffer> Borrow(void* data, size_t bytes,
                                        std::shared_ptr<const void> owner);
  // Bytes of `file` that lie where their type cannot be read. data() copies them to an aligned
  // place the first time it is called, and throws std::bad_alloc when there is no memory;
  // source() does not.
  static std::shared_ptr<Buffer> Unaligned(std::shared_ptr<Buffer> file, size_t offset,
                                           size_t bytes);
  // `count` numbers of type f16 or bf16 at `offset` of a buffer, as f32. They are converted the
  // first time data() is called, as Unaligned's are copied; until then they take no memory.
  static std::shared_ptr<Buffer> Widened(std::shared_ptr<Buffer> narrow, size_t offset, DType type,
                                         size_t count);
  struct Narrow {
    std::shared_ptr<Buffer> buffer;
    size_t offset;
    DType type;
  };
  // What Widened was given, if it made this.
  std::optional<Narrow> narrow() const;
  ~Buffer();
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  std::byte* data() const { return kind_ == Kind::kUnaligned ? AlignedCopy() : data_; }
  size_t bytes() const { return bytes_; }
  // The same bytes, at any address: to be read by memcpy.
  const std::byte* source() const { return widened() ? AlignedCopy() : data_; }
  // Where byte `offset` comes from: equal for equal bytes of one file, and no reason for a copy.
  const std::byte* origin(size_t offset) const { return data_ + (widened() ? offset / 2 : offset); }
  // Writes bytes [offset, offset + bytes), of whole elements, without making a lasting copy.
  void CopyTo(std::byte* to, size_t offset, size_t bytes) const;
  // Whether data() would make a copy first.
  bool unaligned() const { return kind_ == Kind::kUnaligned && !copied_.load(); }
  // Nobody will read these bytes soon: where they are mapped from a file, memory gives them back.
  void ReleasePages(size_t offset, size_t bytes) const;
  // The map of a file that these bytes lie in; null when they lie in none.
  static std::shared_ptr<const Buffer> FileOf(const std::shared_ptr<Buffer>& buffer);

 private:
  enum class Kind : uint8_t { kHeap, kPages, kStrings, kMapped, kBorrowed, kUnaligned };
  Buffer(Kind kind, std::byte* data, size_t bytes) : kind_(kind), data_(data), bytes_(bytes) {}
  std::byte* AlignedCopy() const;
  bool widened() const { return narrow_ != DType::kUndefined; }
  Kind kind_;
  std::byte* data_;
  size_t bytes_;
  std::shared_ptr<const void> owner_;
  // Of kUnaligned: the file, where the bytes stand in it, the copy once it is made, and what type
  // the file has them in if it is narrower.
  std::shared_ptr<Buffer> file_;
  size_t file_offset_ = 0;
  mutable std::once_flag once_;
  mutable std::atomic<bool> copied_{false};
  mutable std::shared_ptr<Buffer> copy_;
  DType narrow_ = DType::kUndefined;
};

// Always row-major. Cheap to copy: copies share the buffer.
class Tensor {
 public:
  Tensor() = default;
  // Fails when a dimension is negative or the size overflows or cannot be had. Strings start empty,
  // all else undefined.
  static Result<Tensor> Create(DType dtype, const Dims& dims);
  static Result<Tensor> Zeros(DType dtype, const Dims& dims);
  // Over bytes of a buffer. DUNLIN_CHECKs that they are inside it.
  static Tensor Over(DType dtype, const Dims& dims, std::shared_ptr<Buffer> buffer,
                     size_t offset = 0);
  template <class T>
  static Tensor Of(const Dims& dims, std::span<const T> values) {
    auto t = Create(kDTypeOf<T>, dims);
    DUNLIN_CHECK(t.has_value() && t->count() == int64_t(values.size()),
                 "Tensor::Of: extents and values differ");
    std::copy(values.begin(), values.end(), t->template mut<T>());
    return std::move(*t);
  }
  template <class T>
  static Tensor Of(const Dims& dims, std::initializer_list<T> values) {
    return Of(dims, std::span<const T>(values.begin(), values.size()));
  }
  template <class T>
  static Tensor Scalar(T value) {
    return Of<T>(Dims{}, {value});
  }
  static Tensor Ints(std::span<const int64_t> values) {
    return Of<int64_t>(Dims{int64_t(values.size())}, values);
  }

  bool defined() const { return buffer_ != nullptr; }
  DType dtype() const { return dtype_; }
  const Dims& dims() const { return dims_; }
  int rank() const { return dims_.rank(); }
  int64_t count() const { return CountOf(dims_); }
  int64_t bytes() const { return ByteSize(dtype_, count()); }
  std::byte* raw() const { return buffer_ ? buffer_->data() + offset_ : nullptr; }
  template <class T>
  const T* as() const {
    DUNLIN_CHECK(kDTypeOf<T> == dtype_, "a tensor read as another type");
    return reinterpret_cast<const T*>(raw());
  }
  template <class T>
  T* mut() const {
    DUNLIN_CHECK(kDTypeOf<T> == dtype_, "a tensor written as another type");
    return reinterpret_cast<T*>(raw());
  }
  template <class T>
  std::span<const T> values() const {
    return {as<T>(), size_t(count())};
  }
  TensorView view() const { return {dtype_, Layout::kRowMajor, dims_, raw()}; }
  const std::shared_ptr<Buffer>& buffer() const { return buffer_; }
  // The same bytes, at any address: to be read by memcpy. Makes fewer copies than raw() may.
  const std::byte* source() const { return buffer_ ? buffer_->source() + offset_ : nullptr; }
  // Tells constants apart by where their bytes come from; see Buffer::origin.
  const std::byte* origin() const { return buffer_ ? buffer_->origin(offset_) : nullptr; }
  size_t offset() const { return offset_; }
  // The same bytes under other extents of equal count (checked).
  Tensor Reshaped(const Dims& dims) const;
  Result<Tensor> Clone() const;

 private:
  DType dtype_ = DType::kUndefined;
  Dims dims_;
  std::shared_ptr<Buffer> buffer_;
  size_t offset_ = 0;
};

// The values of an integer tensor (i32, i64, u8, i4 … or bool) as int64. kInvalidArgument for
// another type.
Result<std::vector<int64_t>> ToInts(const Tensor& t);
// Elements [begin, begin + count) of `from` to those of `to`, as ONNX Cast converts numbers: floats
// truncate to integers, integers keep their low bits, anything non-zero is true, floats round to
// nearest even. What no int64 holds becomes its minimum and wraps into narrower types, as x86's
// conversion does (ONNX leaves it undefined). Strings: kUnimplemented. Of packed types `begin` and
// `count` must be whole bytes unless one thread writes all.
Status ConvertElements(DType from_type, const void* from, DType to_type, void* to, int64_t begin,
                       int64_t count, const NarrowRule& rule = {});
Result<Tensor> Convert(const Tensor& t, DType to);
// A tensor of f16 or bf16 as f32, converted when it is first read as a whole; see Buffer::Widened.
Tensor Widened(const Tensor& t);
// The tensor that Widened was given, if it made `t`.
std::optional<Tensor> NarrowOf(const Tensor& t);

}  // namespace dunlin
