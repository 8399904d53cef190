// The body of a request on its way in: one piece of memory into which the socket is read, counted
// against a limit that all requests in progress share.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/result.h"
#include "tensor/tensor.h"

namespace dunlin::net {

// Bytes behind the end of a body that may be read (but say nothing): what the JSON parser needs.
inline constexpr size_t kBodyPadding = 64;

// Bytes of all requests in progress, against one limit.
class Budget {
 public:
  explicit Budget(int64_t limit) : limit_(limit) {}
  bool Take(int64_t bytes) {
    return used_.fetch_add(bytes, std::memory_order_relaxed) + bytes <= limit_;
  }
  void Return(int64_t bytes) { used_.fetch_sub(bytes, std::memory_order_relaxed); }

 private:
  const int64_t limit_;
  std::atomic<int64_t> used_{0};
};

class Body {
 public:
  // A body of `length` bytes. What stands `aligned_at` bytes from its beginning is aligned as
  // tensors want it. Memory that is announced but does not arrive is not touched, so it costs
  // nothing. kResourceExhausted when the system has not that much.
  static Result<std::shared_ptr<Body>> OfLength(std::shared_ptr<Budget> budget, size_t length,
                                                size_t aligned_at);
  // A body of unknown length, of at most `limit` bytes: grows by doubling.
  static Result<std::shared_ptr<Body>> Growing(std::shared_ptr<Budget> budget, size_t limit,
                                               size_t aligned_at);
  ~Body() { budget_->Return(taken_); }
  Body(const Body&) = delete;
  Body& operator=(const Body&) = delete;

  // Where the next bytes go, and how many fit.
  char* end() { return begin() + size_; }
  size_t left() const { return capacity_ - size_; }
  // Bytes have been put there. kUnavailable: more than the limit on all requests allows.
  Status Arrived(size_t bytes);
  // kInvalidArgument beyond the limit of the growing one.
  Status Append(std::string_view bytes);
  std::string_view view() { return {begin(), size_}; }

 private:
  Body(std::shared_ptr<Budget> budget, size_t limit, size_t aligned_at);
  Status Reserve(size_t capacity);
  char* begin() { return reinterpret_cast<char*>(buffer_->data()) + offset_; }

  const std::shared_ptr<Budget> budget_;
  const size_t limit_, offset_;
  std::shared_ptr<Buffer> buffer_;
  size_t size_ = 0, capacity_ = 0;
  int64_t taken_ = 0;
};

}  // namespace dunlin::net
