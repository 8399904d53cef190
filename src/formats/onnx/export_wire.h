// Protobuf's wire format, written. A message is a list of pieces, so that weights are not copied
// before they are in the file.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tensor/tensor.h"

namespace dunlin::onnx_export {

class Message {
 public:
  // Some bytes, then those of a tensor (which may be undefined: none).
  struct Piece {
    std::string bytes;
    Tensor tensor;
  };

  Message& Int(uint32_t field, int64_t v);
  Message& Float(uint32_t field, float v);
  Message& Text(uint32_t field, std::string_view v);
  Message& Sub(uint32_t field, Message m);
  // The fields of another message behind those that are there.
  Message& Append(Message m);
  // The tensor's elements as they lie in memory.
  Message& Elements(uint32_t field, Tensor t);

  uint64_t size() const { return size_; }
  const std::vector<Piece>& pieces() const { return pieces_; }

 private:
  std::string& Tail();
  void Varint(uint64_t v);
  void Tag(uint32_t field, uint32_t wire) { Varint(uint64_t{field} << 3 | wire); }
  std::vector<Piece> pieces_;
  uint64_t size_ = 0;
};

}  // namespace dunlin::onnx_export
