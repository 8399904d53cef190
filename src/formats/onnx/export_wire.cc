#include "formats/onnx/export_wire.h"

#include <cstring>

namespace dunlin::onnx_export {
namespace {
constexpr uint32_t kVarint = 0, kLength = 2, kFixed32 = 5;
}

// Where the next bytes go: behind everything that is there.
std::string& Message::Tail() {
  if (pieces_.empty() || pieces_.back().tensor.defined()) pieces_.emplace_back();
  return pieces_.back().bytes;
}

void Message::Varint(uint64_t v) {
  std::string& out = Tail();
  const size_t before = out.size();
  for (; v >= 0x80; v >>= 7) out += char(uint8_t(v | 0x80));
  out += char(uint8_t(v));
  size_ += out.size() - before;
}

Message& Message::Int(uint32_t field, int64_t v) {
  Tag(field, kVarint);
  Varint(uint64_t(v));
  return *this;
}

Message& Message::Float(uint32_t field, float v) {
  Tag(field, kFixed32);
  char bytes[sizeof v];
  std::memcpy(bytes, &v, sizeof v);
  Tail().append(bytes, sizeof v);
  size_ += sizeof v;
  return *this;
}

Message& Message::Text(uint32_t field, std::string_view v) {
  Tag(field, kLength);
  Varint(v.size());
  Tail() += v;
  size_ += v.size();
  return *this;
}

Message& Message::Sub(uint32_t field, Message m) {
  Tag(field, kLength);
  Varint(m.size_);
  return Append(std::move(m));
}

Message& Message::Append(Message m) {
  for (Piece& p : m.pieces_) {
    Tail() += p.bytes;
    pieces_.back().tensor = std::move(p.tensor);
  }
  size_ += m.size_;
  return *this;
}

Message& Message::Elements(uint32_t field, Tensor t) {
  const auto bytes = uint64_t(t.bytes());
  Tag(field, kLength);
  Varint(bytes);
  if (bytes > 0) pieces_.back().tensor = std::move(t);
  size_ += bytes;
  return *this;
}

}  // namespace dunlin::onnx_export
