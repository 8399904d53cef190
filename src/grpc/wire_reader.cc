#include "grpc/wire_reader.h"

#include <algorithm>
#include <cstring>

namespace dunlin::grpc {

namespace {

constexpr int kMaxGroupDepth = 100;  // what the generated classes allow

}  // namespace

WireReader::WireReader(std::span<const std::string_view> pieces) : next_(pieces.data()) {
  for (const std::string_view p : pieces) remaining_ += p.size();
  Advance(0);
}

void WireReader::Invalidate() {
  ok_ = false;
  remaining_ = 0;
  at_ = end_;
}

// Leaves at_ before a byte unless nothing remains.
void WireReader::Advance(size_t bytes) {
  remaining_ -= bytes;
  while (bytes > here() || (here() == 0 && remaining_ > 0)) {
    bytes -= here();
    at_ = next_->data();
    end_ = at_ + next_->size();
    ++next_;
  }
  at_ += bytes;
  if (at_ == end_ && remaining_ > 0) Advance(0);
}

uint64_t WireReader::Varint() {
  if (remaining_ > 0 && static_cast<unsigned char>(*at_) < 0x80) {
    const auto value = static_cast<unsigned char>(*at_);
    Advance(1);
    return value;
  }
  return VarintSlow();
}

uint64_t WireReader::VarintSlow() {
  uint64_t value = 0;
  for (int shift = 0; shift < 70 && remaining_ > 0; shift += 7) {
    const auto byte = static_cast<unsigned char>(*at_);
    Advance(1);
    value |= uint64_t(byte & 0x7f) << shift;  // the tenth byte's high bits fall off the end
    if (byte < 0x80) return value;
  }
  Invalidate();
  return 0;
}

uint32_t WireReader::Fixed32() {
  uint32_t value = 0;
  CopyTo(&value, sizeof value);
  return value;
}

uint64_t WireReader::Fixed64() {
  uint64_t value = 0;
  CopyTo(&value, sizeof value);
  return value;
}

bool WireReader::Next() {
  if (remaining_ == 0) return false;
  const uint64_t tag = Varint();
  field_ = uint32_t(tag >> 3);
  type_ = WireType(tag & 7);
  if (!ok_ || tag > UINT32_MAX || field_ == 0 || type_ > WireType::kFixed32) {
    Invalidate();
    return false;
  }
  return true;
}

WireReader WireReader::Bytes() {
  const uint64_t length = type_ == WireType::kBytes ? Varint() : UINT64_MAX;
  if (!ok_ || length > remaining_) {
    Invalidate();
    return {};
  }
  WireReader part = *this;
  part.remaining_ = size_t(length);
  Advance(size_t(length));
  return part;
}

std::string WireReader::String() {
  WireReader part = Bytes();
  std::string text(part.remaining_, '\0');
  part.CopyTo(text.data(), text.size());
  if (!IsUtf8(text)) Invalidate();
  return text;
}

std::string_view WireReader::Contiguous() const {
  return remaining_ <= here() ? std::string_view(at_, remaining_) : std::string_view();
}

void WireReader::CopyTo(void* to, size_t bytes) {
  if (bytes > remaining_) return Invalidate();
  for (auto* out = static_cast<char*>(to); bytes > 0;) {
    const size_t n = std::min(bytes, here());
    std::memcpy(out, at_, n);
    Advance(n);
    out += n;
    bytes -= n;
  }
}

void WireReader::Skip() {
  uint32_t open[kMaxGroupDepth];
  int depth = 0;
  do {
    switch (type_) {
      case WireType::kVarint:
        Varint();
        break;
      case WireType::kFixed64:
        Fixed64();
        break;
      case WireType::kBytes:
        Bytes();
        break;
      case WireType::kFixed32:
        Fixed32();
        break;
      case WireType::kGroup:
        if (depth == kMaxGroupDepth) return Invalidate();
        open[depth++] = field_;
        break;
      case WireType::kEndGroup:
        if (depth == 0 || open[--depth] != field_) return Invalidate();
        break;
    }
    if (depth > 0 && !Next()) return Invalidate();
  } while (depth > 0 && ok_);
}

bool IsUtf8(std::string_view text) {
  const auto* p = reinterpret_cast<const unsigned char*>(text.data());
  const auto* const end = p + text.size();
  const auto tail = [&](int i, unsigned low = 0x80, unsigned high = 0xbf) {
    return end - p > i && p[i] >= low && p[i] <= high;
  };
  while (p < end) {
    const unsigned lead = *p;
    // The second byte's range excludes overlong forms, surrogates and what lies beyond U+10FFFF.
    if (lead < 0x80) {
      p += 1;
    } else if (lead >= 0xc2 && lead <= 0xdf && tail(1)) {
      p += 2;
    } else if ((lead & 0xf0) == 0xe0 &&
               tail(1, lead == 0xe0 ? 0xa0 : 0x80, lead == 0xed ? 0x9f : 0xbf) && tail(2)) {
      p += 3;
    } else if (lead >= 0xf0 && lead <= 0xf4 &&
               tail(1, lead == 0xf0 ? 0x90 : 0x80, lead == 0xf4 ? 0x8f : 0xbf) && tail(2) &&
               tail(3)) {
      p += 4;
    } else {
      return false;
    }
  }
  return true;
}

}  // namespace dunlin::grpc
