#include "grpc/metadata.h"

#include <charconv>

namespace dunlin::grpc {
namespace {

constexpr size_t kHeaderOverhead = 32;  // of each header, by the definition of the list's size
constexpr size_t kMaxTimeoutDigits = 8;

std::string_view Trim(std::string_view text) {
  while (text.starts_with(' ')) text.remove_prefix(1);
  while (text.ends_with(' ')) text.remove_suffix(1);
  return text;
}

}  // namespace

std::string_view EncodingName(Encoding encoding) {
  switch (encoding) {
    case Encoding::kGzip:
      return "gzip";
    case Encoding::kDeflate:
      return "deflate";
    default:
      return "identity";
  }
}

Encoding ParseEncoding(std::string_view name) {
  if (name.empty() || name == "identity") return Encoding::kIdentity;
  if (name == "gzip") return Encoding::kGzip;
  if (name == "deflate") return Encoding::kDeflate;
  return Encoding::kUnknown;
}

Encoding ChooseEncoding(std::string_view accepted) {
  Encoding best = Encoding::kIdentity;
  while (!accepted.empty()) {
    const size_t comma = std::min(accepted.find(','), accepted.size());
    const std::string_view name = Trim(accepted.substr(0, comma));
    if (name == "gzip") return Encoding::kGzip;
    if (name == "deflate") best = Encoding::kDeflate;
    accepted.remove_prefix(std::min(comma + 1, accepted.size()));
  }
  return best;
}

std::optional<std::chrono::nanoseconds> ParseTimeout(std::string_view text) {
  if (text.size() < 2 || text.size() > kMaxTimeoutDigits + 1) return std::nullopt;
  int64_t count = 0;
  const char* const unit = text.data() + text.size() - 1;
  const auto [end, error] = std::from_chars(text.data(), unit, count);
  if (error != std::errc() || end != unit || count < 0) return std::nullopt;
  switch (*unit) {
    case 'H':
      // Beyond what nanoseconds can count: a hundred million hours are no limit.
      return std::chrono::hours(std::min<int64_t>(count, 1'000'000));
    case 'M':
      return std::chrono::minutes(count);
    case 'S':
      return std::chrono::seconds(count);
    case 'm':
      return std::chrono::milliseconds(count);
    case 'u':
      return std::chrono::microseconds(count);
    case 'n':
      return std::chrono::nanoseconds(count);
    default:
      return std::nullopt;
  }
}

bool IsGrpcContentType(std::string_view type) {
  constexpr std::string_view kBase = "application/grpc";
  if (!type.starts_with(kBase)) return false;
  type.remove_prefix(kBase.size());
  if (type.starts_with("+proto")) type.remove_prefix(6);
  return type.empty() || type[0] == ';' || type[0] == ' ';
}

std::string PercentEncode(std::string_view text) {
  constexpr std::string_view kHex = "0123456789ABCDEF";
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c >= ' ' && c <= '~' && c != '%') {
      out += c;
    } else {
      out += '%';
      out += kHex[uint8_t(c) >> 4];
      out += kHex[uint8_t(c) & 15];
    }
  }
  return out;
}

void Metadata::Add(std::string_view name, std::string_view value) {
  const auto at = uint32_t(text_.size());
  const auto middle = at + uint32_t(name.size());
  entries_.push_back({at, middle, middle + uint32_t(value.size())});
  text_ += name;
  text_ += value;
}

std::string_view Metadata::Get(std::string_view name) const {
  for (const Entry& e : entries_)
    if (Name(e) == name) return Value(e);
  return {};
}

void CallHead::Add(std::string_view name, std::string_view value) {
  bytes += name.size() + value.size() + kHeaderOverhead;
  if (name.starts_with(':')) {
    if (name == ":path") path = value;
    if (name == ":method") is_post = value == "POST";
  } else if (name == "content-type") {
    is_grpc = IsGrpcContentType(value);
  } else if (name == "grpc-timeout") {
    timeout = ParseTimeout(value);
    bad_timeout = !timeout;
  } else if (name == "grpc-encoding") {
    encoding = ParseEncoding(value);
  } else if (name == "grpc-accept-encoding") {
    reply_encoding = ChooseEncoding(value);
  } else if (name != "te" && name != "accept-encoding") {
    metadata.Add(name, value);
  }
}

}  // namespace dunlin::grpc
