// Elementary functions and activations on every SIMD target against double arithmetic.
#include "kernels/activation.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kernels/activation_test.cc"
#include "hwy/foreach_target.h"
#include "hwy/highway.h"
#include "kernels/activation-inl.h"

HWY_BEFORE_NAMESPACE();
namespace dunlin::HWY_NAMESPACE {

// n is a multiple of 16, the most lanes there are.
#define DUNLIN_TEST_FUNCTION(Name)                        \
  void Name##Span(const float* x, float* y, size_t n) {   \
    const hn::ScalableTag<float> d;                       \
    for (size_t i = 0; i < n; i += hn::Lanes(d))          \
      hn::StoreU(Name(d, hn::LoadU(d, x + i)), d, y + i); \
  }
DUNLIN_TEST_FUNCTION(Exp)
DUNLIN_TEST_FUNCTION(ExpNotPositive)
DUNLIN_TEST_FUNCTION(Log)
DUNLIN_TEST_FUNCTION(Tanh)
DUNLIN_TEST_FUNCTION(Sigmoid)
DUNLIN_TEST_FUNCTION(Erf)
template <class D, class V>
V OnePlusExpOfMinus(D d, V x) {
  return OnePlusExp(d, x, -1.0f);
}
DUNLIN_TEST_FUNCTION(OnePlusExpOfMinus)

}  // namespace dunlin::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "kernels/simd_targets.h"

namespace dunlin {
HWY_EXPORT(ExpSpan);
HWY_EXPORT(ExpNotPositiveSpan);
HWY_EXPORT(LogSpan);
HWY_EXPORT(TanhSpan);
HWY_EXPORT(SigmoidSpan);
HWY_EXPORT(ErfSpan);
HWY_EXPORT(OnePlusExpOfMinusSpan);

namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();

double UlpOf(double exact) {
  const float f = std::abs(float(exact));
  return f < std::numeric_limits<float>::min() ? 1.4e-45 : double(std::nextafter(f, kInf)) - f;
}

// Dense floats of [lo, hi] of both signs of exponent, a multiple of 16 of them.
std::vector<float> Samples(float lo, float hi) {
  std::vector<float> x;
  for (int i = 0; i < 160000; ++i) x.push_back(lo + (hi - lo) * float(i) / 160000.0f);
  for (int e = -126; e < 120; ++e)
    for (int j = 0; j < 16; ++j)
      x.push_back(
          std::min(hi, std::max(lo, (j % 2 ? 1.0f : -1.0f) * std::ldexp(1.0f + float(j) / 16, e))));
  return x;
}

template <class F, class G>
void ExpectUlp(F simd, G exact, float lo, float hi, double max_ulp) {
  const std::vector<float> x = Samples(lo, hi);
  std::vector<float> y(x.size());
  simd(x.data(), y.data(), x.size());
  double worst = 0, at = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double want = exact(double(x[i]));
    if (std::isinf(float(want)) && y[i] == float(want)) continue;
    const double error = std::abs(y[i] - want) / UlpOf(want);
    if (!(error <= worst)) worst = error, at = x[i];
  }
  EXPECT_LE(worst, max_ulp) << "at " << at;
}

template <class F>
void ExpectEach(F simd, std::vector<float> x, const std::vector<float>& want) {
  x.resize(16, 0.0f);
  std::vector<float> y(16);
  simd(x.data(), y.data(), 16);
  for (size_t i = 0; i < want.size(); ++i) {
    if (std::isnan(want[i]))
      EXPECT_TRUE(std::isnan(y[i])) << x[i] << " gave " << y[i];
    else
      EXPECT_EQ(y[i], want[i]) << x[i];
  }
}

TEST(Math, ExpIsWithinTwoUlp) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    const auto f = [](auto... a) { HWY_DYNAMIC_DISPATCH(ExpSpan)(a...); };
    ExpectUlp(
        f, [](double x) { return std::exp(x); }, -87.3f, 88.72283f, 2);
    ExpectEach(f, {kInf, -kInf, kNaN, 0.0f, 89.0f, -88.0f, -1e30f, 1e30f},
               {kInf, 0, kNaN, 1, kInf, 0, 0, kInf});
  });
}

TEST(Math, ExpNotPositiveIsWithinThreeUlp) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    const auto f = [](auto... a) { HWY_DYNAMIC_DISPATCH(ExpNotPositiveSpan)(a...); };
    ExpectUlp(
        f, [](double x) { return std::exp(x); }, -87.3f, 0.0f, 3);
    ExpectEach(f, {-kInf, kNaN, std::nanf("511"), 0.0f, -0.0f, -88.0f, -1e30f},
               {0, kNaN, kNaN, 1, 1, 0, 0});
  });
}

TEST(Math, LogIsWithinTwoUlp) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    const auto f = [](auto... a) { HWY_DYNAMIC_DISPATCH(LogSpan)(a...); };
    ExpectUlp(
        f, [](double x) { return std::log(x); }, 1e-44f, 4.0f, 2);
    ExpectUlp(
        f, [](double x) { return std::log(x); }, 1.0f, 3.4e38f, 2);
    ExpectEach(f, {kInf, -kInf, kNaN, 0.0f, -0.0f, 1.0f, -1.0f},
               {kInf, kNaN, kNaN, -kInf, -kInf, 0, kNaN});
  });
}

TEST(Math, TanhIsWithinSixUlp) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    const auto f = [](auto... a) { HWY_DYNAMIC_DISPATCH(TanhSpan)(a...); };
    ExpectUlp(
        f, [](double x) { return std::tanh(x); }, -12.0f, 12.0f, 6);
    ExpectEach(f, {kInf, -kInf, kNaN, 0.0f}, {1, -1, kNaN, 0});
  });
}

TEST(Math, SigmoidIsWithinFourUlp) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    const auto f = [](auto... a) { HWY_DYNAMIC_DISPATCH(SigmoidSpan)(a...); };
    ExpectUlp(
        f, [](double x) { return 1 / (1 + std::exp(-x)); }, -87.0f, 40.0f, 4);
    ExpectEach(f, {kInf, -kInf, kNaN, 0.0f}, {1, 0, kNaN, 0.5f});
  });
}

TEST(Math, OnePlusExpIsWithinItsBound) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    const std::vector<float> x = Samples(-88.0f, 104.0f);
    std::vector<float> y(x.size());
    HWY_DYNAMIC_DISPATCH(OnePlusExpOfMinusSpan)(x.data(), y.data(), x.size());
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const double want = 1 + std::exp(-double(x[i]));
      worst = std::max(worst, std::abs(y[i] - want) / want / (1 + std::abs(x[i])));
    }
    EXPECT_LE(worst, 2e-7);
    const auto f = [](auto... a) { HWY_DYNAMIC_DISPATCH(OnePlusExpOfMinusSpan)(a...); };
    ExpectEach(f, {kInf, -kInf, kNaN, 1e30f, -1e30f}, {1, kInf, kNaN, 1, kInf});
  });
}

TEST(Math, ErfIsWithinSixUlp) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    const auto f = [](auto... a) { HWY_DYNAMIC_DISPATCH(ErfSpan)(a...); };
    ExpectUlp(
        f, [](double x) { return std::erf(x); }, -5.0f, 5.0f, 6);
    ExpectEach(f, {kInf, -kInf, kNaN, 0.0f}, {1, -1, kNaN, 0});
  });
}

TEST(Activation, EveryKindMatchesTheReferenceAtAnyLength) {
  std::vector<float> input;
  for (int i = 0; i < 2001; ++i) input.push_back(float(i - 1000) * 0.0131f);
  ForEachSimdTarget([&](const char* target) {
    SCOPED_TRACE(target);
    for (int kind = 0; kind < kActivationCount; ++kind) {
      const ActivationParams p{Activation(kind), 0.2f, kind == 2 ? 1.5f : 0.45f};
      for (const size_t n : {size_t{0}, size_t{1}, size_t{7}, size_t{33}, input.size()}) {
        std::vector<float> x = input;
        ActivateInPlace(p, x.data(), int64_t(n));
        for (size_t i = 0; i < x.size(); ++i) {
          const double want = i < n ? ActivateReference(p, input[i]) : input[i];
          ASSERT_NEAR(x[i], want,
                      1e-6 * std::max(1e-3, double(std::abs(input[i]))) + 4e-7 * std::abs(want))
              << "kind " << kind << " at " << input[i];
        }
      }
    }
  });
}

TEST(Activation, NaNStaysNaN) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    for (int kind = 0; kind < kActivationCount; ++kind) {
      float x[] = {kNaN, 1.0f, kNaN};
      ActivateInPlace({Activation(kind), 0.1f, 0.9f}, x, 3);
      EXPECT_TRUE(std::isnan(x[0])) << kind;
      EXPECT_FALSE(std::isnan(x[1])) << kind;
      EXPECT_TRUE(std::isnan(x[2])) << kind;
    }
  });
}

TEST(Activation, InfinitiesGiveLimits) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    float x[] = {kInf, -kInf};
    ActivateInPlace({Activation::kSigmoid, 0, 0}, x, 2);
    EXPECT_EQ(x[0], 1.0f);
    EXPECT_EQ(x[1], 0.0f);
    float y[] = {kInf, -kInf};
    ActivateInPlace({Activation::kClip, -2, 6}, y, 2);
    EXPECT_EQ(y[0], 6.0f);
    EXPECT_EQ(y[1], -2.0f);
    float z[] = {kInf, -kInf};
    ActivateInPlace({Activation::kRelu, 0, 0}, z, 2);
    EXPECT_EQ(z[0], kInf);
    EXPECT_EQ(z[1], 0.0f);
  });
}

}  // namespace
}  // namespace dunlin
#endif
