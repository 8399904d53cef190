#include "net/body.h"

#include <algorithm>
#include <cstring>

namespace dunlin::net {
namespace {

// What a growing body begins with.
constexpr size_t kFirstBytes = 64 << 10;
// Of this size the system may give memory in one piece to the first byte that is written.
constexpr size_t kHugePage = 2 << 20;

}  // namespace

Body::Body(std::shared_ptr<Budget> budget, size_t limit, size_t aligned_at)
    : budget_(std::move(budget)),
      limit_(limit),
      offset_((Buffer::kAlignment - aligned_at % Buffer::kAlignment) % Buffer::kAlignment) {}

Result<std::shared_ptr<Body>> Body::OfLength(std::shared_ptr<Budget> budget, size_t length,
                                             size_t aligned_at) {
  std::shared_ptr<Body> body(new Body(std::move(budget), length, aligned_at));
  TRY(body->Reserve(length));
  return body;
}

Result<std::shared_ptr<Body>> Body::Growing(std::shared_ptr<Budget> budget, size_t limit,
                                            size_t aligned_at) {
  std::shared_ptr<Body> body(new Body(std::move(budget), limit, aligned_at));
  TRY(body->Reserve(std::min(limit, kFirstBytes)));
  return body;
}

Status Body::Reserve(size_t capacity) {
  auto larger = TRY(Buffer::Allocate(offset_ + capacity + kBodyPadding));
  if (size_ > 0) std::memcpy(larger->data() + offset_, begin(), size_);
  buffer_ = std::move(larger);
  capacity_ = capacity;
  return {};
}

Status Body::Arrived(size_t bytes) {
  size_ += bytes;
  const size_t held =
      capacity_ < kHugePage ? size_ : (size_ + kHugePage - 1) / kHugePage * kHugePage;
  const int64_t more = int64_t(held) - taken_;
  taken_ += more;
  if (more == 0 || budget_->Take(more)) return {};
  return Fail(Code::kUnavailable, "too many request bytes are in progress, try again later");
}

Status Body::Append(std::string_view bytes) {
  if (bytes.size() > limit_ - size_)
    return Fail(Code::kInvalidArgument, "more than {} bytes", limit_);
  // Memory for what has arrived, never for what may.
  if (bytes.size() > left())
    TRY(Reserve(std::min(limit_, std::max(2 * capacity_, size_ + bytes.size()))));
  std::memcpy(end(), bytes.data(), bytes.size());
  return Arrived(bytes.size());
}

}  // namespace dunlin::net
