// OutQueue: bytes that wait for a socket: text, with tensors in between that are not copied.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "net/stream.h"
#include "tensor/tensor.h"

namespace dunlin::net {

class OutQueue {
 public:
  std::string& text() { return text_; }
  // After the text so far; kept alive until written.
  void Append(Tensor tensor);
  void Append(Tensor owner, std::string_view bytes);  // a part of it
  bool empty() const { return written_ == total(); }
  size_t waiting() const { return total() - written_; }
  // kWouldBlock, kFailed, or 0: all is written.
  ssize_t Flush(Stream& stream);

 private:
  struct Piece {
    size_t text_end;  // the text before it
    Tensor owner;
    std::string_view bytes;
  };
  size_t total() const { return text_.size() + tensor_bytes_; }

  std::string text_;
  std::vector<Piece> pieces_;
  size_t tensor_bytes_ = 0, written_ = 0;
};

}  // namespace dunlin::net
