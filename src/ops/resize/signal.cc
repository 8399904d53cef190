// DFT, STFT, MelWeightMatrix, windows, Det.
#include <algorithm>
#include <bit>
#include <cmath>
#include <complex>
#include <numbers>

#include "ops/movement/axes.h"
#include "ops/resize/resize.h"

namespace dunlin {
namespace {

using Complex = std::complex<double>;
constexpr int64_t kMaxTransform = int64_t{1} << 28;

// Plain product: std::complex's operator also looks for infinities.
Complex Mul(Complex a, Complex b) {
  return {a.real() * b.real() - a.imag() * b.imag(), a.real() * b.imag() + a.imag() * b.real()};
}

// exp(sign * 2 pi i * k / n).
Complex Root(int64_t k, int64_t n, double sign) {
  return std::polar(1.0, sign * 2 * std::numbers::pi * double(k % n) / double(n));
}

// In place, length a power of two.
void Fft(std::vector<Complex>& x, double sign) {
  const size_t n = x.size();
  for (size_t i = 1, j = 0; i < n; ++i) {
    size_t bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(x[i], x[j]);
  }
  std::vector<Complex> roots(n / 2);
  for (size_t k = 0; k < n / 2; ++k) roots[k] = Root(int64_t(k), int64_t(n), sign);
  for (size_t half = 1; half < n; half *= 2)
    for (size_t i = 0; i < n; i += 2 * half)
      for (size_t k = 0; k < half; ++k) {
        const Complex a = x[i + k], b = Mul(x[i + k + half], roots[k * (n / (2 * half))]);
        x[i + k] = a + b;
        x[i + k + half] = a - b;
      }
}

// The transform of any length: sum over j of x[j] exp(sign 2 pi i j k / n), unscaled. Lengths that
// are no power of two become a convolution of such a length (Bluestein).
void Transform(std::vector<Complex>& x, double sign) {
  const size_t n = x.size();
  if (n <= 1) return;
  if (std::has_single_bit(n)) return Fft(x, sign);
  std::vector<Complex> chirp(n);
  for (size_t k = 0; k < n; ++k) {
    // k^2 modulo 2n, so that the angle stays exact for long signals.
    const auto square = int64_t(static_cast<unsigned __int128>(k) * k % (2 * n));
    chirp[k] = Root(square, int64_t(2 * n), sign);
  }
  const size_t m = std::bit_ceil(2 * n - 1);
  std::vector<Complex> a(m), b(m);
  for (size_t k = 0; k < n; ++k) {
    a[k] = Mul(x[k], chirp[k]);
    b[k] = std::conj(chirp[k]);
    if (k > 0) b[m - k] = b[k];
  }
  Fft(a, -1);
  Fft(b, -1);
  for (size_t k = 0; k < m; ++k) a[k] = Mul(a[k], b[k]);
  Fft(a, 1);
  for (size_t k = 0; k < n; ++k) x[k] = Mul(a[k], chirp[k]) / double(m);
}

Status VisitFloat(DType t, const char* what, auto&& f) {
  return VisitDType(t, what, [&]<class T>(TypeTag<T> tag) -> Status {
    if constexpr (kIsFloat<T>)
      return f(tag);
    else
      return Fail(Code::kInvalidArgument, "{} of {}", what, DTypeName(t));
  });
}

template <class T>
double Number(T v) {
  if constexpr (kIsHalf<T>)
    return double(float(v));
  else
    return double(v);
}
template <class T>
T FromDouble(double v) {
  if constexpr (kIsHalf<T>)
    return T(float(v));
  else
    return static_cast<T>(v);
}

// The one integer of an input; nullopt when it is absent or not known.
Result<std::optional<int64_t>> OneInt(const InferContext& ctx, int i) {
  const auto v = TRY(IntList(ctx, i));
  if (!v) return std::optional<int64_t>{};
  if (v->size() != 1) return Fail(Code::kInvalidArgument, "input {} has {} entries", i, v->size());
  return std::optional(v->front());
}
Result<int64_t> OneInt(RunContext& ctx, int i, int64_t otherwise) {
  if (!ctx.has(i)) return otherwise;
  const auto v = TRY(IntsOf(ctx.in(i)));
  if (v.size() != 1) return Fail(Code::kInvalidArgument, "input {} has {} entries", i, v.size());
  return v[0];
}
Result<double> OneNumber(const TensorView& v) {
  double x = 0;
  if (v.count() != 1) return Fail(Code::kInvalidArgument, "a scalar has {} elements", v.count());
  TRY(VisitDType(v.dtype, "a scalar", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (kIsNumber<T>) {
      x = Number(*v.as<T>());
      return {};
    } else {
      return Fail(Code::kInvalidArgument, "a scalar of {}", DTypeName(v.dtype));
    }
  }));
  return x;
}

Status CheckLength(int64_t n) {
  if (n >= 1 && n <= kMaxTransform) return {};
  return Fail(Code::kInvalidArgument, "a transform of length {}", n);
}

}  // namespace

namespace {

// The length of the transform where input 1 does not say it: an extent, or what half a spectrum of
// that extent stands for.
int64_t DefaultLength(const Dft::Attrs& a, int64_t extent) {
  if (!a.inverse || !a.onesided) return extent;
  return IsKnown(extent) ? 2 * (extent - 1) : kUnknownDim;
}
// How many numbers of a transform of length n are given.
int64_t Bins(const Dft::Attrs& a, int64_t n) { return a.onesided && !a.inverse ? n / 2 + 1 : n; }

// Fills v, the whole spectrum of real numbers, from the first half of it.
void Mirror(std::vector<Complex>& v) {
  const size_t n = v.size();
  v[0] = v[0].real();
  if (n % 2 == 0) v[n / 2] = v[n / 2].real();
  for (size_t k = n / 2 + 1; k < n; ++k) v[k] = std::conj(v[n - k]);
}

}  // namespace

// Half a spectrum of real numbers becomes these numbers, real numbers become half a spectrum; else
// complex (or real) numbers become as many complex ones.
Status Dft::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  const auto length = TRY(OneInt(ctx, 1));
  const auto given = TRY(OneInt(ctx, 2));
  if (length) TRY(CheckLength(*length));
  if (!x.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const int rank = x.dims.rank();
  if (rank < 2 || (IsKnown(x.dims.back()) && x.dims.back() != 1 && x.dims.back() != 2))
    return Fail(Code::kInvalidArgument, "the input has extents {}, the last must be 1 or 2",
                ToString(std::span<const int64_t>(x.dims)));
  if (a.onesided && IsKnown(x.dims.back()) && x.dims.back() != (a.inverse ? 2 : 1))
    return Fail(Code::kInvalidArgument, "a onesided {} takes {} numbers",
                a.inverse ? "inverse transform" : "transform", a.inverse ? "complex" : "real");
  Dims out = x.dims;
  out.back() = a.onesided && a.inverse ? 1 : 2;
  if (ctx.has(2) && !given) {
    for (int i = 0; i < rank - 1; ++i) out[size_t(i)] = kUnknownDim;
  } else {
    const int axis = TRY(NormalizeAxis(given.value_or(-2), rank));
    if (axis == rank - 1)
      return Fail(Code::kInvalidArgument, "the last axis holds the complex parts");
    int64_t& n = out[size_t(axis)];
    n = ctx.has(1) ? length.value_or(kUnknownDim) : DefaultLength(a, n);
    if (IsKnown(n)) {
      TRY(CheckLength(n));
      n = Bins(a, n);
    } else if (a.onesided) {
      n = kUnknownDim;
    }
  }
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Status Dft::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  const int64_t given = TRY(OneInt(ctx, 2, -2));
  const auto axis = size_t(TRY(NormalizeAxis(given, x.rank())));
  const int64_t extent = x.dims[axis], parts = x.dims.back(), bins = y.dims[axis];
  const int64_t n = TRY(OneInt(ctx, 1, DefaultLength(a, extent)));
  TRY(CheckLength(n));
  if (bins != Bins(a, n)) return Fail(Code::kInternal, "{} bins of a transform of {}", bins, n);
  const bool halves = a.onesided && a.inverse;  // the input is half of a spectrum
  const int64_t taken = std::min(extent, halves ? n / 2 + 1 : n), results = y.dims.back();
  int64_t outer = 1, inner = 1;
  for (size_t i = 0; i + 1 < x.dims.size(); ++i)
    if (i != axis) (i < axis ? outer : inner) *= x.dims[i];
  return VisitFloat(x.dtype, "DFT", [&]<class T>(TypeTag<T>) -> Status {
    std::vector<Complex> v(static_cast<size_t>(n));
    for (int64_t o = 0; o < outer; ++o)
      for (int64_t i = 0; i < inner; ++i) {
        std::fill(v.begin(), v.end(), Complex());
        for (int64_t k = 0; k < taken; ++k) {
          const T* p = x.as<T>() + ((o * extent + k) * inner + i) * parts;
          v[size_t(k)] = Complex(Number(p[0]), parts == 2 ? Number(p[1]) : 0);
        }
        if (halves) Mirror(v);
        Transform(v, a.inverse ? 1 : -1);
        const double scale = a.inverse ? 1 / double(n) : 1;
        for (int64_t k = 0; k < bins; ++k) {
          T* p = y.mut<T>() + ((o * bins + k) * inner + i) * results;
          p[0] = FromDouble<T>(v[size_t(k)].real() * scale);
          if (results == 2) p[1] = FromDouble<T>(v[size_t(k)].imag() * scale);
        }
      }
    return {};
  });
}

Status Stft::Infer(const Attrs& a, InferContext& ctx) {
  const Type& x = ctx.input(0);
  const auto step = TRY(OneInt(ctx, 1));
  auto length = TRY(OneInt(ctx, 3));
  if (ctx.has(2)) {
    const Type& window = ctx.input(2);
    if (window.dtype != x.dtype && window.dtype != DType::kUndefined &&
        x.dtype != DType::kUndefined)
      return Fail(Code::kInvalidArgument, "the window is {}, the signal {}",
                  DTypeName(window.dtype), DTypeName(x.dtype));
    if (window.ranked && window.dims.rank() != 1)
      return Fail(Code::kInvalidArgument, "the window has rank {}", window.dims.rank());
    if (window.ranked && IsKnown(window.dims[0])) {
      if (length && *length != window.dims[0])
        return Fail(Code::kInvalidArgument, "frame_length is {}, the window has {}", *length,
                    window.dims[0]);
      length = window.dims[0];
    }
  } else if (!ctx.has(3)) {
    return Fail(Code::kInvalidArgument, "neither window nor frame_length is given");
  }
  if (step && *step < 1) return Fail(Code::kInvalidArgument, "frame_step is {}", *step);
  if (length) TRY(CheckLength(*length));
  Dims out{x.ranked && x.dims.rank() > 0 ? x.dims[0] : kUnknownDim, kUnknownDim, kUnknownDim, 2};
  if (length) out[2] = a.onesided ? *length / 2 + 1 : *length;
  if (x.ranked) {
    if (x.dims.rank() != 3 || (IsKnown(x.dims[2]) && x.dims[2] != 1 && x.dims[2] != 2))
      return Fail(Code::kInvalidArgument,
                  "the signal has extents {}, it must be [batch, length, 1 or 2]",
                  ToString(std::span<const int64_t>(x.dims)));
    if (a.onesided && x.dims[2] == 2)
      return Fail(Code::kInvalidArgument, "a onesided transform takes real numbers");
    if (step && length && IsKnown(x.dims[1])) {
      if (*length > x.dims[1])
        return Fail(Code::kInvalidArgument, "frames of {} in a signal of {}", *length, x.dims[1]);
      out[1] = (x.dims[1] - *length) / *step + 1;
    }
  }
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(x.dtype, std::move(out)));
  return {};
}

Status Stft::Reference(const Attrs& a, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  const int64_t step = TRY(OneInt(ctx, 1, 1));
  const int64_t n = ctx.has(2) ? ctx.in(2).count() : TRY(OneInt(ctx, 3, 1));
  TRY(CheckLength(n));
  const int64_t extent = x.dims[1], parts = x.dims[2], frames = y.dims[1], bins = y.dims[2];
  if (step < 1 || bins != (a.onesided ? n / 2 + 1 : n) ||
      (frames > 0 && (frames - 1) * step + n > extent))
    return Fail(Code::kInternal, "{} frames of {} bins differ from the plan", frames, bins);
  return VisitFloat(x.dtype, "STFT", [&]<class T>(TypeTag<T>) -> Status {
    std::vector<Complex> v(static_cast<size_t>(n));
    for (int64_t b = 0; b < x.dims[0]; ++b)
      for (int64_t f = 0; f < frames; ++f) {
        for (int64_t k = 0; k < n; ++k) {
          const T* p = x.as<T>() + (b * extent + f * step + k) * parts;
          const double w = ctx.has(2) ? Number(ctx.in(2).as<T>()[k]) : 1;
          v[size_t(k)] = Complex(w * Number(p[0]), parts == 2 ? w * Number(p[1]) : 0);
        }
        Transform(v, -1);
        T* to = y.mut<T>() + (b * frames + f) * bins * 2;
        for (int64_t k = 0; k < bins; ++k) {
          to[2 * k] = FromDouble<T>(v[size_t(k)].real());
          to[2 * k + 1] = FromDouble<T>(v[size_t(k)].imag());
        }
      }
    return {};
  });
}

Status MelWeightMatrix::Infer(const Attrs& a, InferContext& ctx) {
  const auto bins = TRY(OneInt(ctx, 0)), length = TRY(OneInt(ctx, 1));
  if ((bins && *bins < 1) || (length && *length < 1))
    return Fail(Code::kInvalidArgument, "num_mel_bins and dft_length must be positive");
  Dims out{length ? *length / 2 + 1 : kUnknownDim, bins ? *bins : kUnknownDim};
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(a.output_datatype, std::move(out)));
  return {};
}

Status MelWeightMatrix::Reference(const Attrs&, RunContext& ctx) {
  TensorView& y = ctx.out(0);
  const int64_t rows = y.dims[0], bins = y.dims[1];
  const int64_t length = TRY(OneInt(ctx, 1, 1)), rate = TRY(OneInt(ctx, 2, 1));
  const double low = TRY(OneNumber(ctx.in(3))), high = TRY(OneNumber(ctx.in(4)));
  if (rate < 1 || !(low >= 0) || !(high >= low) || !std::isfinite(high))
    return Fail(Code::kInvalidArgument, "a sample rate of {} from {} to {} hertz", rate, low, high);
  const auto mel = [](double hertz) { return 2595 * std::log10(1 + hertz / 700); };
  const double step = (mel(high) - mel(low)) / double(bins + 2);
  // The spectrogram row at the edge of band i; the last rows may lie beyond the spectrum.
  const auto edge = [&](int64_t i) {
    const double hertz = 700 * (std::pow(10.0, (mel(low) + double(i) * step) / 2595) - 1);
    return std::min(double(rows), std::floor(double(length + 1) * hertz / double(rate)));
  };
  return VisitDType(y.dtype, "MelWeightMatrix", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (!kIsNumber<T>) {
      return Fail(Code::kInvalidArgument, "a matrix of {}", DTypeName(y.dtype));
    } else {
      for (int64_t i = 0; i < bins; ++i) {
        const double left = edge(i), center = edge(i + 1), right = edge(i + 2);
        for (int64_t r = 0; r < rows; ++r) {
          const auto at = double(r);
          double w = 0;
          if (at == center && (left == center || right == center))
            w = 1;
          else if (at >= left && at < center)
            w = (at - left) / (center - left);
          else if (at >= center && at < right)
            w = (right - at) / (right - center);
          y.mut<T>()[r * bins + i] = FromDouble<T>(w);
        }
      }
      return {};
    }
  });
}

Status SignalWindow::Infer(const Attrs& a, InferContext& ctx) {
  const auto size = TRY(OneInt(ctx, 0));
  if (size && *size < 0) return Fail(Code::kInvalidArgument, "a window of {} elements", *size);
  Dims out{size ? *size : kUnknownDim};
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(a.output_datatype, std::move(out)));
  return {};
}

Status SignalWindow::Fill(const Attrs& a, RunContext& ctx, double a0, double a1, double a2) {
  TensorView& y = ctx.out(0);
  const int64_t n = y.count();
  const auto period = double(a.periodic ? n : n - 1);
  return VisitDType(y.dtype, "a window", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (!kIsNumber<T>) {
      return Fail(Code::kInvalidArgument, "a window of {}", DTypeName(y.dtype));
    } else {
      for (int64_t i = 0; i < n; ++i) {
        const double x = period > 0 ? 2 * std::numbers::pi * double(i) / period : 0;
        // Of one element the symmetric window has no period.
        const bool whole = n == 1 && !a.periodic;
        y.mut<T>()[i] = FromDouble<T>(whole ? 1 : a0 + a1 * std::cos(x) + a2 * std::cos(2 * x));
      }
      return {};
    }
  });
}

Status Det::Infer(const Attrs&, InferContext& ctx) {
  const Type& x = ctx.input(0);
  if (!x.ranked) {
    ctx.Set(0, Type::Unranked(x.dtype));
    return {};
  }
  const size_t rank = x.dims.size();
  if (rank < 2 || !MergeDim(x.dims[rank - 1], x.dims[rank - 2]))
    return Fail(Code::kInvalidArgument, "{} holds no square matrices", ToString(x));
  ctx.Set(0, Type::Of(x.dtype, Dims(std::span<const int64_t>(x.dims.data(), rank - 2))));
  return {};
}

Status Det::Reference(const Attrs&, RunContext& ctx) {
  const TensorView& x = ctx.in(0);
  TensorView& y = ctx.out(0);
  const int64_t n = x.dims.back(), matrices = y.count();
  return VisitFloat(x.dtype, "Det", [&]<class T>(TypeTag<T>) -> Status {
    std::vector<double> m(size_t(n * n));
    for (int64_t k = 0; k < matrices; ++k) {
      for (size_t i = 0; i < m.size(); ++i) m[i] = Number(x.as<T>()[k * n * n + int64_t(i)]);
      const auto at = [&](int64_t r, int64_t c) -> double& { return m[size_t(r * n + c)]; };
      double det = 1;
      for (int64_t c = 0; c < n && det != 0; ++c) {
        int64_t pivot = c;
        for (int64_t r = c + 1; r < n; ++r)
          if (std::fabs(at(r, c)) > std::fabs(at(pivot, c))) pivot = r;
        if (pivot != c) {
          for (int64_t j = 0; j < n; ++j) std::swap(at(pivot, j), at(c, j));
          det = -det;
        }
        det *= at(c, c);
        if (at(c, c) == 0) break;
        for (int64_t r = c + 1; r < n; ++r) {
          const double f = at(r, c) / at(c, c);
          for (int64_t j = c; j < n; ++j) at(r, j) -= f * at(c, j);
        }
      }
      y.mut<T>()[k] = FromDouble<T>(det);
    }
    return {};
  });
}

std::span<const OpDef> ResizeOps() {
  static const OpDef ops[] = {
      Declare<Resize>("Resize", {.min_inputs = 1, .max_inputs = 4}),
      Declare<GridSample>("GridSample", {.min_inputs = 2, .max_inputs = 2}),
      Declare<AffineGrid>("AffineGrid", {.min_inputs = 2, .max_inputs = 2}),
      Declare<RoiAlign>("RoiAlign", {.min_inputs = 3, .max_inputs = 3}),
      Declare<ImageDecoder>("ImageDecoder", {}),
      Declare<Einsum>("Einsum", {.min_inputs = 1, .max_inputs = -1}),
      Declare<Det>("Det", {}),
      Declare<Dft>("DFT", {.min_inputs = 1, .max_inputs = 3}),
      Declare<Stft>("STFT", {.min_inputs = 2, .max_inputs = 4}),
      Declare<MelWeightMatrix>("MelWeightMatrix", {.min_inputs = 5, .max_inputs = 5}),
      Declare<HannWindow>("HannWindow", {}),
      Declare<HammingWindow>("HammingWindow", {}),
      Declare<BlackmanWindow>("BlackmanWindow", {}),
  };
  return ops;
}

}  // namespace dunlin
