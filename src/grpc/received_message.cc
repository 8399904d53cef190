#include "grpc/received_message.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "base/check.h"

namespace dunlin::grpc {
namespace {

// A raw tensor of at least this gets memory of its own; what is smaller is copied once more.
constexpr size_t kTensorFrom = 4096;
constexpr uint64_t kRawContentsField = 7;  // of ModelInferRequest
// Of a message whose length is announced, reserved before it arrives.
constexpr size_t kReserved = 64 << 10;

Status Exhausted() {
  return Fail(Code::kResourceExhausted,
              "too many request bytes are in progress, try again later (--grpc-max-inflight-size)");
}

}  // namespace

Status ReceivedMessage::Take(size_t bytes) {
  taken_ += int64_t(bytes);
  return budget_->Take(int64_t(bytes)) ? Status{} : Exhausted();
}

Status ReceivedMessage::Append(std::string_view text) {
  TRY(Take(text.size()));
  text_ += text;
  return {};
}

size_t ReceivedMessage::bytes() const {
  size_t all = 0;
  for (const std::string_view p : pieces()) all += p.size();
  return all;
}

std::string ReceivedMessage::Flat() const {
  std::string all;
  for (const std::string_view p : pieces()) all += p;
  return all;
}

void ReceivedMessage::Finish() {
  const std::string_view text = text_;
  only_piece_ = text;
  if (tensors_.empty()) return;
  size_t at = 0;
  pieces_.reserve(2 * tensors_.size() + 1);
  for (const Tensor& t : tensors_) {
    pieces_.push_back(text.substr(at, t.text_end - at));
    pieces_.push_back(t.body->view());
    at = t.text_end;
  }
  pieces_.push_back(text.substr(at));
}

Status ReceivedMessage::Inflate(Encoding encoding, size_t most) {
  constexpr size_t kStep = size_t{64} << 10;
  const std::string packed = std::exchange(text_, {});
  z_stream z{};
  DUNLIN_CHECK(::inflateInit2(&z, encoding == Encoding::kGzip ? 15 + 16 : 15) == Z_OK,
               "zlib does not start");
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
  z.avail_in = uInt(packed.size());  // a message's length has 32 bits
  int state = Z_OK;
  Status taken;
  while (state == Z_OK && taken && text_.size() <= most) {
    const size_t have = text_.size();
    text_.resize(have + kStep);
    z.next_out = reinterpret_cast<Bytef*>(text_.data()) + have;
    z.avail_out = uInt(kStep);
    state = ::inflate(&z, Z_NO_FLUSH);
    text_.resize(have + kStep - z.avail_out);
    taken = Take(text_.size() - have);
  }
  ::inflateEnd(&z);
  TRY(std::move(taken));
  if (text_.size() > most)
    return Fail(Code::kResourceExhausted, "the message is larger than {} bytes when decompressed",
                most);
  if (state != Z_STREAM_END || z.avail_in > 0)
    return Fail(Code::kInvalidArgument, "the message cannot be decompressed");
  return {};
}

Result<std::shared_ptr<ReceivedMessage>> MessageReader::Feed(std::string_view& data) {
  if (!message_) {
    const size_t n = std::min(kPrefixBytes - prefix_bytes_, data.size());
    std::memcpy(prefix_ + prefix_bytes_, data.data(), n);
    prefix_bytes_ += n;
    data.remove_prefix(n);
    if (prefix_bytes_ < kPrefixBytes) return nullptr;
    TRY(Begin());
  }
  while (left_ > 0 && !data.empty()) {
    if (tensor_)
      TRY(FeedTensor(data));
    else if (at_ == At::kNowhere || skip_ > 0)
      TRY(FeedText(data));
    else
      TRY(FeedFields(data));
  }
  if (left_ > 0) return nullptr;
  if (compressed_) TRY(message_->Inflate(encoding_, most_));
  message_->Finish();
  prefix_bytes_ = 0;
  return std::exchange(message_, nullptr);
}

Status MessageReader::Begin() {
  if (prefix_[0] > 1)
    return Fail(Code::kInternal, "Bad GRPC frame type {:#04x}", unsigned{prefix_[0]});
  compressed_ = prefix_[0] == 1;
  if (compressed_ && encoding_ == Encoding::kIdentity)
    return Fail(Code::kInternal, "compressed flag set with identity or empty encoding");
  left_ =
      size_t{prefix_[1]} << 24 | size_t{prefix_[2]} << 16 | size_t{prefix_[3]} << 8 | prefix_[4];
  if (left_ > most_)
    return Fail(Code::kResourceExhausted, "Received message larger than max ({} vs. {})", left_,
                most_);
  message_ = std::make_shared<ReceivedMessage>(budget_);
  message_->text_.reserve(std::min(left_, kReserved));
  at_ = form_ == Form::kInfer && !compressed_ && left_ >= kTensorFrom ? At::kTag : At::kNowhere;
  number_ = 0;
  shift_ = 0;
  skip_ = tensor_left_ = 0;
  return {};
}

Status MessageReader::FeedTensor(std::string_view& data) {
  const size_t n = std::min(tensor_left_, data.size());
  if (data.data() != tensor_->end()) std::memcpy(tensor_->end(), data.data(), n);
  if (!tensor_->Arrived(n)) return Exhausted();
  data.remove_prefix(n);
  left_ -= n;
  tensor_left_ -= n;
  if (tensor_left_ == 0) tensor_ = nullptr;
  return {};
}

Status MessageReader::FeedText(std::string_view& data) {
  const size_t n = std::min({data.size(), left_, at_ == At::kNowhere ? left_ : skip_});
  TRY(message_->Append(data.substr(0, n)));
  data.remove_prefix(n);
  left_ -= n;
  if (at_ != At::kNowhere) skip_ -= n;
  return {};
}

// The tag, number or length of a field: to its end or that of `data`.
Status MessageReader::FeedFields(std::string_view& data) {
  size_t used = 0;
  const size_t text_before = message_->text_.size();
  while (used < std::min(data.size(), left_) && skip_ == 0 && tensor_left_ == 0 &&
         at_ != At::kNowhere) {
    message_->text_ += data[used];
    OnFieldByte(uint8_t(data[used++]));
  }
  TRY(message_->Take(message_->text_.size() - text_before));
  data.remove_prefix(used);
  left_ -= used;
  if (tensor_left_ > left_) {
    tensor_left_ = 0;
    at_ = At::kNowhere;
  }
  if (tensor_left_ == 0) return {};
  tensor_ = TRY(net::Body::OfLength(budget_, tensor_left_, 0));
  message_->tensors_.push_back({message_->text_.size(), tensor_});
  return {};
}

void MessageReader::OnFieldByte(uint8_t byte) {
  number_ |= uint64_t(byte & 0x7f) << shift_;
  shift_ += 7;
  if (byte >= 0x80) {
    if (shift_ > 63) at_ = At::kNowhere;
    return;
  }
  const uint64_t number = std::exchange(number_, 0);
  shift_ = 0;
  if (at_ == At::kTag) {
    field_ = number >> 3;
    const auto type = number & 7;
    at_ = type == 0 ? At::kNumber : type == 2 ? At::kLength : At::kNowhere;
  } else if (at_ == At::kNumber) {
    at_ = At::kTag;
  } else if (number >= kTensorFrom && field_ == kRawContentsField) {
    at_ = At::kTag;
    tensor_left_ = size_t(number);
  } else {
    at_ = At::kTag;
    skip_ = size_t(std::min<uint64_t>(number, most_));
  }
}

}  // namespace dunlin::grpc
