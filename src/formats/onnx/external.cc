// Tensors whose bytes lie outside the model's message: files beside the model, and the coordinate
// form of sparse ones.
#include <algorithm>
#include <charconv>
#include <cstring>
#include <filesystem>

#include "formats/onnx/internal.h"
#include "formats/onnx/messages.pb.h"

namespace dunlin::onnx_import {
namespace {

namespace fs = std::filesystem;

// What a sparse tensor may take in dense form: a file of some bytes can ask for any amount.
constexpr int64_t kMaxDenseBytes = int64_t{1} << 30;

struct Location {
  std::string file;
  int64_t offset = 0, length = -1;  // -1: as long as the tensor
};

Result<Location> ReadLocation(const onnx::TensorProto& t) {
  Location out;
  for (const auto& e : t.external_data()) {
    const std::string& v = e.value();
    if (e.key() == "location") out.file = v;
    int64_t* number = e.key() == "offset"   ? &out.offset
                      : e.key() == "length" ? &out.length
                                            : nullptr;
    if (number == nullptr) continue;
    const char* end = v.data() + v.size();
    const auto [at, error] = std::from_chars(v.data(), end, *number);
    if (error != std::errc() || at != end || *number < 0)
      return Fail(Code::kInvalidArgument, "tensor '{}': external data {} is '{}', not a number",
                  t.name(), e.key(), v);
  }
  // As written on Windows.
  std::replace(out.file.begin(), out.file.end(), '\\', '/');
  return out;
}

bool IsInside(const fs::path& file, const fs::path& folder) {
  const auto [f, at] = std::mismatch(folder.begin(), folder.end(), file.begin(), file.end());
  return f == folder.end() && at != file.end();
}

// The path to open. A model may only name things beside it: no absolute path, no way up, and no
// symbolic link out of its folder, but for the folder where a linked model file really lies
// (download caches are built so).
Result<std::string> SafePath(const std::string& tensor, const std::string& location,
                             const TensorSource& source) {
  const auto outside = [&] {
    return Fail(Code::kInvalidArgument,
                "tensor '{}': external data location '{}' is outside the model's folder", tensor,
                location);
  };
  const fs::path relative(location);
  if (location.empty() || location.find('\0') != std::string::npos || relative.is_absolute() ||
      std::find(relative.begin(), relative.end(), "..") != relative.end())
    return outside();
  const fs::path path = fs::path(source.external_dir) / relative;
  std::error_code error;
  const fs::path real = fs::canonical(path, error);
  if (error)
    return Fail(Code::kNotFound, "tensor '{}': external data file '{}': {}", tensor, path.string(),
                error.message());
  for (const std::string& folder : {source.external_dir, source.real_dir}) {
    if (folder.empty()) continue;
    const fs::path real_folder = fs::canonical(folder, error);
    if (!error && IsInside(real, real_folder)) return path.string();
  }
  return outside();
}

}  // namespace

Result<Tensor> ReadExternal(const onnx::TensorProto& t, DType dtype, const Dims& dims,
                            int64_t bytes, const TensorSource& source) {
  const Location at = TRY(ReadLocation(t));
  if (source.external_dir.empty())
    return Fail(Code::kInvalidArgument,
                "tensor '{}' lies in file '{}', but the model's folder is not known; load the "
                "model from a file",
                t.name(), at.file);
  std::shared_ptr<Buffer>& file = (*source.external_files)[at.file];
  if (!file) {
    auto mapped = Buffer::MapFile(TRY(SafePath(t.name(), at.file, source)));
    if (!mapped) return FailAt(fmt::format("tensor '{}': external data", t.name()), mapped.error());
    file = std::move(*mapped);
  }
  if (at.length >= 0 && at.length != bytes)
    return Fail(Code::kInvalidArgument, "tensor '{}' {}{} needs {} bytes, its external data has {}",
                t.name(), DTypeName(dtype), ToString(dims), bytes, at.length);
  if (uint64_t(at.offset) > file->bytes() || uint64_t(bytes) > file->bytes() - uint64_t(at.offset))
    return Fail(Code::kInvalidArgument,
                "tensor '{}' needs bytes {} to {} of external file '{}', which ends before, at {}",
                t.name(), at.offset, uint64_t(at.offset) + uint64_t(bytes), at.file, file->bytes());
  if (bytes == 0) return Tensor::Create(dtype, dims);
  if (at.offset % std::max(1, DTypeBits(dtype) / 8) == 0)
    return Tensor::Over(dtype, dims, file, size_t(at.offset));
  return Tensor::Over(dtype, dims, Buffer::Unaligned(file, size_t(at.offset), size_t(bytes)));
}

Result<Tensor> ReadSparse(const onnx::SparseTensorProto& t, const TensorSource& source) {
  const std::string& name = t.values().name();
  const Tensor values = TRY(ReadTensor(t.values(), source));
  const Tensor indices = TRY(ReadTensor(t.indices(), source));
  const Dims dims(std::span<const int64_t>(t.dims().data(), size_t(t.dims_size())));
  const auto count = ElementCount(dims);
  if (!count)
    return Fail(Code::kInvalidArgument, "sparse tensor '{}' has impossible extents {}", name,
                ToString(dims));
  if (DTypeBits(values.dtype()) % 8 != 0)
    return Fail(Code::kUnimplemented, "sparse tensor '{}' of element type {}", name,
                DTypeName(values.dtype()));
  if (ByteSize(values.dtype(), *count) > kMaxDenseBytes)
    return Fail(Code::kResourceExhausted,
                "sparse tensor '{}' {}{} would take {} bytes in dense form; the limit is {}", name,
                DTypeName(values.dtype()), ToString(dims), ByteSize(values.dtype(), *count),
                kMaxDenseBytes);
  const int64_t given = values.count();
  const bool linear = indices.rank() == 1;
  if (values.rank() != 1 || indices.dtype() != DType::kI64 || indices.dims().empty() ||
      indices.dims()[0] != given ||
      !(linear || (indices.rank() == 2 && indices.dims()[1] == dims.rank())))
    return Fail(Code::kInvalidArgument,
                "sparse tensor '{}' {} has values {}{} with indices {}{}; [n] with i64 [n] or "
                "[n,{}] are needed",
                name, ToString(dims), DTypeName(values.dtype()), ToString(values.dims()),
                DTypeName(indices.dtype()), ToString(indices.dims()), dims.rank());
  const Tensor out = TRY(Tensor::Zeros(values.dtype(), dims));
  const int64_t* index = indices.as<int64_t>();
  const int64_t size = DTypeBits(values.dtype()) / 8;
  for (int64_t i = 0; i < given; ++i) {
    int64_t at = 0;
    bool inside = true;
    if (linear) {
      at = index[i];
      inside = at >= 0 && at < *count;
    } else {
      for (int d = 0; d < dims.rank(); ++d) {
        const int64_t x = index[i * dims.rank() + d];
        inside = inside && x >= 0 && x < dims[size_t(d)];
        if (inside) at = at * dims[size_t(d)] + x;
      }
    }
    if (!inside)
      return Fail(Code::kInvalidArgument, "sparse tensor '{}' {}: value {} has an index outside",
                  name, ToString(dims), i);
    if (values.dtype() == DType::kString)
      out.mut<std::string>()[at] = values.as<std::string>()[i];
    else
      std::memcpy(out.raw() + at * size, values.raw() + i * size, size_t(size));
  }
  return out;
}

}  // namespace dunlin::onnx_import
