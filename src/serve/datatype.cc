#include "serve/datatype.h"

namespace dunlin::serve {
namespace {

struct Row {
  DType dtype;
  inference::DataType config;
  std::string_view protocol;
};
constexpr Row kRows[] = {
    {DType::kBool, inference::TYPE_BOOL, "BOOL"},
    {DType::kU8, inference::TYPE_UINT8, "UINT8"},
    {DType::kU16, inference::TYPE_UINT16, "UINT16"},
    {DType::kU32, inference::TYPE_UINT32, "UINT32"},
    {DType::kU64, inference::TYPE_UINT64, "UINT64"},
    {DType::kI8, inference::TYPE_INT8, "INT8"},
    {DType::kI16, inference::TYPE_INT16, "INT16"},
    {DType::kI32, inference::TYPE_INT32, "INT32"},
    {DType::kI64, inference::TYPE_INT64, "INT64"},
    {DType::kF16, inference::TYPE_FP16, "FP16"},
    {DType::kF32, inference::TYPE_FP32, "FP32"},
    {DType::kF64, inference::TYPE_FP64, "FP64"},
    {DType::kString, inference::TYPE_STRING, "BYTES"},
    {DType::kBF16, inference::TYPE_BF16, "BF16"},
};

}  // namespace

DType FromConfigType(inference::DataType type) {
  for (const Row& r : kRows)
    if (r.config == type) return r.dtype;
  return DType::kUndefined;
}

inference::DataType ToConfigType(DType type) {
  for (const Row& r : kRows)
    if (r.dtype == type) return r.config;
  return inference::TYPE_INVALID;
}

DType FromProtocolName(std::string_view name) {
  for (const Row& r : kRows)
    if (r.protocol == name) return r.dtype;
  return DType::kUndefined;
}

std::string_view ProtocolName(DType type) {
  for (const Row& r : kRows)
    if (r.dtype == type) return r.protocol;
  return "";
}

}  // namespace dunlin::serve
