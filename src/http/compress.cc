#include "http/compress.h"

#include <zlib.h>

#include <algorithm>
#include <cstdlib>

#include "http/message.h"

namespace dunlin::http {
namespace {

constexpr size_t kChunk = 64 << 10;
// zlib's window bits: 15 is the zlib wrapper, 16 more is gzip's.
int WindowBits(Encoding e) { return e == Encoding::kGzip ? 15 + 16 : 15; }

std::string_view Trim(std::string_view s) {
  const size_t begin = s.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return s.substr(begin, s.find_last_not_of(" \t") - begin + 1);
}

Encoding FromName(std::string_view name) {
  if (EqualsIgnoreCase(name, "gzip") || EqualsIgnoreCase(name, "x-gzip")) return Encoding::kGzip;
  if (EqualsIgnoreCase(name, "deflate")) return Encoding::kDeflate;
  return Encoding::kIdentity;
}

}  // namespace

std::string_view EncodingName(Encoding encoding) {
  return encoding == Encoding::kGzip      ? "gzip"
         : encoding == Encoding::kDeflate ? "deflate"
                                          : "identity";
}

Result<Encoding> ParseContentEncoding(std::string_view header) {
  const std::string_view name = Trim(header);
  if (name.empty() || EqualsIgnoreCase(name, "identity")) return Encoding::kIdentity;
  const Encoding e = FromName(name);
  if (e == Encoding::kIdentity) return Fail(Code::kUnimplemented, "Unsupported compression type");
  return e;
}

Encoding ChooseEncoding(std::string_view accept) {
  Encoding best = Encoding::kIdentity;
  double best_q = 0;
  while (!accept.empty()) {
    const size_t comma = accept.find(',');
    const std::string_view item = accept.substr(0, comma);
    accept = comma == std::string_view::npos ? std::string_view() : accept.substr(comma + 1);
    const size_t semicolon = item.find(';');
    const Encoding e = FromName(Trim(item.substr(0, semicolon)));
    double q = 1;
    if (semicolon != std::string_view::npos) {
      const std::string parameter(Trim(item.substr(semicolon + 1)));
      if (parameter.rfind("q=", 0) == 0) q = std::strtod(parameter.c_str() + 2, nullptr);
    }
    if (e != Encoding::kIdentity && q > best_q) {
      best = e;
      best_q = q;
    }
  }
  return best;
}

Result<std::string> Decompress(std::string_view data, Encoding encoding, int64_t limit) {
  z_stream z{};
  if (inflateInit2(&z, WindowBits(encoding)) != Z_OK)
    return Fail(Code::kResourceExhausted, "cannot start to decompress");
  Result<std::string> result;
  std::string& out = *result;
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  z.avail_in = uInt(std::min<size_t>(data.size(), UINT32_MAX));
  int rc = Z_OK;
  while (rc == Z_OK) {
    // Grows by doubling, so that a small body that claims much costs little.
    const size_t used = out.size();
    if (int64_t(used) > limit) break;
    const size_t step = std::min(std::max(kChunk, used), size_t(limit) - used + 1);
    out.reserve(used + step + kBodyPadding);
    out.resize(used + step);
    z.next_out = reinterpret_cast<Bytef*>(out.data() + used);
    z.avail_out = uInt(std::min<size_t>(step, UINT32_MAX));
    const uInt before = z.avail_out;
    rc = inflate(&z, Z_NO_FLUSH);
    out.resize(used + (before - z.avail_out));
    if (rc == Z_BUF_ERROR || (rc == Z_OK && z.avail_in == 0 && z.avail_out > 0))
      break;  // cut short
  }
  const bool whole = rc == Z_STREAM_END && z.avail_in == 0;
  inflateEnd(&z);
  if (int64_t(out.size()) > limit)
    return Fail(Code::kInvalidArgument,
                "decompressed request exceeds the maximum allowed input size of {} bytes. Use "
                "--http-max-input-size to increase the limit.",
                limit);
  if (!whole)
    return Fail(Code::kInvalidArgument, "failed to decompress the request body: {} data is {}",
                EncodingName(encoding), rc == Z_DATA_ERROR ? "damaged" : "cut short or has a tail");
  out.reserve(out.size() + kBodyPadding);
  return result;
}

Result<std::string> Compress(std::string_view data, Encoding encoding) {
  z_stream z{};
  // Level 1: this happens on the way to a client that waits.
  if (deflateInit2(&z, 1, Z_DEFLATED, WindowBits(encoding), 8, Z_DEFAULT_STRATEGY) != Z_OK)
    return Fail(Code::kResourceExhausted, "cannot start to compress");
  Result<std::string> result;
  std::string& out = *result;
  out.resize(deflateBound(&z, uLong(data.size())));
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(data.data()));
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  // One call does both sides while they fit 32 bits; larger bodies go out as they are.
  if (data.size() > UINT32_MAX || out.size() > UINT32_MAX) {
    deflateEnd(&z);
    return Fail(Code::kResourceExhausted, "too large to compress");
  }
  z.avail_in = uInt(data.size());
  z.avail_out = uInt(out.size());
  const int rc = deflate(&z, Z_FINISH);
  out.resize(z.total_out);
  deflateEnd(&z);
  if (rc != Z_STREAM_END) return Fail(Code::kInternal, "compression failed");
  return result;
}

}  // namespace dunlin::http
