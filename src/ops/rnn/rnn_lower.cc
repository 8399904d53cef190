// Walks a sequence over kernels/rnn.h: the input projection of a chunk of steps as one matrix
// product, then the steps one after another. Batch rows that have ended drop out of a step.
#include <algorithm>
#include <cstring>

#include "kernels/gemm.h"
#include "kernels/rnn.h"
#include "ops/rnn/rnn.h"

namespace dunlin::rnn {
namespace {

// Work below this many multiply-adds is not worth handing to another thread. A step of one row does
// one per weight: so many weights take about 6 us at the 100 GB/s at which a core reads what its
// second-level cache cannot hold, and a hand-over costs 1 to 2 us.
constexpr int64_t kParallelMacs = 150'000;
// Floats of projected steps kept at a time: half of a 1 MiB second-level cache, so that they are
// still there when their step comes.
constexpr int64_t kChunkFloats = 128 * 1024;

// Which fast cell computes this node; nullopt: none does.
std::optional<RnnCell> FastCell(Cell cell, const RnnAttrs& attrs) {
  if (attrs.clip && *attrs.clip > 0) return std::nullopt;
  const auto activations = ParseActivations(cell, attrs);
  if (!activations) return std::nullopt;
  for (const Activations& a : *activations)
    if (a != activations->front()) return std::nullopt;
  if (cell == Cell::kRnn && activations->front()[0].kind == ActivationKind::kRelu)
    return RnnCell::kRelu;
  for (int i = 0; i < ActivationCount(cell); ++i)
    if (activations->front()[size_t(i)] != DefaultActivations(cell)[size_t(i)]) return std::nullopt;
  if (cell == Cell::kRnn) return RnnCell::kTanh;
  if (cell == Cell::kGru) return attrs.linear_before_reset ? RnnCell::kGruLinear : RnnCell::kGru;
  if (attrs.input_forget) return std::nullopt;
  return RnnCell::kLstm;
}

// Hands out 64-byte aligned pieces of the scratch memory; with a null base it only adds up their
// size.
class Carver {
 public:
  explicit Carver(std::byte* base) : base_(base) {}
  template <class T>
  T* Take(int64_t count) {
    T* p = reinterpret_cast<T*>(base_ + used_);
    used_ += (size_t(count) * sizeof(T) + 63) / 64 * 64;
    return p;
  }
  size_t used() const { return used_; }

 private:
  std::byte* base_;
  size_t used_ = 0;
};

// |h - reference| stays below 1e-5 for sums of gates below 10 in magnitude: each gate is within
// (I + H) ulp of its sum plus 6 ulp of its function, and gates contract errors of the state.
class RnnKernel final : public Kernel {
 public:
  RnnKernel(Cell kind, RnnCell cell, const RnnAttrs& attrs, const Geometry& g)
      : kind_(kind),
        cell_(cell),
        g_(g),
        panels_(RnnPanelsOf(cell, size_t(g.H))),
        input_panels_(MakeGemmPanels(int64_t(panels_.row()))),
        reverse_(attrs.direction == "reverse") {
    const int64_t per_step = std::max<int64_t>(1, g.B * int64_t(panels_.row()));
    chunk_ = std::clamp<int64_t>(kChunkFloats / per_step, 1, std::max<int64_t>(1, g.S));
  }

  Status Prepare(LowerContext& ctx);
  Status Run(RunContext& ctx) const override;
  size_t scratch_bytes() const override {
    return size_t(g_.D) * DirectionBytes() + size_t(g_.B) * sizeof(int64_t);
  }
  std::string_view name() const override {
    return kind_ == Cell::kLstm ? "rnn.lstm" : kind_ == Cell::kGru ? "rnn.gru" : "rnn.simple";
  }

 private:
  struct Scratch {
    explicit Scratch(std::byte* base, const RnnKernel& k);
    float *h[2], *c, *z, *reset, *projected;
    const float** x;
    const float** h_prev;
    float **h_next, **c_rows, **z_rows, **reset_rows;
    size_t bytes;
  };
  size_t DirectionBytes() const { return Scratch(nullptr, *this).bytes; }
  void RunDirection(RunContext& ctx, int d, const int64_t* lengths) const;
  void RunStep(RunContext& ctx, const RnnStep& step) const;
  // to[m] = bias + x[m] W, rows of panels_.row() floats.
  void Project(RunContext& ctx, const float* const* x, int64_t rows, const float* packed,
               const float* bias, float* to) const;
  int64_t Grain(RunContext& ctx, int64_t macs) const {
    const auto count = int64_t(panels_.count);
    return macs < kParallelMacs ? std::max<int64_t>(1, count)
                                : (count + ctx.threads() - 1) / ctx.threads();
  }
  const float* Packed(const Tensor& t, int d) const { return t.as<float>() + t.count() / g_.D * d; }

  Cell kind_;
  RnnCell cell_;
  Geometry g_;
  RnnPanels panels_;
  GemmPanels input_panels_;  // of the input projection, whose columns are in the order of panels_
  bool reverse_;
  int64_t chunk_ = 1;  // steps projected at a time
  Tensor w_;           // [D] packed for Gemm
  Tensor r_;           // [D][panels][K][width]
  Tensor bias_;  // [D][2][panels][width]: added to the projection, and to the recurrent product
};

RnnKernel::Scratch::Scratch(std::byte* base, const RnnKernel& k) {
  Carver carver(base);
  const int64_t B = k.g_.B, state = B * int64_t(k.panels_.state());
  for (float*& buffer : h) buffer = carver.Take<float>(state);
  c = carver.Take<float>(k.kind_ == Cell::kLstm ? state : 0);
  z = carver.Take<float>(k.cell_ == RnnCell::kGru ? state : 0);
  reset = carver.Take<float>(k.cell_ == RnnCell::kGru ? state : 0);
  projected = carver.Take<float>(k.chunk_ * B * int64_t(k.panels_.row()));
  x = carver.Take<const float*>(k.chunk_ * B);
  h_prev = carver.Take<const float*>(B);
  for (float*** rows : {&h_next, &c_rows, &z_rows, &reset_rows}) *rows = carver.Take<float*>(B);
  bytes = carver.used();
}

Status RnnKernel::Prepare(LowerContext& ctx) {
  const int64_t D = g_.D, H = g_.H, n = int64_t(panels_.gates) * H;
  const std::string recipe = fmt::format("rnn.{}.{}x{}", int(cell_), panels_.units, H);
  const auto pack = [&](const Tensor& t) -> Result<Tensor> {
    const int64_t k = t.dims()[2], floats = int64_t(panels_.packed(size_t(k)));
    Tensor out = TRY(Tensor::Create(DType::kF32, {D * floats}));
    for (int64_t d = 0; d < D; ++d)
      PackRnnWeights(panels_, t.as<float>() + d * n * k, size_t(H), size_t(k),
                     out.mut<float>() + d * floats);
    return out;
  };
  // The same columns for Gemm: a packed row of K = 1 is in the order of panels_.
  const auto pack_input = [&](const Tensor& t) -> Result<Tensor> {
    const int64_t k = t.dims()[2], rows = int64_t(panels_.row());
    Tensor ordered = TRY(Tensor::Create(DType::kF32, {k * rows}));
    std::vector<float> column(static_cast<size_t>(n));
    Tensor out = TRY(Tensor::Create(DType::kF32, {D * input_panels_.packed_floats(k)}));
    for (int64_t d = 0; d < D; ++d) {
      for (int64_t i = 0; i < k; ++i) {
        for (int64_t j = 0; j < n; ++j) column[size_t(j)] = t.as<float>()[(d * n + j) * k + i];
        PackRnnWeights(panels_, column.data(), size_t(H), 1, ordered.mut<float>() + i * rows);
      }
      PackGemm(input_panels_, {ordered.as<float>(), 1, k, 0, rows, 1}, 0, input_panels_.count,
               out.mut<float>() + d * input_panels_.packed_floats(k));
    }
    return out;
  };
  w_ = TRY(ctx.weights().Get(*ctx.value(kW), recipe + ".input", pack_input));
  r_ = TRY(ctx.weights().Get(*ctx.value(kR), recipe, pack));
  const auto row = int64_t(panels_.row());
  if (!ctx.has(kB)) {
    bias_ = TRY(Tensor::Zeros(DType::kF32, {D * 2 * row}));
    return {};
  }
  const auto pack_bias = [&](const Tensor& t) -> Result<Tensor> {
    Tensor out = TRY(Tensor::Create(DType::kF32, {D * 2 * row}));
    std::vector<float> sum(static_cast<size_t>(n));
    for (int64_t d = 0; d < D; ++d) {
      const float *of_w = t.as<float>() + d * 2 * n, *of_r = of_w + n;
      // The hidden gate of a linear GRU keeps R's bias inside the product that the reset gate
      // scales.
      const int64_t apart = cell_ == RnnCell::kGruLinear ? 2 * H : n;
      for (int64_t i = 0; i < n; ++i) sum[size_t(i)] = of_w[i] + (i < apart ? of_r[i] : 0);
      PackRnnBias(panels_, sum.data(), size_t(H), out.mut<float>() + d * 2 * row);
      PackRnnBias(panels_, of_r, size_t(H), out.mut<float>() + (d * 2 + 1) * row);
    }
    return out;
  };
  bias_ = TRY(ctx.weights().Get(*ctx.value(kB), recipe + ".bias", pack_bias));
  return {};
}

Status RnnKernel::Run(RunContext& ctx) const {
  if (g_.B == 0) return {};
  auto* lengths = reinterpret_cast<int64_t*>(static_cast<std::byte*>(ctx.scratch()) +
                                             size_t(g_.D) * DirectionBytes());
  for (int64_t b = 0; b < g_.B; ++b) lengths[b] = TRY(LengthOf(ctx, g_, b));
  const int64_t macs = g_.S * g_.B * int64_t(panels_.row()) * (g_.I + g_.H);
  ctx.ParallelFor(g_.D, macs < kParallelMacs ? 2 : 1, [&](int64_t begin, int64_t end) {
    for (int64_t d = begin; d < end; ++d) RunDirection(ctx, int(d), lengths);
  });
  return {};
}

void RnnKernel::RunStep(RunContext& ctx, const RnnStep& step) const {
  const int64_t grain = Grain(ctx, int64_t(step.rows * step.hidden * panels_.row()));
  for (int phase = 0; phase < RnnPhases(cell_); ++phase)
    ctx.ParallelFor(int64_t(panels_.count), grain, [&](int64_t begin, int64_t end) {
      RunRnnStep(cell_, panels_, step, phase, size_t(begin), size_t(end));
    });
}

void RnnKernel::Project(RunContext& ctx, const float* const* x, int64_t rows, const float* packed,
                        const float* bias, float* to) const {
  const auto row = int64_t(panels_.row());
  const GemmSplit split =
      SplitGemm(input_panels_, 1, rows, g_.I, std::max<int64_t>(1, rows), ctx.threads());
  ctx.ParallelFor(split.items(), split.grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const GemmSplit::Item item = split.item(i);
      GemmArgs a;
      a.rows = x + item.m_begin;
      a.m = item.m_end - item.m_begin;
      a.k = a.packed_rows = g_.I;
      a.packed = packed;
      a.c = to + item.m_begin * row;
      a.c_stride = row;
      a.epilogue.bias = bias;
      Gemm(input_panels_, a, item.panel_begin, item.panel_end);
    }
  });
}

void RnnKernel::RunDirection(RunContext& ctx, int d, const int64_t* lengths) const {
  const Scratch s(static_cast<std::byte*>(ctx.scratch()) + size_t(d) * DirectionBytes(), *this);
  const bool backwards = reverse_ || d == 1;
  const int64_t B = g_.B, H = g_.H, state = int64_t(panels_.state());
  const auto load = [&](int input, float* to) {
    std::memset(to, 0, size_t(B * state) * sizeof(float));
    for (int64_t b = 0; ctx.has(input) && b < B; ++b)
      std::copy_n(ctx.in(input).as<float>() + g_.state(d, b), H, to + b * state);
  };
  load(kInitialH, s.h[0]);
  if (kind_ == Cell::kLstm) load(kInitialC, s.c);
  const auto output = [&](int o) {
    return o < ctx.output_count() && ctx.wants(o) ? ctx.out(o).mut<float>() : nullptr;
  };
  float *y = output(kY), *y_h = output(kYh), *y_c = kind_ == Cell::kLstm ? output(kYc) : nullptr;
  const float* x = ctx.in(kX).as<float>();
  const float* bias = Packed(bias_, d);
  const auto place = [&](int64_t t, int64_t b) { return backwards ? lengths[b] - 1 - t : t; };

  RnnStep step;
  step.hidden = size_t(H);
  step.recurrent = Packed(r_, d);
  step.recurrent_bias = bias + panels_.row();
  step.h_prev = s.h_prev, step.h_next = s.h_next, step.c = s.c_rows, step.z = s.z_rows,
  step.reset = s.reset_rows;
  for (int64_t first = 0; first < g_.S; first += chunk_) {
    const int64_t last = std::min(first + chunk_, g_.S);
    int64_t rows = 0;
    for (int64_t t = first; t < last; ++t)
      for (int64_t b = 0; b < B; ++b)
        if (t < lengths[b]) s.x[rows++] = x + g_.x(place(t, b), b);
    Project(ctx, s.x, rows, Packed(w_, d), bias, s.projected);
    step.projected = s.projected;
    for (int64_t t = first; t < last; ++t) {
      step.rows = 0;
      for (int64_t b = 0; b < B; ++b) {
        if (t >= lengths[b]) continue;
        const int64_t at = b * state;
        s.h_prev[step.rows] = s.h[t & 1] + at;
        s.h_next[step.rows] = s.h[~t & 1] + at;
        s.c_rows[step.rows] = s.c + at;
        s.z_rows[step.rows] = s.z + at;
        s.reset_rows[step.rows++] = s.reset + at;
      }
      RunStep(ctx, step);
      step.projected += step.rows * panels_.row();
      for (int64_t b = 0; y != nullptr && b < B; ++b) {
        if (t < lengths[b])
          std::copy_n(s.h[~t & 1] + b * state, H, y + g_.y(place(t, b), d, b));
        else
          std::fill_n(y + g_.y(t, d, b), H, 0.0f);
      }
    }
  }
  for (int64_t b = 0; b < B; ++b) {
    if (y_h != nullptr) std::copy_n(s.h[lengths[b] & 1] + b * state, H, y_h + g_.state(d, b));
    if (y_c != nullptr) std::copy_n(s.c + b * state, H, y_c + g_.state(d, b));
  }
}

}  // namespace

Result<KernelPtr> Lower(Cell cell, const RnnAttrs& attrs, LowerContext& ctx) {
  const auto fast = FastCell(cell, attrs);
  if (!fast || ctx.input(kX).dtype != DType::kF32 || ctx.value(kW) == nullptr ||
      ctx.value(kR) == nullptr || (ctx.has(kB) && ctx.value(kB) == nullptr) ||
      (cell == Cell::kLstm && ctx.has(kP)))
    return nullptr;
  const Geometry g = GeometryOf(attrs, ctx.input(kX).dims, ctx.input(kR).dims);
  auto kernel = std::make_unique<RnnKernel>(cell, *fast, attrs, g);
  TRY(kernel->Prepare(ctx));
  return kernel;
}

}  // namespace dunlin::rnn
