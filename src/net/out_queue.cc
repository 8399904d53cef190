#include "net/out_queue.h"

#include <algorithm>

namespace dunlin::net {
namespace {

// Of an idle connection's buffers.
constexpr size_t kKeptBytes = 4 << 10;

}  // namespace

void OutQueue::Append(Tensor tensor) {
  const std::string_view all(reinterpret_cast<const char*>(tensor.raw()), size_t(tensor.bytes()));
  Append(std::move(tensor), all);
}

void OutQueue::Append(Tensor owner, std::string_view bytes) {
  tensor_bytes_ += bytes.size();
  pieces_.push_back({text_.size(), std::move(owner), bytes});
}

ssize_t OutQueue::Flush(Stream& stream) {
  while (!empty()) {
    constexpr int kMaxParts = 64;
    iovec parts[kMaxParts];
    int count = 0;
    size_t skip = written_, text_at = 0;
    const auto add = [&](const void* data, size_t bytes) {
      if (skip >= bytes) {
        skip -= bytes;
      } else if (count < kMaxParts) {
        parts[count++] = {static_cast<char*>(const_cast<void*>(data)) + skip, bytes - skip};
        skip = 0;
      }
    };
    for (const Piece& p : pieces_) {
      add(text_.data() + text_at, p.text_end - text_at);
      add(p.bytes.data(), p.bytes.size());
      text_at = p.text_end;
    }
    add(text_.data() + text_at, text_.size() - text_at);
    const ssize_t n = stream.Write(parts, count);
    if (n < 0) return n;
    written_ += size_t(n);
  }
  pieces_.clear();
  text_.clear();
  if (text_.capacity() > kKeptBytes) text_.shrink_to_fit();
  tensor_bytes_ = written_ = 0;
  return 0;
}

}  // namespace dunlin::net
