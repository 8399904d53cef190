// BMP and PNM.
#include "image/plain.h"

#include <optional>

namespace dunlin {
namespace {

Status Damaged(std::string_view format, std::string_view what) {
  return Fail(Code::kInvalidArgument, "damaged {}: {}", format, what);
}

// The number of `width` bytes at `at`, least significant first; 0 behind the end.
uint32_t Little(std::span<const std::byte> bytes, size_t at, int width) {
  uint32_t v = 0;
  for (int i = width; i-- > 0;)
    v = v << 8 | (at + size_t(i) < bytes.size() ? uint32_t(bytes[at + size_t(i)]) : 0u);
  return v;
}

// What the header of a BMP says.
struct Bmp {
  int64_t width = 0, height = 0;
  bool top_down = false;
  int bits = 0;  // a pixel
  size_t pixels_at = 0, palette_at = 0;
  uint32_t colours = 0;
  int colour_bytes = 4;
  size_t row_bytes() const { return size_t((width * bits + 31) / 32 * 4); }
};

Result<Bmp> ReadBmpHeader(std::span<const std::byte> bytes) {
  if (bytes.size() < 26) return tl::unexpected(Damaged("BMP", "the header is cut short").error());
  Bmp b;
  const uint32_t header = Little(bytes, 14, 4);
  const bool core = header == 12;  // the form of OS/2
  if (!core && header < 40)
    return Fail(Code::kUnimplemented, "a BMP with a header of {} bytes", header);
  b.pixels_at = Little(bytes, 10, 4);
  b.width = core ? Little(bytes, 18, 2) : int64_t(int32_t(Little(bytes, 18, 4)));
  b.height = core ? Little(bytes, 20, 2) : int64_t(int32_t(Little(bytes, 22, 4)));
  b.bits = int(Little(bytes, core ? 24 : 28, 2));
  b.top_down = b.height < 0;
  if (b.top_down) b.height = -b.height;
  TRY(CheckImageSize(b.width, b.height));
  const uint32_t compression = core ? 0 : Little(bytes, 30, 4);
  if (compression != 0)
    return Fail(Code::kUnimplemented, "a BMP with compression {}, only 0 is supported",
                compression);
  if (b.bits != 1 && b.bits != 4 && b.bits != 8 && b.bits != 16 && b.bits != 24 && b.bits != 32)
    return Fail(Code::kInvalidArgument, "damaged BMP: {} bits a pixel", b.bits);
  if (b.bits <= 8) {
    b.colour_bytes = core ? 3 : 4;
    b.palette_at = 14 + size_t(header);
    b.colours = core ? 0 : Little(bytes, 46, 4);
    if (b.colours == 0 || b.colours > 1u << b.bits) b.colours = 1u << b.bits;
    if (b.palette_at + size_t(b.colours) * size_t(b.colour_bytes) > bytes.size())
      return tl::unexpected(Damaged("BMP", "the palette is cut short").error());
  }
  if (b.pixels_at > bytes.size() || b.row_bytes() * size_t(b.height) > bytes.size() - b.pixels_at)
    return tl::unexpected(Damaged("BMP", "the picture is cut short").error());
  return b;
}

// Blue, green, red as one number.
uint32_t BmpPixel(std::span<const std::byte> bytes, const Bmp& b, size_t row, int64_t x) {
  if (b.bits >= 24) return Little(bytes, row + size_t(x) * size_t(b.bits / 8), 3);
  if (b.bits == 16) {  // five bits each
    const uint32_t v = Little(bytes, row + size_t(x) * 2, 2);
    const auto wide = [](uint32_t c) { return (c & 31) * 255 / 31; };
    return wide(v >> 10) << 16 | wide(v >> 5) << 8 | wide(v);
  }
  const int per_byte = 8 / b.bits, shift = 8 - b.bits * (int(x % per_byte) + 1);
  const uint32_t index =
      uint32_t(bytes[row + size_t(x / per_byte)]) >> shift & ((1u << b.bits) - 1);
  return index < b.colours ? Little(bytes, b.palette_at + index * uint32_t(b.colour_bytes), 3) : 0;
}

// The numbers of a PNM's header and of its plain forms; '#' begins a comment.
class PnmReader {
 public:
  explicit PnmReader(std::span<const std::byte> bytes) : bytes_(bytes) {}
  std::optional<int64_t> Number() {
    SkipSpace();
    int64_t v = 0;
    const size_t first = at_;
    while (at_ < bytes_.size() && IsDigit(at_) && v < (int64_t{1} << 40))
      v = v * 10 + (Char(at_++) - '0');
    return at_ > first ? std::optional(v) : std::nullopt;
  }
  // A digit of P1, whose digits need no space between.
  std::optional<int64_t> Bit() {
    SkipSpace();
    return at_ < bytes_.size() && IsDigit(at_) ? std::optional<int64_t>(Char(at_++) - '0')
                                               : std::nullopt;
  }
  // What follows the one space behind the header.
  std::span<const std::byte> Raw() const {
    return bytes_.subspan(std::min(at_ + 1, bytes_.size()));
  }

 private:
  int Char(size_t i) const { return int(bytes_[i]); }
  bool IsDigit(size_t i) const { return Char(i) >= '0' && Char(i) <= '9'; }
  void SkipSpace() {
    for (; at_ < bytes_.size(); ++at_) {
      if (Char(at_) == '#')
        while (at_ + 1 < bytes_.size() && Char(at_) != '\n') ++at_;
      else if (Char(at_) != ' ' && (Char(at_) < 9 || Char(at_) > 13))
        return;
    }
  }
  std::span<const std::byte> bytes_;
  size_t at_ = 2;
};

}  // namespace

Result<Image> DecodeBmp(std::span<const std::byte> bytes) {
  const Bmp b = TRY(ReadBmpHeader(bytes));
  Image image{int(b.width), int(b.height), std::vector<uint8_t>(size_t(b.width * b.height * 3))};
  uint8_t* to = image.rgb.data();
  for (int64_t y = 0; y < b.height; ++y) {
    const size_t row = b.pixels_at + size_t(b.top_down ? y : b.height - 1 - y) * b.row_bytes();
    for (int64_t x = 0; x < b.width; ++x, to += 3) {
      const uint32_t pixel = BmpPixel(bytes, b, row, x);
      for (int c = 0; c < 3; ++c) to[c] = uint8_t(pixel >> (16 - 8 * c));
    }
  }
  return image;
}

Result<Image> DecodePnm(std::span<const std::byte> bytes) {
  const auto kind = int(bytes[1]) - '0';  // 1 to 3 plain text, 4 to 6 raw: bits, grey, colour
  const int form = (kind - 1) % 3;
  const bool plain = kind <= 3;
  PnmReader reader(bytes);
  const auto width = reader.Number(), height = reader.Number();
  const auto most = form == 0 ? std::optional<int64_t>(1) : reader.Number();
  if (!width || !height || !most || *most < 1 || *most > 65535)
    return tl::unexpected(Damaged("PNM", "the header makes no sense").error());
  TRY(CheckImageSize(*width, *height));
  const int64_t channels = form == 2 ? 3 : 1, samples = *width * *height * channels;
  const int sample_bytes = *most > 255 ? 2 : 1;
  const auto raw = reader.Raw();
  const int64_t row_bytes = form == 0 ? (*width + 7) / 8 : *width * channels * sample_bytes;
  // Every sample takes a byte at least, of bits every eighth.
  if (int64_t(raw.size()) < (plain ? samples / (form == 0 ? 8 : 1) - 1 : row_bytes * *height))
    return tl::unexpected(Damaged("PNM", "the picture is cut short").error());
  Image image{int(*width), int(*height), std::vector<uint8_t>(size_t(*width * *height * 3))};
  for (int64_t i = 0; i < samples; ++i) {
    int64_t v = 0;
    if (plain) {
      const auto number = form == 0 ? reader.Bit() : reader.Number();
      if (!number) return tl::unexpected(Damaged("PNM", "the picture is cut short").error());
      v = *number;
    } else if (form == 0) {
      const int64_t x = i % *width, y = i / *width;
      v = int64_t(raw[size_t(y * row_bytes + x / 8)]) >> (7 - x % 8) & 1;
    } else {
      for (int k = 0; k < sample_bytes; ++k)
        v = v << 8 | int64_t(raw[size_t(i * sample_bytes + k)]);
    }
    v = std::min(v, *most);
    const auto sample = uint8_t(form == 0 ? (v != 0 ? 0 : 255) : (v * 255 + *most / 2) / *most);
    for (int64_t c = 0; c < 3 / channels; ++c) image.rgb[size_t(i * (3 / channels) + c)] = sample;
  }
  return image;
}

}  // namespace dunlin
