// What the operators of ai.onnx.ml share: rows of features, class labels, post-transforms.
#pragma once

#include <algorithm>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ops/op.h"

namespace dunlin {

std::span<const OpDef> FeatureOps();  // on columns: Scaler, Imputer, OneHotEncoder …
std::span<const OpDef> EncoderOps();  // LabelEncoder, CategoryMapper
std::span<const OpDef> MapOps();      // ZipMap, DictVectorizer, CastMap
std::span<const OpDef> LinearOps();   // LinearRegressor, LinearClassifier
std::span<const OpDef> SvmOps();      // SVMRegressor, SVMClassifier
std::span<const OpDef> TreeOps();     // TreeEnsemble and its two older forms

namespace ml {

inline constexpr std::string_view kDomain = "ai.onnx.ml";

// ---- rows ----

// Examples as rows of features: [N, C], or [C] as one row.
struct Rows {
  int64_t count = 0, width = 0;
};
Result<Rows> RowsOf(std::span<const int64_t> dims);
// kInvalidArgument for a known type that is no number.
Status NeedNumbers(InferContext& ctx, int input);
// Checks input 0 and gives its number of rows, which may be unknown.
Result<int64_t> InferRows(InferContext& ctx);

// Rows of a tensor of any number as T, converted where they are not.
template <class T>
class RowReader {
 public:
  static Result<RowReader> Create(const TensorView& x) {
    RowReader r;
    r.x_ = &x;
    r.rows_ = TRY(RowsOf(x.dims));
    return r;
  }
  const Rows& rows() const { return rows_; }
  // Valid until `buffer` changes.
  const T* Row(int64_t i, std::vector<T>& buffer) const {
    if (x_->dtype == kDTypeOf<T>) return x_->as<T>() + i * rows_.width;
    buffer.resize(size_t(rows_.width));
    const Status s = VisitDType(x_->dtype, "a row", [&]<class X>(TypeTag<X>) -> Status {
      if constexpr (kIsNumber<X>) {
        const X* from = x_->as<X>() + i * rows_.width;
        for (int64_t k = 0; k < rows_.width; ++k) {
          if constexpr (kIsHalf<X>)
            buffer[size_t(k)] = T(float(from[k]));
          else
            buffer[size_t(k)] = T(from[k]);
        }
        return {};
      }
      return Fail(Code::kInvalidArgument, "features are numbers");
    });
    DUNLIN_CHECK(s.has_value(), "rows of what inference refused");
    return buffer.data();
  }

 private:
  const TensorView* x_ = nullptr;
  Rows rows_;
};

// ---- scores ----

// Numbered as TreeEnsemble's attribute.
enum class PostTransform : uint8_t { kNone, kSoftmax, kLogistic, kSoftmaxZero, kProbit };
Result<PostTransform> ParsePostTransform(std::string_view name);
// The scores of one row, in place; T: float, double. One score stands alone: only kProbit changes
// it, as in ONNX Runtime.
template <class T>
void Transform(PostTransform t, std::span<T> scores);

// The one score of a binary classifier is the second class's. The first one's is 1 - score where
// scores are probabilities, else -score.
enum class SecondClass : uint8_t { kComplement, kNegative };
// scores[0] becomes two scores, transformed.
void ExpandBinary(PostTransform t, SecondClass how, float* scores);

// ---- labels ----

// Integers or strings, one for each class.
struct Labels {
  std::vector<int64_t> ints;
  std::vector<std::string> strings;
  bool text() const { return !strings.empty(); }
  int64_t size() const { return int64_t(text() ? strings.size() : ints.size()); }
  DType dtype() const { return text() ? DType::kString : DType::kI64; }
  Status Check() const;  // exactly one kind is given
  // Label `index` to element `at` of a tensor of dtype().
  void Write(int64_t index, TensorView& to, int64_t at) const;
  // The second or the first of two labels; where there are not two, 1 or 0.
  void WriteBinary(bool positive, TensorView& to, int64_t at) const;
};

// ---- operators whose attributes are a model ----

// Where results go: a kernel's outputs are planned, a reference's may have to be allocated.
class Results {
 public:
  enum class Memory : uint8_t { kPlanned, kAllocated };
  Results(RunContext& ctx, Memory memory) : ctx_(ctx), memory_(memory) {}
  Result<TensorView*> Get(int output, DType dtype, const Dims& dims) const {
    if (memory_ == Memory::kAllocated) return ctx_.Allocate(output, dtype, dims);
    TensorView& y = ctx_.out(output);
    if (y.dtype == dtype && y.dims == dims) return &y;
    return Fail(Code::kInternal, "output {} was planned as {}{}, not {}{}", output,
                DTypeName(y.dtype), ToString(y.dims), DTypeName(dtype), ToString(dims));
  }
  // nullptr when nobody wants it.
  Result<TensorView*> GetIfWanted(int output, DType dtype, const Dims& dims) const {
    if (!ctx_.wants(output)) return nullptr;
    return Get(output, dtype, dims);
  }

 private:
  RunContext& ctx_;
  Memory memory_;
};

// M: Attrs, Infer, Prepare(attrs, element type of input 0) → Result<M>, Run(ctx, results), kKernel.
// The kernel prepares once, the reference every time.
template <class M>
class ModelKernel final : public Kernel {
 public:
  explicit ModelKernel(M model) : model_(std::move(model)) {}
  Status Run(RunContext& ctx) const override {
    return model_.Run(ctx, Results(ctx, Results::Memory::kPlanned));
  }
  std::string_view name() const override { return M::kKernel; }

 private:
  M model_;
};
template <class M>
struct ModelOp {
  using Attrs = typename M::Attrs;
  static Status Infer(const Attrs& a, InferContext& ctx) { return M::Infer(a, ctx); }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const M model = TRY(M::Prepare(a, ctx.in(0).dtype));
    return model.Run(ctx, Results(ctx, Results::Memory::kAllocated));
  }
  static Result<KernelPtr> Lower(const Attrs& a, LowerContext& ctx) {
    return std::make_unique<ModelKernel<M>>(TRY(M::Prepare(a, ctx.input(0).dtype)));
  }
};

// How many rows make a task of about 20 µs, at a nanosecond per operation.
inline int64_t RowGrain(int64_t operations_per_row) {
  return std::max<int64_t>(1, 20000 / std::max<int64_t>(1, operations_per_row));
}

}  // namespace ml
}  // namespace dunlin
