// Exact products of codes in groups too narrow for a matrix product: vectors hold the outputs of
// several groups, each lane meeting the pairs of channels of its own. Codes are small integers,
// widened to 16 bits with their zero point subtracted; sums are modulo 2^32.
#pragma once

#include <cstdint>
#include <optional>

namespace dunlin {

// A pixel holds the groups one after the other, each with an even number of codes.
struct CodeGroups {
  int64_t groups = 1, channels = 1, outputs = 1;  // channels and outputs of a group
  int64_t lanes = 1;                              // of a vector; packed weights depend on it
  int64_t pairs() const { return (channels + 1) / 2; }
  int64_t columns() const { return groups * outputs; }
  int64_t vectors() const { return (columns() + lanes - 1) / lanes; }
  int64_t packed_codes(int64_t taps) const { return vectors() * taps * pairs() * lanes * 2; }
};
// For the SIMD target in use. nullopt: the pairs that a vector's lanes meet lie further apart than
// a vector reaches.
std::optional<CodeGroups> MakeCodeGroups(int64_t groups, int64_t channels, int64_t outputs);
// Codes that are read, and not used, behind a pixel.
inline constexpr int64_t kCodesPastPixel = 32;

// source(t, k, n): the code of tap t and channel k of its group that column n of the result meets,
// its zero point subtracted.
template <class Source>
void PackCodeGroups(const CodeGroups& g, int64_t taps, const Source& source, int16_t* packed) {
  for (int64_t v = 0; v < g.vectors(); ++v)
    for (int64_t t = 0; t < taps; ++t)
      for (int64_t k = 0; k < 2 * g.pairs(); k += 2)
        for (int64_t n = v * g.lanes; n < (v + 1) * g.lanes; ++n)
          for (int64_t i = k; i < k + 2; ++i)
            *packed++ = n < g.columns() && i < g.channels ? source(t, i, n) : int16_t{0};
}

struct CodeGroupArgs {
  const int16_t* const* rows = nullptr;  // pixels: rows[t * row_stride + m]
  int64_t row_stride = 0;
  int64_t taps = 1;  // of this call
  int64_t m = 0;
  const int16_t* packed = nullptr;
  int64_t packed_taps = 1, first_tap = 0;  // of the whole, and that meets the first one
  bool accumulate = false;                 // adds to c
  // Column n of row m at c[m * c_stride + n - begin * lanes]; whole vectors are written.
  int32_t* c = nullptr;
  int64_t c_stride = 0;
};
// Columns of vectors [begin, end), all m rows.
void CodeGroupProduct(const CodeGroups& groups, const CodeGroupArgs& args, int64_t begin,
                      int64_t end);

}  // namespace dunlin
