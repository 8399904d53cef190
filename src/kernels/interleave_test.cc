#include "kernels/interleave.h"

#include <gtest/gtest.h>

#include <vector>

#include "kernels/simd_targets.h"

namespace dunlin {
namespace {

TEST(Interleave, DealsOutTheChannelsOfEveryImageAndNothingElse) {
  ForEachSimdTarget([](const char* target) {
    for (int images = 1; images <= InterleaveArgs::kMaxImages; ++images)
      for (const int64_t channels : {1, 3, 4, 7, 8, 15, 16, 17, 29, 33})
        for (const int64_t apart : {0, 5}) {
          constexpr int64_t kPixels = 5;
          std::vector<std::vector<float>> x;
          InterleaveArgs a;
          a.images = images;
          a.channels = channels;
          for (int i = 0; i < images; ++i) {
            a.x_stride[i] = channels + apart * i;
            x.emplace_back(size_t(kPixels * a.x_stride[i]));
            for (size_t k = 0; k < x.back().size(); ++k)
              x.back()[k] = float(k) + 1000.0f * float(i);
            a.x[i] = x.back().data();
          }
          a.y_stride = images * channels + apart;
          std::vector<float> want(size_t(kPixels * a.y_stride), -1), got = want;
          for (int64_t p = 1; p < kPixels - 1; ++p)
            for (int64_t c = 0; c < channels; ++c)
              for (int i = 0; i < images; ++i)
                want[size_t(p * a.y_stride + c * images + i)] = a.x[i][p * a.x_stride[i] + c];
          a.y = got.data();
          InterleaveChannels(a, 1, kPixels - 1);
          EXPECT_EQ(got, want) << target << " images " << images << " channels " << channels;
        }
  });
}

}  // namespace
}  // namespace dunlin
