// TIFF as cameras and Pillow write it plainly: uncompressed strips of 8-bit grey or colour samples.
#include <algorithm>

#include "image/plain.h"

namespace dunlin {
namespace {

enum Tag : uint32_t {
  kWidth = 256,
  kHeight = 257,
  kBits = 258,
  kCompression = 259,
  kPhotometric = 262,
  kStripOffsets = 273,
  kSamples = 277,
  kRowsPerStrip = 278,
  kPlanar = 284,
};

// A file's numbers, in its order of bytes, and the entries of its first directory.
class TiffReader {
 public:
  explicit TiffReader(std::span<const std::byte> bytes)
      : bytes_(bytes),
        big_(!bytes.empty() && bytes[0] == std::byte{'M'}),
        directory_(Number(4, 4)) {}

  // 0 behind the end.
  uint32_t Number(size_t at, size_t width) const {
    uint32_t v = 0;
    for (size_t i = 0; i < width; ++i) {
      const size_t k = at + (big_ ? i : width - 1 - i);
      v = v << 8 | (k < bytes_.size() ? uint32_t(bytes_[k]) : 0u);
    }
    return v;
  }
  // Whether the file holds all of the directory; only then may it be asked.
  bool complete() const { return directory_ + 2 + Entries() * 12 <= bytes_.size(); }
  // The numbers of an entry, none when they lie behind the end; `otherwise` when the directory has
  // none of this tag.
  std::vector<uint32_t> Values(Tag tag, std::vector<uint32_t> otherwise) const {
    for (size_t e = 0; e < Entries(); ++e) {
      const size_t at = directory_ + 2 + e * 12;
      if (Number(at, 2) != tag) continue;
      const size_t width = Number(at + 2, 2) == 3 ? 2 : 4;  // SHORT or LONG
      const size_t count = Number(at + 4, 4);
      const size_t first = count * width <= 4 ? at + 8 : Number(at + 8, 4);
      std::vector<uint32_t> values;
      if (first + count * width > bytes_.size()) return values;
      for (size_t i = 0; i < count; ++i) values.push_back(Number(first + i * width, width));
      return values;
    }
    return otherwise;
  }
  uint32_t Value(Tag tag, uint32_t otherwise) const {
    const auto values = Values(tag, {otherwise});
    return values.empty() ? otherwise : values[0];
  }

 private:
  size_t Entries() const { return Number(directory_, 2); }

  std::span<const std::byte> bytes_;
  bool big_;
  size_t directory_;
};

}  // namespace

Result<Image> DecodeTiff(std::span<const std::byte> bytes) {
  const TiffReader tiff(bytes);
  if (!tiff.complete()) return Fail(Code::kInvalidArgument, "damaged TIFF: it is cut short");
  const int64_t width = tiff.Value(kWidth, 0), height = tiff.Value(kHeight, 0);
  TRY(CheckImageSize(width, height));
  const uint32_t compression = tiff.Value(kCompression, 1);
  const uint32_t photometric = tiff.Value(kPhotometric, 1), samples = tiff.Value(kSamples, 1);
  const auto bits = tiff.Values(kBits, {1});
  const bool eight =
      !bits.empty() && std::all_of(bits.begin(), bits.end(), [](uint32_t b) { return b == 8; });
  if (compression != 1 || !eight || photometric > 2 || tiff.Value(kPlanar, 1) != 1)
    return Fail(Code::kUnimplemented,
                "a TIFF with compression {} and photometric interpretation {}: uncompressed 8-bit "
                "grey or RGB is supported",
                compression, photometric);
  const uint32_t channels = photometric == 2 ? 3 : 1;  // what follows them is alpha
  if (samples < channels || samples > 16)
    return Fail(Code::kInvalidArgument, "damaged TIFF: {} samples a pixel", samples);
  const auto strips = tiff.Values(kStripOffsets, {});
  const int64_t rows = std::clamp<int64_t>(tiff.Value(kRowsPerStrip, UINT32_MAX), 1, height);
  if (int64_t(strips.size()) < (height + rows - 1) / rows)
    return Fail(Code::kInvalidArgument, "damaged TIFF: {} strips of {} rows for {} rows",
                strips.size(), rows, height);
  const size_t row_bytes = size_t(width) * samples;
  for (int64_t y = 0; y < height; ++y)  // before memory is taken
    if (strips[size_t(y / rows)] + size_t(y % rows + 1) * row_bytes > bytes.size())
      return Fail(Code::kInvalidArgument, "damaged TIFF: the picture is cut short");
  Image image{int(width), int(height), std::vector<uint8_t>(size_t(width * height * 3))};
  uint8_t* to = image.rgb.data();
  for (int64_t y = 0; y < height; ++y) {
    const std::byte* row = bytes.data() + strips[size_t(y / rows)] + size_t(y % rows) * row_bytes;
    for (int64_t x = 0; x < width; ++x, row += samples, to += 3)
      for (uint32_t c = 0; c < 3; ++c) {
        const auto v = uint8_t(row[channels == 3 ? c : 0]);
        to[c] = photometric == 0 ? uint8_t(255 - v) : v;  // 0: white is zero
      }
  }
  return image;
}

}  // namespace dunlin
