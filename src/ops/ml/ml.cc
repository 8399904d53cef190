#include "ops/ml/ml.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dunlin {
namespace ml {

Result<Rows> RowsOf(std::span<const int64_t> dims) {
  if (dims.size() == 1) return Rows{1, dims[0]};
  if (dims.size() == 2) return Rows{dims[0], dims[1]};
  return Fail(Code::kInvalidArgument, "its input has extents {}, [rows, features] are needed",
              ToString(dims));
}

Status NeedNumbers(InferContext& ctx, int input) {
  const Type& t = ctx.input(input);
  if (t.kind != Type::Kind::kTensor && t.kind != Type::Kind::kOptional)
    return Fail(Code::kInvalidArgument, "input {} is {}, not a tensor", input, ToString(t));
  if (t.dtype == DType::kUndefined) return {};
  if (IsFloat(t.dtype) || IsInteger(t.dtype)) return {};
  return Fail(Code::kInvalidArgument, "input {} is {}, not numbers", input, DTypeName(t.dtype));
}

Result<int64_t> InferRows(InferContext& ctx) {
  TRY(NeedNumbers(ctx, 0));
  const Type& x = ctx.input(0);
  if (!x.ranked) return kUnknownDim;
  return TRY(RowsOf(x.dims)).count;
}

Result<PostTransform> ParsePostTransform(std::string_view name) {
  static constexpr std::string_view kNames[] = {"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO",
                                                "PROBIT"};
  const auto* it = std::find(std::begin(kNames), std::end(kNames), name);
  if (it == std::end(kNames))
    return Fail(Code::kInvalidArgument, "post_transform '{}' is none that exists", name);
  return PostTransform(it - std::begin(kNames));
}

namespace {

template <class T>
T Logistic(T v) {
  const T p = 1 / (1 + std::exp(-std::fabs(v)));
  return v < 0 ? 1 - p : p;
}

// The inverse of the error function by Winitzki's approximation with a = 0.147 (relative error
// 2e-3), which is what the operator's users compare with.
template <class T>
T Probit(T p) {
  const T x = 2 * p - 1;
  const T log = std::log((1 - x) * (1 + x));
  const T v = 2 / (T(3.14159) * T(0.147)) + T(0.5) * log;
  const T root = std::sqrt(std::sqrt(v * v - log / T(0.147)) - v);
  return T(1.41421356) * (x < 0 ? -root : root);
}

template <class T>
void Softmax(std::span<T> scores) {
  const T most = *std::max_element(scores.begin(), scores.end());
  T sum = 0;
  for (T& s : scores) sum += s = std::exp(s - most);
  for (T& s : scores) s /= sum;
}

// Scores of zero are votes nobody cast: they stay zero.
template <class T>
void SoftmaxZero(std::span<T> scores) {
  const T zero = T(1e-7), most = *std::max_element(scores.begin(), scores.end());
  T sum = 0;
  for (T& s : scores) {
    if (std::fabs(s) > zero)
      sum += s = std::exp(s - most);
    else
      s *= std::exp(-most);
  }
  for (T& s : scores) s /= sum;
}

}  // namespace

template <class T>
void Transform(PostTransform t, std::span<T> scores) {
  if (scores.size() < 2 && t != PostTransform::kProbit) return;
  switch (t) {
    case PostTransform::kNone:
      break;
    case PostTransform::kSoftmax:
      Softmax(scores);
      break;
    case PostTransform::kLogistic:
      for (T& s : scores) s = Logistic(s);
      break;
    case PostTransform::kSoftmaxZero:
      SoftmaxZero(scores);
      break;
    case PostTransform::kProbit:
      for (T& s : scores) s = Probit(s);
      break;
  }
}
template void Transform(PostTransform, std::span<float>);
template void Transform(PostTransform, std::span<double>);

void ExpandBinary(PostTransform t, SecondClass how, float* scores) {
  const float s = scores[0];
  scores[1] = s;
  scores[0] = how == SecondClass::kComplement ? 1 - s : -s;
  if (t == PostTransform::kLogistic) scores[0] = -s;  // a margin, whatever the weights are
  // Others of the transforms would change what already is a pair.
  if (t == PostTransform::kLogistic || t == PostTransform::kProbit)
    Transform(t, std::span<float>(scores, 2));
}

Status Labels::Check() const {
  if (ints.empty() == strings.empty())
    return Fail(Code::kInvalidArgument,
                "it has {} integers and {} strings as class labels; one of the two must be given",
                ints.size(), strings.size());
  return {};
}

void Labels::Write(int64_t index, TensorView& to, int64_t at) const {
  if (text())
    to.mut<std::string>()[at] = strings[size_t(index)];
  else
    to.mut<int64_t>()[at] = ints[size_t(index)];
}

void Labels::WriteBinary(bool positive, TensorView& to, int64_t at) const {
  if (size() == 2)
    Write(positive ? 1 : 0, to, at);
  else if (text())
    to.mut<std::string>()[at] = std::string(1, positive ? '1' : '0');
  else
    to.mut<int64_t>()[at] = positive ? 1 : 0;
}

}  // namespace ml

std::span<const OpDef> MlOps() {
  static const std::vector<OpDef> all = [] {
    std::vector<OpDef> v;
    for (const auto& part :
         {FeatureOps(), EncoderOps(), MapOps(), LinearOps(), SvmOps(), TreeOps()})
      v.insert(v.end(), part.begin(), part.end());
    return v;
  }();
  return all;
}

}  // namespace dunlin
