// Normalisations: every kernel against its reference, and what is refused.
#include "ops/testing.h"

namespace dunlin::testing {
namespace {

constexpr Tolerance kClose = {2e-6, 2e-6};

TEST(LayerNormTest, KernelsMatchReference) {
  for (const int64_t n : {1, 5, 16, 37, 768})
    for (const int64_t rows : {1, 3, 200}) {
      OpTest t("LayerNormalization"), plain("LayerNormalization"), rms("RMSNormalization");
      const Tensor x = RandomF32({2, rows, n}, -3, 5);
      t.Input(x).Const(RandomF32({n}, 0, 2, 2)).Const(RandomF32({n}, -1, 1, 3)).Outputs(3);
      // One value a row: the deviation is zero, and rounding is amplified by 1 / sqrt(epsilon).
      t.ExpectKernelMatches(n == 1 ? Tolerance{1e-4, 1e-5} : kClose);
      t.ExpectInferIsTotal();
      rms.Input(x).Const(RandomF32({n}, 0, 2, 2)).ExpectKernelMatches(kClose);
      plain.Input(x)
          .Input(RandomF32({n}, 0, 2, 2))
          .ExpectKernelMatches(n == 1 ? Tolerance{1e-4, 1e-5} : kClose);
    }
}

TEST(LayerNormTest, SeveralAxesAndStatistics) {
  OpTest t("LayerNormalization");
  t.Attr("axis", 1).Input(RandomF32({3, 4, 5})).Const(RandomF32({4, 5})).Outputs(3);
  t.ExpectKernelMatches(kClose);
  EXPECT_EQ((*t.Reference())[1].dims(), (Dims{3, 1, 1}));
  EXPECT_EQ(OpTest("LayerNormalization")
                .Input(RandomF32({3, 4}))
                .Input(RandomF32({5}))
                .Infer()
                .error()
                .code,
            Code::kInvalidArgument);
}

TEST(BatchNormTest, KernelsMatchReferenceInBothLayouts) {
  for (const Dims& dims :
       {Dims{2, 5}, Dims{2, 5, 3}, Dims{2, 17, 5, 7}, Dims{1, 64, 40, 41}, Dims{1, 3, 2, 3, 4}})
    for (const bool constant : {false, true})
      for (const bool relu : {false, true}) {
        OpTest t(relu ? "BatchNormRelu" : "BatchNormalization", relu ? "dunlin" : "");
        t.Input(RandomF32(dims, -3, 3));
        for (uint32_t i = 0; i < 4; ++i) {
          const Tensor p = RandomF32({dims[1]}, 0.1f, 2, i + 2);
          if (constant)
            t.Const(p);
          else
            t.Input(p);
        }
        t.ExpectKernelMatches({5e-6, 5e-6});
        t.ExpectInferIsTotal();
      }
}

TEST(BatchNormTest, ReluKeepsNaN) {
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNaN = NAN;
  std::vector<float> x;
  for (int i = 0; i < 19; ++i) x.insert(x.end(), {kNaN, -1, kInf, -kInf, 2, -0.0f});
  for (const Dims& dims : {Dims{3, 38}, Dims{2, 3, 19}}) {
    OpTest t("BatchNormRelu", "dunlin");
    t.Input(Tensor::Of<float>(dims, std::span<const float>(x)));
    for (uint32_t i = 0; i < 4; ++i) t.Const(RandomF32({dims[1]}, 0.1f, 2, i + 2));
    t.ExpectKernelMatches({5e-6, 5e-6});
  }
}

TEST(BatchNormTest, TrainingUpdatesRunningStatistics) {
  const auto vec = [](float v) { return Tensor::Of<float>({1}, {v}); };
  const auto r = OpTest("BatchNormalization")
                     .Attr("training_mode", 1)
                     .Attr("epsilon", 0.0)
                     .Input(Tensor::Of<float>({2, 1}, {1, 3}))
                     .Input(vec(1))
                     .Input(vec(0))
                     .Input(vec(10))
                     .Input(vec(5))
                     .Outputs(3)
                     .Reference();
  ASSERT_TRUE(r.has_value());
  EXPECT_TRUE(Near((*r)[0], Tensor::Of<float>({2, 1}, {-1, 1}), {1e-6}));
  EXPECT_TRUE(Near((*r)[1], vec(9.2f), {1e-5}));  // 0.9 * 10 + 0.1 * 2
  EXPECT_TRUE(Near((*r)[2], vec(4.6f), {1e-5}));  // 0.9 * 5 + 0.1 * 1
}

TEST(BatchNormTest, ParametersMustFitTheChannels) {
  OpTest t("BatchNormalization");
  t.Input(RandomF32({2, 5, 3}));
  for (int i = 0; i < 4; ++i) t.Const(RandomF32({4}, 0.1f, 1));
  EXPECT_EQ(t.Infer().error().code, Code::kInvalidArgument);
}

TEST(InstanceNormTest, KernelsMatchReference) {
  for (const Dims& dims : {Dims{2, 5, 3}, Dims{1, 3, 17, 19}, Dims{1, 8, 100, 100}}) {
    OpTest t("InstanceNormalization");
    t.Input(RandomF32(dims, 0, 5))
        .Const(RandomF32({dims[1]}, 0, 2, 2))
        .Const(RandomF32({dims[1]}, -1, 1, 3));
    t.ExpectKernelMatches({1e-5, 5e-6});
    t.ExpectInferIsTotal();
  }
}

TEST(GroupNormTest, KernelsMatchReference) {
  for (const int groups : {1, 2, 6}) {
    OpTest t("GroupNormalization");
    t.Attr("num_groups", groups)
        .Input(RandomF32({2, 6, 5, 7}, 0, 5))
        .Const(RandomF32({6}, 0, 2, 2))
        .Const(RandomF32({6}, -1, 1, 3));
    t.ExpectKernelMatches({1e-5, 5e-6});
    t.ExpectInferIsTotal();
  }
  EXPECT_EQ(OpTest("GroupNormalization")
                .Attr("num_groups", 4)
                .Input(RandomF32({2, 6}))
                .Input(RandomF32({6}))
                .Input(RandomF32({6}))
                .Infer()
                .error()
                .code,
            Code::kInvalidArgument);
}

TEST(VectorNormTest, Meaning) {
  EXPECT_TRUE(Near(
      (*OpTest("LpNormalization").Input(Tensor::Of<float>({2, 2}, {3, 4, 0, 0})).Reference())[0],
      Tensor::Of<float>({2, 2}, {0.6f, 0.8f, 0, 0}), {1e-6}));
  EXPECT_TRUE(Near((*OpTest("LpNormalization")
                         .Attr("p", 1)
                         .Input(Tensor::Of<float>({2}, {1, -3}))
                         .Reference())[0],
                   Tensor::Of<float>({2}, {0.25f, -0.75f}), {1e-6}));
  EXPECT_TRUE(Near((*OpTest("MeanVarianceNormalization")
                         .Attr("axes", std::vector<int64_t>{0})
                         .Input(Tensor::Of<float>({2}, {1, 3}))
                         .Reference())[0],
                   Tensor::Of<float>({2}, {-1, 1}), {1e-6}));
  EXPECT_EQ(OpTest("LRN").Input(RandomF32({1, 2})).Infer().error().code,
            Code::kInvalidArgument);  // no size
}

TEST(Lrn, KernelMatchesInBothLayouts) {
  for (const double beta : {0.75, 0.5})
    for (const int size : {1, 2, 5, 40})
      for (const Dims& d : {Dims{2, 7, 3, 5}, Dims{1, 300, 2, 2}, Dims{2, 9}, Dims{1, 3, 700}}) {
        SCOPED_TRACE(fmt::format("beta {} size {} {}", beta, size, ToString(d)));
        OpTest t("LRN");
        t.Attr("size", size).Attr("beta", beta).Attr("alpha", 0.3).Attr("bias", 1.5);
        t.Input(RandomF32(d, -3, 3)).ExpectKernelMatches({.rel = 4e-6});
      }
}

}  // namespace
}  // namespace dunlin::testing
