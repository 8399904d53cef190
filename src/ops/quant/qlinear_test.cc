// com.microsoft's operators on codes: where their halves fall, and what they refuse.
#include "ops/quant/quant.h"
#include "ops/testing.h"

namespace dunlin::testing {
namespace {

template <class T>
Tensor Vec(std::initializer_list<T> v) {
  return Tensor::Of<T>({int64_t(v.size())}, v);
}
OpTest Microsoft(std::string name) { return OpTest(std::move(name), "com.microsoft"); }

template <class T>
OpTest Binary(std::string op, Tensor a, float a_scale, T a_zero, Tensor b, float b_scale, T b_zero,
              float y_scale, T y_zero) {
  OpTest t = Microsoft(std::move(op));
  t.Input(std::move(a)).Input(Tensor::Scalar(a_scale)).Input(Tensor::Scalar<T>(a_zero));
  t.Input(std::move(b)).Input(Tensor::Scalar(b_scale)).Input(Tensor::Scalar<T>(b_zero));
  t.Input(Tensor::Scalar(y_scale)).Input(Tensor::Scalar<T>(y_zero));
  return t;
}

TEST(QLinearBinaryTest, AddsWhatCodesStandFor) {
  // 5 + 4 = 9, 100 + 24 = 124, 127.5 + 62.75 saturates; in units of 0.5, plus 1.
  OpTest t = Binary<uint8_t>("QLinearAdd", Vec<uint8_t>({10, 200, 255}), 0.5f, 0,
                             Vec<uint8_t>({20, 100, 255}), 0.25f, 4, 0.5f, 1);
  EXPECT_TRUE(Near((*t.Reference())[0], Vec<uint8_t>({19, 249, 255})));
  t.ExpectKernelMatches();
  t.ExpectInferIsTotal();
}

TEST(QLinearBinaryTest, RoundsAfterTheZeroPoint) {
  // 0.5 + 1 = 1.5, to even: 2. Rounding first would give 0 + 1.
  EXPECT_TRUE(Near(
      (*Binary<uint8_t>("QLinearAdd", Vec<uint8_t>({1}), 0.5f, 0, Vec<uint8_t>({0}), 1, 0, 1, 1)
            .Reference())[0],
      Vec<uint8_t>({2})));
  EXPECT_TRUE(
      Near((*Binary<int8_t>("QLinearMul", Vec<int8_t>({1}), 0.5f, 0, Vec<int8_t>({1}), 1, 0, 1, 1)
                 .Reference())[0],
           Vec<int8_t>({2})));
}

TEST(QLinearBinaryTest, MultipliesAndBroadcasts) {
  OpTest t = Binary<int8_t>("QLinearMul", Tensor::Of<int8_t>({2, 1}, {-128, 11}), 0.5f, 1,
                            Tensor::Of<int8_t>({3}, {2, 4, 127}), 2, 2, 4, -3);
  // (-129 * .5) * ({0, 2, 125} * 2) / 4 - 3; (10 * .5) * …
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<int8_t>({2, 3}, {-3, -68, -128, -3, 2, 127})));
  t.ExpectKernelMatches();
  t.ExpectInferIsTotal();
}

TEST(QLinearBinaryTest, TakesSixteenBits) {
  OpTest t = Binary<uint16_t>("QLinearAdd", Vec<uint16_t>({30000, 65535}), 1, 0,
                              Vec<uint16_t>({20000, 65535}), 1, 10, 2, 3);
  EXPECT_TRUE(Near((*t.Reference())[0], Vec<uint16_t>({24998, 65533})));
  t.ExpectKernelMatches();
}

TEST(QLinearBinaryTest, RefusesScalesPerChannelAndMixedTypes) {
  OpTest t = Microsoft("QLinearAdd");
  t.Input(Vec<uint8_t>({1, 2})).Input(Vec<float>({1, 2})).Input(Tensor::Scalar<uint8_t>(0));
  t.Input(Vec<uint8_t>({1, 2})).Input(Tensor::Scalar(1.0f)).Input(Tensor::Scalar<uint8_t>(0));
  t.Input(Tensor::Scalar(1.0f)).Input(Tensor::Scalar<uint8_t>(0));
  EXPECT_EQ(t.Infer().error().code, Code::kInvalidArgument);
  OpTest mixed = Microsoft("QLinearAdd");
  mixed.Input(Vec<uint8_t>({1})).Input(Tensor::Scalar(1.0f)).Input(Tensor::Scalar<uint8_t>(0));
  mixed.Input(Vec<int8_t>({1})).Input(Tensor::Scalar(1.0f)).Input(Tensor::Scalar<int8_t>(0));
  mixed.Input(Tensor::Scalar(1.0f));
  EXPECT_EQ(mixed.Infer().error().code, Code::kInvalidArgument);
}

OpTest Unary(std::string op, Tensor x, float x_scale, float y_scale, uint8_t y_zero) {
  OpTest t = Microsoft(std::move(op));
  t.Input(std::move(x)).Input(Tensor::Scalar(x_scale)).Input(Tensor::Scalar<uint8_t>(0));
  t.Input(Tensor::Scalar(y_scale)).Input(Tensor::Scalar<uint8_t>(y_zero));
  return t;
}

TEST(QLinearPoolTest, AverageRoundsAfterTheZeroPointAndGlobalBefore) {
  const Tensor x = Tensor::Of<uint8_t>({1, 1, 1, 2}, {1, 2});
  OpTest average = Unary("QLinearAveragePool", x, 1, 1, 1);
  average.Attr("kernel_shape", std::vector<int64_t>{1, 2});
  EXPECT_TRUE(Near((*average.Reference())[0], Tensor::Of<uint8_t>({1, 1, 1, 1}, {2})));  // 2.5
  average.ExpectInferIsTotal();
  average.ExpectKernelMatches();
  OpTest global = Unary("QLinearGlobalAveragePool", x, 1, 1, 1);
  global.ExpectKernelMatches();
  EXPECT_TRUE(Near((*global.Reference())[0], Tensor::Of<uint8_t>({1, 1, 1, 1}, {3})));  // 1.5, + 1
  global.ExpectInferIsTotal();
}

TEST(QLinearPoolTest, ChannelsMayComeLast) {
  const Tensor x = Tensor::Of<uint8_t>({1, 1, 3, 2}, {2, 10, 4, 20, 6, 60});
  OpTest global = Unary("QLinearGlobalAveragePool", x, 1, 2, 0);
  global.Attr("channels_last", 1);
  EXPECT_TRUE(Near((*global.Reference())[0], Tensor::Of<uint8_t>({1, 1, 1, 2}, {2, 15})));
  global.ExpectInferIsTotal();
  OpTest average = Unary("QLinearAveragePool", x, 1, 1, 0);
  average.Attr("channels_last", 1).Attr("kernel_shape", std::vector<int64_t>{1, 2});
  EXPECT_TRUE(Near((*average.Reference())[0], Tensor::Of<uint8_t>({1, 1, 2, 2}, {3, 15, 5, 40})));
  average.ExpectInferIsTotal();
}

TEST(QLinearPoolTest, PaddingCountsWhereItIsAsked) {
  OpTest t = Unary("QLinearAveragePool", Tensor::Of<uint8_t>({1, 1, 2}, {8, 4}), 1, 1, 0);
  t.Attr("kernel_shape", std::vector<int64_t>{2}).Attr("pads", std::vector<int64_t>{1, 0});
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<uint8_t>({1, 1, 2}, {8, 6})));
  t.Attr("count_include_pad", 1);
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<uint8_t>({1, 1, 2}, {4, 6})));
}

TEST(QLinearSoftmaxTest, IsSoftmaxOfWhatCodesStandFor) {
  // Ten codes are a factor of two: probabilities of 1/3 and 2/3 in units of 1/256.
  const float scale = std::log(2.0f) / 10;
  OpTest t =
      Unary("QLinearSoftmax", Tensor::Of<uint8_t>({2, 2}, {0, 10, 250, 240}), scale, 1.0f / 256, 0);
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<uint8_t>({2, 2}, {85, 171, 171, 85})));
  t.ExpectInferIsTotal();
  t.Attr("axis", 0);
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<uint8_t>({2, 2}, {0, 0, 255, 255})));
  t.ExpectKernelMatches();
  OpTest flat =
      Unary("QLinearSoftmax", Tensor::Of<uint8_t>({1, 2, 2}, {9, 9, 9, 9}), scale, 1.0f / 256, 0);
  flat.Attr("opset", 11);
  EXPECT_TRUE(Near((*flat.Reference())[0], Tensor::Of<uint8_t>({1, 2, 2}, {64, 64, 64, 64})));
}

// ---- the kernels give what the references give, to the last code ----

TEST(QLinearKernelTest, CombinesOperandsOfEveryShapeAndLayout) {
  const std::pair<Dims, Dims> shapes[] = {{{2, 24, 5, 7}, {2, 24, 5, 7}},
                                          {{2, 40, 5, 7}, {1, 40, 1, 1}},
                                          {{1, 3, 4, 5}, {}},
                                          {{2, 1, 5, 7}, {2, 33, 5, 7}},
                                          {{40, 1, 1}, {2, 40, 3, 3}},
                                          {{3, 1}, {1, 90}},
                                          {{0, 4}, {0, 4}},
                                          {{2, 3, 4, 50}, {50}}};
  for (const char* op : {"QLinearAdd", "QLinearMul"})
    for (const auto& [a, b] : shapes) {
      Binary<uint8_t>(op, RandomInts<uint8_t>(a, 0, 255), 0.02f, 130,
                      RandomInts<uint8_t>(b, 0, 255, 2), 0.031f, 7, 0.0413f, 99)
          .ExpectKernelMatches();
      Binary<int8_t>(op, RandomInts<int8_t>(a, -128, 127), 0.02f, -128,
                     RandomInts<int8_t>(b, -128, 127, 2), 0.031f, 127, 0.0413f, -3)
          .ExpectKernelMatches();
    }
  // Results beyond what 32 bits hold.
  Binary<uint8_t>("QLinearAdd", RandomInts<uint8_t>({300}, 0, 255), 1e20f, 3,
                  RandomInts<uint8_t>({300}, 0, 255, 2), 1e-20f, 7, 1e-10f, 99)
      .ExpectKernelMatches();
}

TEST(QLinearKernelTest, PoolsOfEveryGeometry) {
  using Ints = std::vector<int64_t>;
  const struct {
    Dims x;
    Ints kernel, pads, strides;
    int ceil;
  } cases[] = {{{2, 40, 9, 8}, {3, 3}, {1, 1, 1, 1}, {2, 2}, 0},
               {{1, 3, 7, 7}, {2, 3}, {0, 0, 1, 2}, {1, 2}, 1},
               {{1, 70, 30}, {5}, {2, 2}, {1}, 0},
               {{1, 5, 4, 5, 6}, {2, 2, 2}, {0, 0, 0, 0, 0, 0}, {2, 2, 2}, 0}};
  for (const auto& c : cases)
    for (const int include : {0, 1})
      for (const int last : {0, 1}) {
        Dims x = c.x;
        if (last != 0) std::rotate(x.begin() + 1, x.begin() + 2, x.end());
        OpTest t = Unary("QLinearAveragePool", RandomInts<uint8_t>(x, 0, 255), 0.02f, 0.013f, 17);
        t.Attr("kernel_shape", c.kernel)
            .Attr("pads", c.pads)
            .Attr("strides", c.strides)
            .Attr("ceil_mode", c.ceil)
            .Attr("count_include_pad", include)
            .Attr("channels_last", last);
        t.ExpectKernelMatches();
        OpTest global =
            Unary("QLinearGlobalAveragePool", RandomInts<uint8_t>(x, 0, 255), 0.02f, 0.013f, 17);
        global.Attr("channels_last", last).ExpectKernelMatches();
        if (last != 0) continue;
        for (const Tensor& codes :
             {RandomInts<uint8_t>(x, 0, 255), RandomInts<int8_t>(x, -128, 127)}) {
          OpTest most("MaxPool");
          most.Attr("kernel_shape", c.kernel)
              .Attr("pads", c.pads)
              .Attr("strides", c.strides)
              .Attr("ceil_mode", c.ceil)
              .Input(codes);
          most.ExpectKernelMatches();
        }
      }
}

TEST(QLinearKernelTest, SoftmaxAlongAnyAxis) {
  for (const int axis : {0, 1, 2}) {
    OpTest t =
        Unary("QLinearSoftmax", RandomInts<uint8_t>({7, 300, 5}, 0, 255), 0.1f, 1.0f / 256, 0);
    t.Attr("axis", axis).ExpectKernelMatches();
  }
}

// ---- tables ----

TEST(CodeTableTest, LooksUpTheByteOfACode) {
  Tensor table = AllCodes(DType::kI8).value();  // entry k is k as i8
  table.mut<int8_t>()[0xff] = 77;
  OpTest t("CodeTable", "dunlin");
  t.Input(Tensor::Of<int8_t>({4}, {0, 127, -128, -1})).Input(table);
  EXPECT_TRUE(Near((*t.Reference())[0], Tensor::Of<int8_t>({4}, {0, 127, -128, 77})));
  t.ExpectKernelMatches();
  t.ExpectInferIsTotal();
}

TEST(CodeTableTest, GivesCodesOfTheTablesTypeInEveryLayout) {
  const Tensor table = RandomInts<int8_t>({256}, -128, 127);
  for (const Dims& dims : {Dims{}, Dims{1000}, Dims{2, 24, 5, 9}, Dims{0, 3}}) {
    OpTest t("CodeTable", "dunlin");
    t.Input(RandomInts<uint8_t>(dims, 0, 255)).Const(table);
    EXPECT_EQ((*t.Infer())[0].dtype, DType::kI8);
    t.ExpectKernelMatches();
    t.ExpectInferIsTotal();
  }
}

TEST(CodeTableTest, RefusesOtherTablesAndTypes) {
  OpTest few("CodeTable", "dunlin");
  few.Input(Vec<uint8_t>({1})).Input(RandomInts<uint8_t>({255}, 0, 255));
  EXPECT_EQ(few.Infer().error().code, Code::kInvalidArgument);
  OpTest floats("CodeTable", "dunlin");
  floats.Input(Vec<float>({1})).Input(RandomInts<uint8_t>({256}, 0, 255));
  EXPECT_FALSE(floats.Infer().has_value());
}

}  // namespace
}  // namespace dunlin::testing
