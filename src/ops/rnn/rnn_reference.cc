#include <algorithm>
#include <cmath>

#include "ops/rnn/rnn.h"

namespace dunlin::rnn {
namespace {

template <class T>
double Value(const T* p, int64_t i) {
  if constexpr (kIsHalf<T>)
    return double(float(p[i]));
  else
    return double(p[i]);
}

// One direction of one batch row: its weights, its state, one step at a time.
template <class T>
class Row {
 public:
  Row(Cell cell, const RnnAttrs& attrs, const Activations& activations, const Geometry& g,
      RunContext& ctx, int d)
      : cell_(cell), attrs_(attrs), act_(activations), I_(g.I), H_(g.H), n_(Gates(cell) * g.H) {
    w_ = ctx.in(kW).as<T>() + d * n_ * I_;
    r_ = ctx.in(kR).as<T>() + d * n_ * H_;
    b_ = ctx.has(kB) ? ctx.in(kB).as<T>() + d * 2 * n_ : nullptr;
    p_ = cell == Cell::kLstm && ctx.has(kP) ? ctx.in(kP).as<T>() + d * 3 * H_ : nullptr;
    h.resize(size_t(H_)), c.resize(size_t(H_)), next_.resize(size_t(H_)), reset_.resize(size_t(H_));
    x_part_.resize(size_t(n_)), h_part_.resize(size_t(n_));
  }

  void Step(const T* x) {
    for (int64_t j = 0; j < n_; ++j) {
      double sum = b_ != nullptr ? Value(b_, j) : 0;
      for (int64_t i = 0; i < I_; ++i) sum += Value(w_, j * I_ + i) * Value(x, i);
      x_part_[size_t(j)] = sum;
      h_part_[size_t(j)] = Recurrent(j, h);
    }
    if (cell_ == Cell::kLstm) StepLstm();
    if (cell_ == Cell::kGru) StepGru();
    if (cell_ == Cell::kRnn)
      for (int64_t j = 0; j < H_; ++j) next_[size_t(j)] = act_[0](Clip(Gate(0, j)));
    h.swap(next_);
  }

  std::vector<double> h, c;

 private:
  double Recurrent(int64_t row, const std::vector<double>& state) const {
    double sum = b_ != nullptr ? Value(b_, n_ + row) : 0;
    for (int64_t k = 0; k < H_; ++k) sum += Value(r_, row * H_ + k) * state[size_t(k)];
    return sum;
  }
  double Gate(int64_t gate, int64_t j) const {
    return x_part_[size_t(gate * H_ + j)] + h_part_[size_t(gate * H_ + j)];
  }
  double Peephole(int64_t gate, int64_t j, double cell) const {
    return p_ != nullptr ? Value(p_, gate * H_ + j) * cell : 0;
  }
  // "applied to the input of activations": of all of them.
  double Clip(double x) const {
    return attrs_.clip && *attrs_.clip > 0
               ? std::clamp(x, -double(*attrs_.clip), double(*attrs_.clip))
               : x;
  }

  void StepLstm() {
    for (int64_t j = 0; j < H_; ++j) {
      double& cell = c[size_t(j)];
      const double i = act_[0](Clip(Gate(0, j) + Peephole(0, j, cell)));
      const double f =
          attrs_.input_forget ? 1 - i : act_[0](Clip(Gate(2, j) + Peephole(2, j, cell)));
      cell = f * cell + i * act_[1](Clip(Gate(3, j)));
      const double o = act_[0](Clip(Gate(1, j) + Peephole(1, j, cell)));
      next_[size_t(j)] = o * act_[2](Clip(cell));
    }
  }

  void StepGru() {
    for (int64_t j = 0; j < H_; ++j) reset_[size_t(j)] = act_[0](Clip(Gate(1, j)));
    std::vector<double> gated = h;
    for (int64_t j = 0; j < H_; ++j) gated[size_t(j)] *= reset_[size_t(j)];
    for (int64_t j = 0; j < H_; ++j) {
      const double z = act_[0](Clip(Gate(0, j)));
      const double hidden = attrs_.linear_before_reset
                                ? reset_[size_t(j)] * h_part_[size_t(2 * H_ + j)]
                                : Recurrent(2 * H_ + j, gated);
      const double candidate = act_[1](Clip(x_part_[size_t(2 * H_ + j)] + hidden));
      next_[size_t(j)] = (1 - z) * candidate + z * h[size_t(j)];
    }
  }

  Cell cell_;
  const RnnAttrs& attrs_;
  Activations act_;
  int64_t I_, H_, n_;
  const T *w_, *r_, *b_, *p_;
  std::vector<double> next_, reset_, x_part_, h_part_;
};

template <class T>
void Store(const std::vector<double>& from, T* to) {
  for (size_t j = 0; j < from.size(); ++j) {
    if constexpr (kIsHalf<T>)
      to[j] = T(float(from[j]));
    else
      to[j] = T(from[j]);
  }
}

template <class T>
Status RunDirection(Cell cell, const RnnAttrs& attrs, const Activations& activations,
                    RunContext& ctx, int d) {
  const Geometry g = GeometryOf(attrs, ctx.in(kX).dims, ctx.in(kR).dims);
  const bool reverse = d == 1 || attrs.direction == "reverse";
  const auto output = [&](int o) {
    return o < ctx.output_count() && ctx.wants(o) ? ctx.out(o).mut<T>() : nullptr;
  };
  T *y = output(kY), *y_h = output(kYh), *y_c = output(kYc);
  Row<T> row(cell, attrs, activations, g, ctx, d);
  const auto load = [&](int input, int64_t b, std::vector<double>& into) {
    std::fill(into.begin(), into.end(), 0.0);
    if (!ctx.has(input)) return;
    for (int64_t j = 0; j < g.H; ++j)
      into[size_t(j)] = Value(ctx.in(input).as<T>(), g.state(d, b) + j);
  };
  const std::vector<double> zeros(size_t(g.H), 0.0);
  for (int64_t b = 0; b < g.B; ++b) {
    const int64_t length = TRY(LengthOf(ctx, g, b));
    load(kInitialH, b, row.h);
    if (cell == Cell::kLstm) load(kInitialC, b, row.c);
    for (int64_t t = 0; t < g.S; ++t) {
      if (t < length) {
        const int64_t s = reverse ? length - 1 - t : t;
        row.Step(ctx.in(kX).as<T>() + g.x(s, b));
        if (y != nullptr) Store(row.h, y + g.y(s, d, b));
      } else if (y != nullptr) {
        Store(zeros, y + g.y(t, d, b));
      }
    }
    if (y_h != nullptr) Store(row.h, y_h + g.state(d, b));
    if (y_c != nullptr) Store(row.c, y_c + g.state(d, b));
  }
  return {};
}

}  // namespace

Status Reference(Cell cell, const RnnAttrs& attrs, RunContext& ctx) {
  const auto activations = TRY(ParseActivations(cell, attrs));
  return VisitDType(ctx.in(kX).dtype, "recurrent operator", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (kIsFloat<T>) {
      for (size_t d = 0; d < activations.size(); ++d)
        TRY(RunDirection<T>(cell, attrs, activations[d], ctx, int(d)));
      return {};
    } else {
      return Fail(Code::kInvalidArgument, "X is not a float type");
    }
  });
}

}  // namespace dunlin::rnn
