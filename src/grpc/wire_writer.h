// Writing protobuf's wire format into a string: what a reply has beside its tensors.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace dunlin::grpc {

inline void PutVarint(std::string& out, uint64_t value) {
  for (; value >= 0x80; value >>= 7) out += char(value | 0x80);
  out += char(value);
}
// The tag of a length-delimited field and the length of what follows.
inline void PutLength(std::string& out, uint32_t field, size_t bytes) {
  PutVarint(out, uint64_t{field} << 3 | 2);
  PutVarint(out, bytes);
}
inline void PutBytes(std::string& out, uint32_t field, std::string_view bytes) {
  PutLength(out, field, bytes.size());
  out += bytes;
}
// As proto3 has it: a scalar at its default is left out.
inline void PutString(std::string& out, uint32_t field, std::string_view text) {
  if (!text.empty()) PutBytes(out, field, text);
}
// Also of a bool.
inline void PutVarintField(std::string& out, uint32_t field, uint64_t value) {
  PutVarint(out, uint64_t{field} << 3);
  PutVarint(out, value);
}

}  // namespace dunlin::grpc
