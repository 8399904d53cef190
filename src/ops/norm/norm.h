// The parts of the normalisation family's table, and what they share.
#pragma once

#include <vector>

#include "ops/elementwise/numeric.h"
#include "ops/op.h"
#include "ops/reduce/axes.h"

namespace dunlin {

std::vector<OpDef>
ChannelNormOps();  // BatchNormalization, InstanceNormalization, GroupNormalization, LRN
std::vector<OpDef> LayerNormOps();   // LayerNormalization, RMSNormalization
std::vector<OpDef> VectorNormOps();  // LpNormalization, MeanVarianceNormalization
OpDef LrnOp();

// [N, C, S]; a vector [N] counts as one channel.
struct ChannelSplit {
  int64_t batch = 1, channels = 1, spatial = 1;
};
inline ChannelSplit SplitChannels(const Dims& d) {
  ChannelSplit s;
  for (size_t i = 0; i < d.size(); ++i)
    (i == 0 ? s.batch : i == 1 ? s.channels : s.spatial) *= d[i];
  return s;
}

// The elements of a float tensor as doubles.
inline Result<std::vector<double>> ToDoubles(std::string_view name, const TensorView& t) {
  std::vector<double> v(static_cast<size_t>(t.count()));
  TRY(VisitTypes<Floats>(t.dtype, name, [&]<class T>(TypeTag<T>) -> Status {
    for (size_t i = 0; i < v.size(); ++i) v[i] = Widen(t.as<T>()[i]);
    return {};
  }));
  return v;
}

// Input i, when its extents are known, is a vector of `extent` elements (when that is known).
inline Status CheckVector(const InferContext& ctx, std::string_view name, int i, int64_t extent) {
  if (!ctx.has(i) || !ctx.input(i).ranked) return {};
  const Dims& d = ctx.input(i).dims;
  if (d.rank() != 1 || (IsKnown(d[0]) && IsKnown(extent) && d[0] != extent))
    return Fail(Code::kInvalidArgument, "{}: input {} has extents {}, not [{}]", name, i,
                ToString(d), extent);
  return {};
}

// Mean and variance (of the population) of n values `stride` apart.
struct Moments {
  double mean = 0, variance = 0;
};
template <class T>
Moments MomentsOf(const T* x, int64_t n, int64_t stride = 1) {
  Moments m;
  for (int64_t i = 0; i < n; ++i) m.mean += Widen(x[i * stride]);
  m.mean /= double(n);
  for (int64_t i = 0; i < n; ++i) {
    const double d = Widen(x[i * stride]) - m.mean;
    m.variance += d * d;
  }
  m.variance /= double(n);
  return m;
}

}  // namespace dunlin
