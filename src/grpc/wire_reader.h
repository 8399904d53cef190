// WireReader: protobuf's wire format over bytes that lie in pieces, as gRPC receives them, so that
// tensors need not be copied into one string first. For ModelInferRequest alone; small messages are
// read by the generated classes.
//
//   while (reader.Next())
//     switch (reader.field()) { case 1: name = reader.String(); break; default: reader.Skip(); }
//   if (!reader.ok()) …
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace dunlin::grpc {

enum class WireType : uint8_t { kVarint, kFixed64, kBytes, kGroup, kEndGroup, kFixed32 };

// Cheap to copy: a place in the bytes, which must outlive it. After the first error every call
// returns nothing and ok() is false; a value that is read as another wire type than it has is an
// error, as in the generated classes only Skip() may follow then (see Is).
class WireReader {
 public:
  WireReader() = default;
  explicit WireReader(std::span<const std::string_view> pieces);

  // Reads the next tag; false at the end and after an error. What the tag announces must be read
  // or skipped before the next call.
  bool Next();
  uint32_t field() const { return field_; }
  WireType type() const { return type_; }
  bool Is(uint32_t field, WireType type) const { return field_ == field && type_ == type; }
  bool ok() const { return ok_; }

  uint64_t Varint();
  uint32_t Fixed32();
  uint64_t Fixed64();
  // Of a length-delimited field: its bytes as a reader of their own, which reads a message in them
  // or a packed list (until AtEnd).
  WireReader Bytes();
  // UTF-8, else an error, as protobuf has it for fields of type string.
  std::string String();
  // Groups may nest up to 100 deep, as in the generated classes.
  void Skip();

  bool AtEnd() const { return remaining_ == 0; }
  size_t remaining() const { return remaining_; }
  // From outside: what was read makes no sense, so there was an error.
  void Invalidate();
  // All of the remaining bytes where they lie in one piece; else data() is null.
  std::string_view Contiguous() const;
  // The next `bytes`, of which there must be as many, else an error.
  void CopyTo(void* to, size_t bytes);

 private:
  void Advance(size_t bytes);  // at most remaining_
  uint64_t VarintSlow();
  size_t here() const { return size_t(end_ - at_); }

  const char* at_ = nullptr;  // next byte, inside the current piece
  const char* end_ = nullptr;
  const std::string_view* next_ = nullptr;  // pieces that follow
  size_t remaining_ = 0;                    // bytes until the end of this message, over all pieces
  uint32_t field_ = 0;
  WireType type_ = WireType::kVarint;
  bool ok_ = true;
};

bool IsUtf8(std::string_view text);

}  // namespace dunlin::grpc
