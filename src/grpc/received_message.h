// From the bytes of a call's stream to its messages: length prefixes, compression, limits, and
// large tensors in memory of their own, so that they need not be copied again.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "grpc/metadata.h"
#include "net/body.h"

namespace dunlin::grpc {

// The bytes of one message of a client. Readers and tensors point into it. What it takes counts
// against the budget until it goes.
class ReceivedMessage {
 public:
  explicit ReceivedMessage(std::shared_ptr<net::Budget> budget) : budget_(std::move(budget)) {}
  ~ReceivedMessage() { budget_->Return(taken_); }
  ReceivedMessage(const ReceivedMessage&) = delete;
  ReceivedMessage& operator=(const ReceivedMessage&) = delete;

  std::span<const std::string_view> pieces() const {
    return pieces_.empty() ? std::span(&only_piece_, 1) : std::span(pieces_);
  }
  size_t bytes() const;
  // All of it in one piece; for small messages.
  std::string Flat() const;

 private:
  friend class MessageReader;
  struct Tensor {
    size_t text_end;  // the text before it
    std::shared_ptr<net::Body> body;
  };

  Status Take(size_t bytes);
  Status Append(std::string_view text);
  Status Inflate(Encoding encoding, size_t most);
  void Finish();  // pieces_

  const std::shared_ptr<net::Budget> budget_;
  int64_t taken_ = 0;
  std::string text_;
  std::vector<Tensor> tensors_;
  std::string_view only_piece_;           // without tensors
  std::vector<std::string_view> pieces_;  // with
};

class MessageReader {
 public:
  enum class Form : bool {
    kSmall,  // in one piece
    kInfer,  // a ModelInferRequest: its large raw_input_contents are pieces
  };
  // `encoding` is that of messages with the compressed flag. `most`: bytes of one, decompressed.
  MessageReader(std::shared_ptr<net::Budget> budget, size_t most, Encoding encoding, Form form)
      : budget_(std::move(budget)), most_(most), encoding_(encoding), form_(form) {}

  // Takes the front of `data`, up to the end of a message; null when the message goes on. After an
  // error the rest of the stream makes no sense: kResourceExhausted beyond the limits, kInternal
  // when the bytes are no message, kInvalidArgument when it cannot be decompressed.
  Result<std::shared_ptr<ReceivedMessage>> Feed(std::string_view& data);
  // In the middle of a message.
  bool partial() const { return prefix_bytes_ > 0; }
  // Where the next bytes will stay, if they go into a tensor: what is put there before it is fed
  // need not be copied.
  std::span<char> Place() const {
    return tensor_ ? std::span(tensor_->end(), tensor_left_) : std::span<char>();
  }

 private:
  static constexpr size_t kPrefixBytes = 5;

  Status Begin();
  // Each takes a part of `data`.
  Status FeedTensor(std::string_view& data);
  Status FeedText(std::string_view& data);
  Status FeedFields(std::string_view& data);
  void OnFieldByte(uint8_t byte);

  const std::shared_ptr<net::Budget> budget_;
  const size_t most_;
  const Encoding encoding_;
  const Form form_;
  uint8_t prefix_[kPrefixBytes];
  size_t prefix_bytes_ = 0;
  std::shared_ptr<ReceivedMessage> message_;
  bool compressed_ = false;
  size_t left_ = 0;  // of the message
  std::shared_ptr<net::Body> tensor_;
  size_t tensor_left_ = 0;
  // The walk over a ModelInferRequest's fields. What makes no sense ends it; whoever reads the
  // message later says so.
  enum class At : uint8_t { kTag, kNumber, kLength, kNowhere };
  At at_ = At::kNowhere;
  uint64_t number_ = 0, field_ = 0;
  int shift_ = 0;
  size_t skip_ = 0;  // bytes of a field that are text
};

}  // namespace dunlin::grpc
