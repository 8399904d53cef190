#include <algorithm>
#include <cmath>
#include <limits>
#include <random>

#include "kernels/winograd.h"
#include "ops/conv/conv_kernel.h"

namespace dunlin {
namespace {

// The largest rounding error, relative to the largest result, that a layer may show in the check
// made when its weights are packed: a twentieth of the 1e-3 that answers of whole models may be
// off.
constexpr float kMaxError = 5e-5f;

WinogradGeometry GeometryOf(const ConvShape& s, int m) {
  WinogradGeometry g;
  g.m = m;
  for (size_t i = 0; i < 2; ++i) {
    const WindowAxis& a = s.window[i];
    g.conv.axis[i + 1] = {a.in, a.out, a.kernel, a.stride, a.dilation, a.pad_begin};
  }
  g.conv.pixel_stride = s.channels;
  g.batch = s.batch;
  g.channels = s.channels;
  g.outputs = g.out_stride = s.outputs;
  return g;
}

// Without it the points of a tile would often lie a multiple of 4 KiB apart, all in one set of the
// first-level cache.
constexpr int64_t kSkew = 16;

class WinogradKernel final : public Kernel {
 public:
  WinogradGeometry geometry;
  ActivationParams act;
  GemmPanels panels;
  Tensor packed;                  // points x panels, then the measured error
  Tensor zeros;                   // channels
  int64_t chunk = 1, chunks = 1;  // tiles that go through the three stages together
  int64_t lists = 1;              // of chunks, each with scratch memory of its own; 0: one chunk,
                                  // its stages split over the threads
  std::string label;

  int64_t point_floats() const { return panels.packed_floats(geometry.channels); }
  int64_t packed_floats() const { return geometry.points() * point_floats(); }
  // Floats from one point's tiles to the next's.
  int64_t v_stride() const { return chunk * geometry.channels + kSkew; }
  int64_t s_stride() const { return chunk * geometry.outputs + kSkew; }
  int64_t chunk_floats() const { return geometry.points() * (v_stride() + s_stride()); }
  float error() const { return packed.as<float>()[packed_floats()]; }

  bool reads_strided(int input) const override { return input == 0 || input == 3; }
  bool writes_strided(int) const override { return true; }
  std::string_view name() const override { return label; }
  InputUse uses(int input) const override {
    return input == 1 && packed.defined() ? InputUse::kNothing : InputUse::kValues;
  }
  size_t scratch_bytes() const override {
    return size_t(std::max<int64_t>(1, lists) * chunk_floats()) * sizeof(float);
  }

  // One point of `count` tiles, panels [begin, end).
  void Multiply(const float* weights, const float* v, float* s, int64_t count, int64_t begin,
                int64_t end) const {
    GemmArgs a;
    a.k = geometry.channels;
    a.m = count;
    a.packed = weights;
    a.packed_rows = geometry.channels;
    a.c = s;
    a.c_stride = geometry.outputs;
    GemmStrided(panels, a, v, geometry.channels, begin, end);
  }

  Status Run(RunContext& ctx) const override {
    const float* const x = ctx.in(0).as<float>();
    const float* const weights = packed.as<float>();
    float* const y = ctx.out(0).mut<float>();
    WinogradGeometry placed = geometry;
    placed.conv.pixel_stride = ctx.in(0).pixel_step();
    placed.out_stride = ctx.out(0).pixel_step();
    float* const scratch = static_cast<float*>(ctx.scratch());
    GemmEpilogue e;
    e.bias = ctx.has(2) ? ctx.in(2).as<float>() : nullptr;
    e.residual = ctx.has(3) ? ctx.in(3).as<float>() : nullptr;
    e.residual_stride = ctx.has(3) ? ctx.in(3).pixel_step() : 0;
    e.activation = act;
    const int64_t tiles = geometry.tiles(), points = geometry.points();
    if (lists > 0) {
      ctx.ParallelFor(lists, 1, [&](int64_t begin, int64_t end) {
        for (int64_t list = begin; list < end; ++list) {
          float* const v = scratch + list * chunk_floats();
          float* const s = v + points * v_stride();
          for (int64_t i = chunks * list / lists; i < chunks * (list + 1) / lists; ++i) {
            const int64_t t0 = i * chunk, t1 = std::min(t0 + chunk, tiles);
            WinogradInput(placed, x, zeros.as<float>(), t0, t1, v, v_stride());
            for (int64_t p = 0; p < points; ++p)
              Multiply(weights + p * point_floats(), v + p * v_stride(), s + p * s_stride(),
                       t1 - t0, 0, panels.count);
            WinogradOutput(placed, s, s_stride(), t0, t1, e, y);
          }
        }
      });
      return {};
    }
    float* const v = scratch;
    float* const s = v + points * v_stride();
    ctx.ParallelFor(tiles, 2, [&](int64_t begin, int64_t end) {
      WinogradInput(placed, x, zeros.as<float>(), begin, end, v + begin * geometry.channels,
                    v_stride());
    });
    ctx.ParallelFor(points * panels.count, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t p = i / panels.count, panel = i % panels.count;
        Multiply(weights + p * point_floats(), v + p * v_stride(), s + p * s_stride(), tiles, panel,
                 panel + 1);
      }
    });
    ctx.ParallelFor(tiles, 2, [&](int64_t begin, int64_t end) {
      WinogradOutput(placed, s + begin * geometry.outputs, s_stride(), begin, end, e, y);
    });
    return {};
  }

  Result<Tensor> Pack(const Tensor& w, WeightCache& cache) const {
    Tensor result = TRY(Tensor::Create(DType::kF32, {packed_floats() + 1}));
    float* const to = result.mut<float>();
    cache.ParallelFor(panels.count, 1, [&](int64_t begin, int64_t end) {
      WinogradWeights(geometry, panels, w.as<float>(), begin, end, to);
    });
    to[packed_floats()] = MeasureError(w.as<float>(), to, cache);
    return result;
  }

 private:
  // One tile of random pixels from [-1, 1), in double and by this method: the largest difference
  // in a sample of output channels, relative to the channel's largest result; infinity when
  // something is not finite.
  float MeasureError(const float* w, const float* weights, WeightCache& cache) const {
    constexpr int64_t kSample = 16;
    const int m = geometry.m, size = m + 2;
    const int64_t c = geometry.channels, o = geometry.outputs, points = geometry.points();
    WinogradGeometry g = geometry;
    g.batch = 1;
    for (int axis : {1, 2}) g.conv.axis[axis] = {size, m, 3, 1, 1, 0};
    std::mt19937 random(1);
    std::vector<float> x(size_t(size * size * c)), v(size_t(points * c)), s(size_t(points * o));
    std::vector<float> y(size_t(m * m * o));
    for (float& f : x) f = float(int32_t(random())) * 0x1p-31f;
    WinogradInput(g, x.data(), zeros.as<float>(), 0, 1, v.data(), c);
    cache.ParallelFor(points, 1, [&](int64_t begin, int64_t end) {
      for (int64_t p = begin; p < end; ++p)
        Multiply(weights + p * point_floats(), &v[size_t(p * c)], &s[size_t(p * o)], 1, 0,
                 panels.count);
    });
    WinogradOutput(g, s.data(), o, 0, 1, {}, y.data());
    const int64_t step = std::max<int64_t>(1, o / kSample);
    std::vector<float> errors(size_t(o), 0.0f);
    cache.ParallelFor(o, 1, [&](int64_t begin, int64_t end) {
      for (int64_t n = begin; n < end; ++n)
        errors[size_t(n)] = !AllFinite(w + n * c * 9, c * 9) ? kInfinity
                            : n % step == 0                  ? ChannelError(w, x, y, n)
                                                             : 0.0f;
    });
    return *std::ranges::max_element(errors);
  }

  static constexpr float kInfinity = std::numeric_limits<float>::infinity();

  // Zero times what is not finite is NaN.
  static bool AllFinite(const float* w, int64_t count) {
    constexpr int64_t kLanes = 16;  // sums side by side, so that the compiler can make vectors
    float sums[kLanes] = {};
    int64_t i = 0;
    for (; i + kLanes <= count; i += kLanes)
      for (int64_t j = 0; j < kLanes; ++j) sums[j] += w[i + j] * 0.0f;
    for (; i < count; ++i) sums[0] += w[i] * 0.0f;
    return std::ranges::all_of(sums, [](float sum) { return sum == 0.0f; });
  }

  // Of output channel n; x and y are the tile's pixels, channels last.
  float ChannelError(const float* w, const std::vector<float>& x, const std::vector<float>& y,
                     int64_t n) const {
    const int m = geometry.m, size = m + 2;
    const int64_t c = geometry.channels;
    double sums[16] = {};
    for (int64_t i = 0; i < c; ++i)
      for (int t = 0; t < 9; ++t) {
        const double weight = double(w[(n * c + i) * 9 + t]);
        const float* const at = x.data() + (t / 3 * size + t % 3) * c + i;
        for (int p = 0; p < m * m; ++p) sums[p] += weight * double(at[(p / m * size + p % m) * c]);
      }
    double difference = 0, largest = 0;
    for (int64_t p = 0; p < m * m; ++p) {
      const double off = std::abs(sums[p] - double(y[size_t(p * geometry.outputs + n)]));
      if (!std::isfinite(off)) return kInfinity;
      difference = std::max(difference, off);
      largest = std::max(largest, std::abs(sums[p]));
    }
    return difference > 0 ? float(difference / largest) : 0.0f;
  }
};

// Cost models, in multiply-adds of a core at its peak. A weight that does not stay in the second
// level streams in the time of so many multiply-adds, so few rows do not pay for it: measured on
// 512 x 512 channels and 7 x 7 pixels, where F(2,3) takes 0.9 of the time of the direct product.
constexpr double kStream = 12;
// What a product takes against its peak.
constexpr double kProduct = 1.15;
// Estimated from the loads, stores and sums of AVX-512: a transform of 16 channels takes 110 cycles
// of 32 multiply-adds for a 6 x 6 input tile and 70 for its output, 45 and 25 for a 4 x 4 tile.
struct TransformCost {
  double input, output;
};
constexpr TransformCost kCostTwo = {90, 50}, kCostFour = {220, 140};
// Weights of half a second-level cache of 1 MiB: threads that share out the tiles can each read
// all.
constexpr int64_t kOwnWeights = 1 << 17;
// Floats of scratch memory, 256 MiB: wide layers on machines of many cores use fewer of them.
constexpr int64_t kMaxScratch = 1 << 26;
constexpr int64_t kRows = 48;  // whole register tiles of every width

int64_t ChunkOf(const WinogradGeometry& g) {
  // What fits half of a second-level cache of 1 MiB, but enough to make use of streamed weights.
  const int64_t fits = (1 << 17) / (g.points() * (g.channels + g.outputs));
  const int64_t wanted = std::max(kRows, fits / kRows * kRows);
  // Equal chunks: a tile left over, as 7 x 7 of them leave one, would stream all weights again.
  const int64_t chunks = std::max<int64_t>(1, (g.tiles() + wanted / 2) / wanted);
  return (g.tiles() + chunks - 1) / chunks;
}

// How many lists to cut the tiles into where few chunks leave threads without work, each of a
// register tile and 3 microseconds of multiply-adds at least.
int64_t PiecesOf(const WinogradGeometry& g, int64_t threads) {
  constexpr int64_t kLeastTiles = 6, kLeastWork = 1 << 18;
  const int64_t work = g.tiles() * g.points() * g.channels * g.outputs;
  return std::clamp<int64_t>(std::min(g.tiles() / kLeastTiles, work / kLeastWork), 1, 2 * threads);
}

double CostOf(const WinogradGeometry& g) {
  const double c = double(g.channels), o = double(g.outputs), tiles = double(g.tiles());
  const TransformCost t = g.m == 2 ? kCostTwo : kCostFour;
  const double chunks = std::ceil(tiles / double(ChunkOf(g)));
  return tiles * (t.input * c + t.output * o) +
         double(g.points()) * c * o * std::max(tiles * kProduct, tiles + chunks * kStream);
}

}  // namespace

bool WinogradFits(const ConvShape& s) {
  // Fewer channels leave the products too short for what the transforms cost.
  constexpr int64_t kLeastChannels = 16;
  return s.window.size() == 2 && s.group == 1 && s.channels >= kLeastChannels &&
         s.outputs >= kLeastChannels && std::ranges::all_of(s.window, [](const WindowAxis& a) {
           return a.kernel == 3 && a.stride == 1 && a.dilation == 1;
         });
}

int WinogradTile(const ConvShape& s, bool bf16_products) {
  if (!WinogradFits(s)) return 0;
  const double pixels = double(s.batch * s.out_pixels());
  // A bf16 product does two multiply-adds in the time of one, and streams half the bytes.
  const double direct = 9 * double(s.channels * s.outputs) *
                        std::max(pixels * kProduct, pixels + kStream) / (bf16_products ? 2 : 1);
  // A gain of a tenth is not worth the error.
  double best = 0.9 * direct;
  int m = 0;
  for (const int tile : {2, 4})
    if (const double cost = CostOf(GeometryOf(s, tile)); cost < best) best = cost, m = tile;
  return m;
}

Result<KernelPtr> LowerWinograd(const ConvShape& shape, int m, const ActivationParams& act,
                                LowerContext& ctx) {
  const Tensor* const w = ctx.value(1);
  if (w == nullptr) return KernelPtr();
  auto k = std::make_unique<WinogradKernel>();
  k->geometry = GeometryOf(shape, m);
  k->act = act;
  k->panels = MakeGemmPanels(shape.outputs);
  k->zeros = TRY(Tensor::Zeros(DType::kF32, {shape.channels}));
  k->chunk = ChunkOf(k->geometry);
  const int64_t tiles = k->geometry.tiles(), threads = ctx.threads();
  k->chunks = (tiles + k->chunk - 1) / k->chunk;
  // Two lists a thread even out what a disturbed core loses.
  k->lists = threads == 1 ? 1 : std::min(k->chunks, 2 * threads);
  if (threads > 1 && k->chunks < 2 * threads) {
    if (k->packed_floats() <= kOwnWeights) {
      const int64_t pieces = std::max(k->chunks, PiecesOf(k->geometry, threads));
      k->chunk = (tiles + pieces - 1) / pieces;
      k->lists = k->chunks = (tiles + k->chunk - 1) / k->chunk;
    } else if (k->geometry.points() * tiles * (shape.channels + shape.outputs) <= kMaxScratch) {
      k->chunk = tiles;
      k->lists = 0;
    }
  }
  if (k->lists > 0) k->lists = std::clamp<int64_t>(kMaxScratch / k->chunk_floats(), 1, k->lists);
  const std::string recipe =
      fmt::format("winograd {} lanes {} panels {} outputs {} channels {}", m, k->panels.lanes,
                  k->panels.count, shape.outputs, shape.channels);
  k->packed = TRY(
      ctx.weights().Get(*w, recipe, [&](const Tensor& t) { return k->Pack(t, ctx.weights()); }));
  if (!(k->error() <= kMaxError)) return KernelPtr();
  k->label = fmt::format("conv.winograd_{0}x{0} (error {1:.0e})", m, k->error());
  return KernelPtr(std::move(k));
}

}  // namespace dunlin
