// A harness for the tests of operators: one node, built by name, inferred, computed by its
// reference and by its kernel on every SIMD target and layout. Only for *_test.cc and *_bench.cc
// files.
//
//   OpTest t("Softmax");
//   t.Attr("axis", -1).Input(x);
//   EXPECT_TRUE(Near(t.Reference().value()[0], expected));
//   t.ExpectKernelMatches({.abs = 1e-6});   // kernel == reference: all targets, layouts, threads,
//   in place t.ExpectInferIsTotal();                 // unknown types and extents neither fail nor
//   contradict
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/byte_product.h"
#include "kernels/simd_targets.h"
#include "ops/op.h"

namespace dunlin::testing {

// A bound on |a - b|: abs + rel * |b|.
struct Tolerance {
  double abs = 0;
  double rel = 0;
};

// ---- Tensors -----------------------------------------------------------------------------------

// Reproducible values in [lo, hi).
// The nearest numbers that bf16 has, as f32.
inline Tensor RoundedToBf16(const Tensor& t) {
  return Convert(Convert(t, DType::kBF16).value(), DType::kF32).value();
}

inline Tensor RandomF32(const Dims& dims, float lo = -1, float hi = 1, uint32_t seed = 1) {
  Tensor t = Tensor::Create(DType::kF32, dims).value();
  std::mt19937 rng(seed);
  std::uniform_real_distribution<float> pick(lo, hi);
  for (int64_t i = 0; i < t.count(); ++i) t.mut<float>()[i] = pick(rng);
  return t;
}

template <class T>
Tensor RandomInts(const Dims& dims, int64_t lo, int64_t hi, uint32_t seed = 1) {
  Tensor t = Tensor::Create(kDTypeOf<T>, dims).value();
  std::mt19937 rng(seed);
  std::uniform_int_distribution<int64_t> pick(lo, hi);
  for (int64_t i = 0; i < t.count(); ++i) t.mut<T>()[i] = static_cast<T>(pick(rng));
  return t;
}

// The element bytes of a row-major [N, C, spatial…] moved to channels-last order, or back. The
// extents stay logical.
inline Tensor Relayout(const Tensor& t, Layout to) {
  Tensor out = Tensor::Create(t.dtype(), t.dims()).value();
  const Dims& d = t.dims();
  const int64_t size = DTypeBits(t.dtype()) / 8, n = d[0], c = d[1];
  const int64_t spatial = t.count() == 0 ? 0 : t.count() / (n * c);
  for (int64_t i = 0; i < n; ++i)
    for (int64_t j = 0; j < c; ++j)
      for (int64_t s = 0; s < spatial; ++s) {
        const int64_t row = (i * c + j) * spatial + s, last = (i * spatial + s) * c + j;
        const bool forward = to == Layout::kChannelsLast;
        std::memcpy(out.raw() + (forward ? last : row) * size,
                    t.raw() + (forward ? row : last) * size, size_t(size));
      }
  return out;
}

template <class T>
double AsDouble(T v) {
  if constexpr (kIsHalf<T>)
    return float(v);
  else
    return double(v);
}

// Equal types, extents and values within the tolerance; NaN equals NaN, infinities need equal
// signs.
inline ::testing::AssertionResult Near(const Tensor& actual, const Tensor& expected,
                                       Tolerance tol = {}) {
  if (actual.dtype() != expected.dtype() || actual.dims() != expected.dims())
    return ::testing::AssertionFailure()
           << DTypeName(actual.dtype()) << ToString(actual.dims()) << " instead of "
           << DTypeName(expected.dtype()) << ToString(expected.dims());
  if (IsNarrow(actual.dtype()))
    return Near(Convert(actual, DType::kF32).value(), Convert(expected, DType::kF32).value(), tol);
  ::testing::AssertionResult result = ::testing::AssertionSuccess();
  const Status s = VisitDType(actual.dtype(), "Near", [&]<class T>(TypeTag<T>) -> Status {
    for (int64_t i = 0; i < actual.count(); ++i) {
      const T a = actual.as<T>()[i], b = expected.as<T>()[i];
      if constexpr (kIsFloat<T>) {
        const double x = AsDouble(a), y = AsDouble(b);
        if (x == y || (std::isnan(x) && std::isnan(y)) ||
            (std::isfinite(x) && std::isfinite(y) &&
             std::fabs(x - y) <= tol.abs + tol.rel * std::fabs(y)))
          continue;
      } else if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, bool>) {
        if (a == b) continue;
      } else {
        if (a == b || std::fabs(double(a) - double(b)) <= tol.abs + tol.rel * std::fabs(double(b)))
          continue;
      }
      result = ::testing::AssertionFailure()
               << "element " << i << " of " << ToString(actual.dims()) << ": ";
      if constexpr (std::is_same_v<T, std::string>)
        result << a << " instead of " << b;
      else
        result << fmt::format("{:.9g} instead of {:.9g}", AsDouble(a), AsDouble(b));
      return {};
    }
    return {};
  });
  if (!s) return ::testing::AssertionFailure() << s.error().message;
  return result;
}

// ---- Contexts over plain tensors ---------------------------------------------------------------

// An input: a tensor, a sequence, or nothing (an omitted optional).
struct TestInput {
  Tensor tensor;
  std::optional<SequenceValue> sequence;
  bool constant = false;  // an initialiser: inference and lowering see its value
  bool present() const { return tensor.defined() || sequence.has_value(); }
};

inline Type TypeOf(const TestInput& in) {
  if (!in.sequence) return Type::Of(in.tensor.dtype(), in.tensor.dims());
  return in.sequence->type();
}

// Inference over given types; values are what the caller says is known.
class TestInferContext final : public InferContext {
 public:
  std::vector<std::optional<Type>> types;          // nullopt: absent
  std::vector<const Tensor*> values;               // nullptr: not known
  std::vector<std::optional<Dims>> shape_values;   // used where there is no value
  std::vector<std::optional<Type>> results;        // what Set said
  std::vector<std::optional<Dims>> shape_results;  // what SetShapeValue said
  std::vector<bool> wanted;
  std::function<Result<std::vector<Type>>(int, std::span<const Type>)> on_subgraph;

  int input_count() const override { return int(types.size()); }
  int output_count() const override { return int(results.size()); }
  bool has(int i) const override { return i < int(types.size()) && types[size_t(i)].has_value(); }
  bool wants(int o) const override { return o < int(results.size()) && wanted[size_t(o)]; }
  const Type& input(int i) const override { return *types[size_t(i)]; }
  const Tensor* value(int i) const override {
    return size_t(i) < values.size() ? values[size_t(i)] : nullptr;
  }
  std::optional<Dims> shape_value(int i) const override {
    if (const Tensor* t = value(i)) {
      if (t->rank() > 1 || !IsInteger(t->dtype())) return std::nullopt;
      const auto v = ToInts(*t).value();
      return Dims(std::span<const int64_t>(v));
    }
    return size_t(i) < shape_values.size() ? shape_values[size_t(i)] : std::nullopt;
  }
  void Set(int o, Type t) override {
    if (o < int(results.size())) results[size_t(o)] = std::move(t);
  }
  void SetShapeValue(int o, Dims d) override {
    if (o < int(results.size())) shape_results[size_t(o)] = std::move(d);
  }
  Result<std::vector<Type>> InferSubgraph(int branch, std::span<const Type> formal) override {
    if (on_subgraph) return on_subgraph(branch, formal);
    return Fail(Code::kUnimplemented, "this test gives no sub-graph");
  }
};

class TestRunContext final : public RunContext {
 public:
  struct Slot {
    Tensor tensor;  // the memory behind the view
    TensorView view;
    std::optional<SequenceValue> sequence;
    bool present = false;
  };
  std::vector<Slot> inputs, outputs;
  std::vector<bool> wanted;
  std::vector<SubgraphRunner*> subgraphs;
  ThreadPool* pool = nullptr;
  Tensor scratch_memory;

  int input_count() const override { return int(inputs.size()); }
  int output_count() const override { return int(outputs.size()); }
  bool has(int i) const override { return i < int(inputs.size()) && inputs[size_t(i)].present; }
  bool wants(int o) const override { return o < int(outputs.size()) && wanted[size_t(o)]; }
  const TensorView& in(int i) const override { return inputs[size_t(i)].view; }
  TensorView& out(int i) override { return outputs[size_t(i)].view; }
  Result<TensorView*> Allocate(int o, DType dtype, const Dims& dims) override {
    Slot& s = outputs[size_t(o)];
    s.tensor = TRY(Tensor::Create(dtype, dims));
    s.view = s.tensor.view();
    return &s.view;
  }
  Result<Tensor> TakeInput(int i) override { return inputs[size_t(i)].tensor; }
  Status SetOutput(int o, Tensor t) override {
    outputs[size_t(o)].view = t.view();
    outputs[size_t(o)].tensor = std::move(t);
    return {};
  }
  const SequenceValue* sequence(int i) const override {
    const auto& s = inputs[size_t(i)].sequence;
    return s ? &*s : nullptr;
  }
  Status SetSequence(int o, SequenceValue s) override {
    outputs[size_t(o)].sequence = std::move(s);
    return {};
  }
  SubgraphRunner* subgraph(int b) override {
    return size_t(b) < subgraphs.size() ? subgraphs[size_t(b)] : nullptr;
  }
  void* scratch() override { return scratch_memory.raw(); }
  void ParallelFor(int64_t count, int64_t grain, RangeFn fn) override {
    pool->ParallelFor(count, grain, fn);
  }
  int threads() const override { return pool->threads(); }
};

// Every packing is made anew: nothing outlives the test.
class TestWeightCache final : public WeightCache {
 public:
  Result<Tensor> Get(const Tensor& weight, const std::string&,
                     const std::function<Result<Tensor>(const Tensor&)>& pack) override {
    return pack(weight);
  }
};

class TestLowerContext final : public LowerContext {
 public:
  std::vector<std::optional<Type>> inputs;
  std::vector<Type> outputs;
  std::vector<const Tensor*> values;
  std::vector<Layout> input_layouts, output_layouts;
  std::vector<bool> wanted;
  TestWeightCache cache;
  int thread_count = 1;
  bool bf16 = false;

  int input_count() const override { return int(inputs.size()); }
  int output_count() const override { return int(outputs.size()); }
  bool has(int i) const override { return i < int(inputs.size()) && inputs[size_t(i)].has_value(); }
  bool wants(int o) const override { return o < int(outputs.size()) && wanted[size_t(o)]; }
  const Type& input(int i) const override { return *inputs[size_t(i)]; }
  const Type& output(int i) const override { return outputs[size_t(i)]; }
  const Tensor* value(int i) const override { return values[size_t(i)]; }
  Layout input_layout(int i) const override { return input_layouts[size_t(i)]; }
  Layout output_layout(int i) const override { return output_layouts[size_t(i)]; }
  WeightCache& weights() override { return cache; }
  int threads() const override { return thread_count; }
  bool bf16_products() const override { return bf16; }
};

// Sets attributes by their ONNX names; remembers which names were met.
class AttrSetter final : public AttrVisitor {
 public:
  using Value = std::variant<int64_t, float, std::string, Tensor, std::vector<int64_t>,
                             std::vector<float>, std::vector<std::string>, DType>;
  std::map<std::string, Value, std::less<>> values;
  int met = 0;

  void operator()(std::string_view n, int64_t& v) override { Take(n, v); }
  void operator()(std::string_view n, float& v) override { Take(n, v); }
  void operator()(std::string_view n, bool& v) override {
    int64_t i = v;
    Take(n, i);
    v = i != 0;
  }
  void operator()(std::string_view n, std::string& v) override { Take(n, v); }
  void operator()(std::string_view n, Tensor& v) override { Take(n, v); }
  void operator()(std::string_view n, std::vector<int64_t>& v) override { Take(n, v); }
  void operator()(std::string_view n, std::vector<float>& v) override { Take(n, v); }
  void operator()(std::string_view n, std::vector<std::string>& v) override { Take(n, v); }
  void operator()(std::string_view n, std::optional<int64_t>& v) override { TakeOptional(n, v); }
  void operator()(std::string_view n, std::optional<float>& v) override { TakeOptional(n, v); }
  void operator()(std::string_view n, DType& v) override { Take(n, v); }

 private:
  template <class T>
  bool Take(std::string_view name, T& v) {
    const auto it = values.find(name);
    if (it == values.end()) return false;
    ++met;
    const T* given = std::get_if<T>(&it->second);
    EXPECT_NE(given, nullptr) << "attribute " << name << " is given as another type";
    if (given != nullptr) v = *given;
    return true;
  }
  template <class T>
  void TakeOptional(std::string_view name, std::optional<T>& v) {
    T x{};
    if (Take(name, x)) v = x;
  }
};

// ---- The node under test -----------------------------------------------------------------------

class OpTest {
 public:
  explicit OpTest(std::string name, std::string domain = "") : name_(std::move(name)) {
    def_ = FindOp(name_, domain);
    if (def_ == nullptr) {
      ADD_FAILURE() << "no operator is called " << domain << "::" << name_;
      std::abort();
    }
    attrs_ = def_->make_attrs();
    Outputs(std::max(1, def_->min_outputs));
  }

  OpTest& Attr(std::string_view name, AttrSetter::Value v) {
    AttrSetter setter;
    setter.values.emplace(std::string(name), std::move(v));
    attrs_->Visit(setter);
    EXPECT_EQ(setter.met, 1) << name_ << " has no attribute " << name;
    return *this;
  }
  OpTest& Attr(std::string_view name, int v) { return Attr(name, AttrSetter::Value(int64_t{v})); }
  OpTest& Attr(std::string_view name, double v) { return Attr(name, AttrSetter::Value(float(v))); }
  OpTest& Attr(std::string_view name, const char* v) {
    return Attr(name, AttrSetter::Value(std::string(v)));
  }
  // For a test that knows the operator's struct: t.SetAttrs([](Attrs& a) { As<Conv::Attrs>(a).group
  // = 2; });
  OpTest& SetAttrs(const std::function<void(Attrs&)>& set) {
    set(*attrs_);
    return *this;
  }
  OpTest& Input(Tensor t) { return Add({std::move(t), {}, false}); }
  OpTest& Const(Tensor t) { return Add({std::move(t), {}, true}); }  // an initialiser
  OpTest& Sequence(SequenceValue s) { return Add({{}, std::move(s), false}); }
  OpTest& Absent() { return Add({}); }
  OpTest& Bf16Products() {
    bf16_ = true;
    return *this;
  }
  OpTest& Outputs(int n) {
    wanted_.assign(size_t(n), true);
    return *this;
  }
  OpTest& Unwanted(int output) {
    wanted_[size_t(output)] = false;
    return *this;
  }
  // The runners of sub-graphs, owned by the test.
  OpTest& Subgraphs(std::vector<SubgraphRunner*> s) {
    subgraphs_ = std::move(s);
    return *this;
  }
  OpTest& OnInferSubgraph(std::function<Result<std::vector<Type>>(int, std::span<const Type>)> f) {
    on_infer_subgraph_ = std::move(f);
    return *this;
  }

  const OpDef& def() const { return *def_; }

  // Inference with all input values known.
  Result<std::vector<Type>> Infer() const {
    TestInferContext ctx = MakeInfer();
    for (size_t i = 0; i < inputs_.size(); ++i)
      if (inputs_[i].tensor.defined()) ctx.values[i] = &inputs_[i].tensor;
    return Infer(ctx);
  }
  // Inference over types and values the test has put in the context (see MakeInfer).
  Result<std::vector<Type>> Infer(TestInferContext& ctx) const {
    TRY(def_->infer(*attrs_, ctx));
    std::vector<Type> types;
    for (const auto& r : ctx.results) types.push_back(r.value_or(Type{}));
    return types;
  }
  // A context with the inputs' types and no values.
  TestInferContext MakeInfer() const {
    TestInferContext ctx;
    for (const TestInput& in : inputs_)
      ctx.types.push_back(in.present() ? std::optional(TypeOf(in)) : std::nullopt);
    ctx.values.resize(inputs_.size());
    ctx.shape_values.resize(inputs_.size());
    ctx.results.resize(wanted_.size());
    ctx.shape_results.resize(wanted_.size());
    ctx.wanted = wanted_;
    ctx.on_subgraph = on_infer_subgraph_;
    return ctx;
  }

  struct Outcome {
    std::vector<Tensor> outputs;
    std::vector<SequenceValue> sequences;
    std::string kernel = "reference";
    const Tensor& operator[](size_t i) const { return outputs[i]; }
  };

  Result<Outcome> Reference() const {
    const std::vector<Type> types = TRY(Infer());
    ThreadPool pool(1);
    TestRunContext ctx = TRY(MakeRun(types, {}, {}, -1));
    ctx.pool = &pool;
    TRY(def_->impl->reference(*attrs_, ctx));
    return Finish(ctx, types, {}, "reference");
  }

  struct KernelOptions {
    bool channels_last =
        false;  // inputs of rank >= 3 come stored channels-last, where Layouts accepts it
    int threads = 1;
    bool in_place = false;  // output 0 over the input that OpImpl::in_place names
  };
  // The lowered kernel's result; an empty name in Outcome::kernel when the operator has no kernel
  // for this.
  Result<Outcome> Kernel(const KernelOptions& options) const {
    const std::vector<Type> types = TRY(Infer());
    if (def_->impl->lower == nullptr) return Outcome{{}, {}, ""};
    const LayoutPlan plan = Plan(types, options.channels_last);
    TestLowerContext lower = MakeLower(types, plan, options.threads);
    const KernelPtr kernel = TRY(def_->impl->lower(*attrs_, lower));
    if (kernel == nullptr) return Outcome{{}, {}, ""};
    ThreadPool pool(options.threads);
    TestRunContext ctx = TRY(MakeRun(types, plan.inputs, plan.outputs,
                                     options.in_place ? InPlaceInput(types, plan) : -1));
    ctx.pool = &pool;
    ctx.scratch_memory = TRY(Tensor::Create(DType::kU8, {int64_t(kernel->scratch_bytes())}));
    TRY(kernel->Run(ctx));
    return Finish(ctx, types, plan.outputs, std::string(kernel->name()));
  }

  // The kernel exists and agrees with the reference on every SIMD target, in both layouts (where
  // the operator has a Layouts function), with one thread and two, and in place where that is
  // declared; with codes among the inputs, whether the machine has fast products of bytes or not.
  void ExpectKernelMatches(Tolerance tol = {}) const {
    const auto reference = Reference();
    ASSERT_TRUE(reference.has_value()) << name_ << ": " << reference.error().message;
    const bool has_codes = std::ranges::any_of(inputs_, [](const TestInput& in) {
      return in.tensor.defined() &&
             (in.tensor.dtype() == DType::kU8 || in.tensor.dtype() == DType::kI8);
    });
    ForEachSimdTarget([&](const char* target) {
      for (const bool fast_bytes : {false, true}) {
        if (fast_bytes && !has_codes) continue;
        AssumeByteProductIsFast(fast_bytes);
        ExpectKernelMatches(*reference, tol,
                            fmt::format("{}{}", target, fast_bytes ? ", fast bytes" : ""));
        AssumeByteProductIsFast(std::nullopt);
      }
    });
  }

  // Inference with less knowledge neither fails nor says anything the exact result contradicts.
  void ExpectInferIsTotal() const {
    const auto exact = Infer();
    ASSERT_TRUE(exact.has_value()) << name_ << ": " << exact.error().message;
    using Blur = std::function<void(Type&)>;
    const std::pair<const char*, Blur> blurs[] = {
        {"values unknown", [](Type&) {}},
        {"extents unknown", [](Type& t) { std::fill(t.dims.begin(), t.dims.end(), kUnknownDim); }},
        {"first extent unknown",
         [](Type& t) {
           if (!t.dims.empty()) t.dims[0] = kUnknownDim;
         }},
        {"rank unknown", [](Type& t) { t.ranked = false, t.dims = {}; }},
        {"type unknown", [](Type& t) { t.dtype = DType::kUndefined; }},
        {"nothing known", [](Type& t) { t = Type{}; }},
    };
    for (const auto& [what, blur] : blurs) {
      SCOPED_TRACE(fmt::format("{}: {}", name_, what));
      TestInferContext ctx = MakeInfer();
      for (auto& t : ctx.types)
        if (t && t->kind == Type::Kind::kTensor) blur(*t);
      const auto got = Infer(ctx);
      ASSERT_TRUE(got.has_value()) << got.error().message;
      for (size_t o = 0; o < wanted_.size(); ++o) ExpectConsistent((*got)[o], (*exact)[o]);
    }
  }

 private:
  static constexpr size_t kGuardBytes = 64;
  static constexpr uint8_t kGarbage = 0xcd;  // what outputs hold before they are written

  OpTest& Add(TestInput in) {
    inputs_.push_back(std::move(in));
    return *this;
  }

  void ExpectKernelMatches(const Outcome& reference, Tolerance tol,
                           const std::string& target) const {
    for (const bool last : {false, true})
      for (const int threads : {1, 2})
        for (const bool in_place : {false, true}) {
          if ((last && def_->impl->layouts == nullptr) || (in_place && def_->impl->in_place == -1))
            continue;
          SCOPED_TRACE(fmt::format("{} on {}, {}, {} threads{}", name_, target,
                                   last ? "channels-last" : "row-major", threads,
                                   in_place ? ", in place" : ""));
          const auto got = Kernel({last, threads, in_place});
          ASSERT_TRUE(got.has_value()) << got.error().message;
          ASSERT_NE(got->kernel, "") << "no kernel for this case";
          for (size_t i = 0; i < wanted_.size(); ++i)
            if (wanted_[i]) {
              ASSERT_TRUE(Near(got->outputs[i], reference.outputs[i], tol)) << "output " << i;
            }
        }
  }

  static void ExpectConsistent(const Type& vague, const Type& exact) {
    if (vague.dtype != DType::kUndefined) {
      EXPECT_EQ(vague.dtype, exact.dtype);
    }
    if (!vague.ranked || !exact.ranked) return;
    ASSERT_EQ(vague.dims.size(), exact.dims.size());
    for (size_t i = 0; i < exact.dims.size(); ++i)
      if (IsKnown(vague.dims[i]) && IsKnown(exact.dims[i])) {
        EXPECT_EQ(vague.dims[i], exact.dims[i]) << "extent " << i;
      }
  }

  LayoutPlan Plan(const std::vector<Type>& types, bool channels_last) const {
    LayoutPlan plan;
    plan.inputs.assign(inputs_.size(), Layout::kRowMajor);
    plan.outputs.assign(wanted_.size(), Layout::kRowMajor);
    if (def_->impl->layouts == nullptr) return plan;
    std::vector<Type> in;
    std::vector<Layout> current;
    LayoutQuery query;
    for (const TestInput& i : inputs_) {
      in.push_back(i.present() ? TypeOf(i) : Type{});
      const bool last = channels_last && !i.constant && i.tensor.defined() && i.tensor.rank() >= 3;
      current.push_back(last ? Layout::kChannelsLast : Layout::kRowMajor);
      query.constant.push_back(i.constant);
    }
    query.inputs = in;
    query.outputs = types;
    query.current = current;
    return def_->impl->layouts(*attrs_, query);
  }

  TestLowerContext MakeLower(const std::vector<Type>& types, const LayoutPlan& plan,
                             int threads) const {
    TestLowerContext ctx;
    for (const TestInput& in : inputs_) {
      ctx.inputs.push_back(in.present() ? std::optional(TypeOf(in)) : std::nullopt);
      ctx.values.push_back(in.constant ? &in.tensor : nullptr);
    }
    ctx.outputs = types;
    ctx.input_layouts = plan.inputs;
    ctx.output_layouts = plan.outputs;
    ctx.wanted = wanted_;
    ctx.thread_count = threads;
    ctx.bf16 = bf16_;
    return ctx;
  }

  int InPlaceInput(const std::vector<Type>& types, const LayoutPlan& plan) const {
    for (size_t i = 0; i < inputs_.size(); ++i) {
      const int declared = def_->impl->in_place;
      const Tensor& t = inputs_[i].tensor;
      if ((declared == int(i) || declared == -2) && !inputs_[i].constant && t.defined() &&
          types[0].IsStatic() && t.bytes() == ByteSize(types[0].dtype, CountOf(types[0].dims)) &&
          plan.inputs[i] == plan.outputs[0] &&
          (declared != -2 || (t.dtype() == types[0].dtype && t.dims() == types[0].dims)))
        return int(i);
    }
    return -1;
  }

  Result<TestRunContext> MakeRun(const std::vector<Type>& types,
                                 const std::vector<Layout>& in_layouts,
                                 const std::vector<Layout>& out_layouts, int in_place) const {
    TestRunContext ctx;
    ctx.wanted = wanted_;
    ctx.subgraphs = subgraphs_;
    for (size_t i = 0; i < inputs_.size(); ++i) {
      TestRunContext::Slot slot;
      slot.present = inputs_[i].present();
      slot.sequence = inputs_[i].sequence;
      if (inputs_[i].tensor.defined()) {
        const bool last = i < in_layouts.size() && in_layouts[i] == Layout::kChannelsLast;
        slot.tensor = last                 ? Relayout(inputs_[i].tensor, Layout::kChannelsLast)
                      : int(i) == in_place ? TRY(inputs_[i].tensor.Clone())
                                           : inputs_[i].tensor;
        slot.view = slot.tensor.view();
        if (last) slot.view.layout = Layout::kChannelsLast;
      }
      ctx.inputs.push_back(std::move(slot));
    }
    for (size_t o = 0; o < wanted_.size(); ++o) {
      TestRunContext::Slot slot;
      if (wanted_[o] && types[o].IsStatic()) {
        slot.tensor = o == 0 && in_place >= 0
                          ? Tensor::Over(types[o].dtype, types[o].dims,
                                         ctx.inputs[size_t(in_place)].tensor.buffer())
                          : TRY(Guarded(types[o]));
        slot.view = slot.tensor.view();
        if (o < out_layouts.size()) slot.view.layout = out_layouts[o];
      }
      ctx.outputs.push_back(std::move(slot));
    }
    return ctx;
  }

  // A tensor with guard bytes behind it, which Finish checks.
  static Result<Tensor> Guarded(const Type& t) {
    if (t.dtype == DType::kString) return Tensor::Create(t.dtype, t.dims);
    const auto bytes = size_t(ByteSize(t.dtype, CountOf(t.dims)));
    auto buffer = TRY(Buffer::Allocate(bytes + kGuardBytes));
    std::memset(buffer->data(), kGarbage, bytes + kGuardBytes);
    return Tensor::Over(t.dtype, t.dims, std::move(buffer));
  }

  Result<Outcome> Finish(TestRunContext& ctx, const std::vector<Type>& types,
                         const std::vector<Layout>& layouts, std::string kernel) const {
    Outcome r;
    r.kernel = std::move(kernel);
    for (size_t o = 0; o < wanted_.size(); ++o) {
      Tensor t = ctx.outputs[o].tensor;
      r.sequences.push_back(ctx.outputs[o].sequence.value_or(SequenceValue{}));
      if (t.defined()) {
        if (t.dtype() != DType::kString)
          for (size_t b = size_t(t.bytes()); b < t.buffer()->bytes() && t.offset() == 0; ++b)
            if (t.buffer()->bytes() == size_t(t.bytes()) + kGuardBytes &&
                uint8_t(t.buffer()->data()[b]) != kGarbage) {
              ADD_FAILURE() << name_ << ": output " << o << " was written behind its end";
              break;
            }
        ExpectConsistent(types[o], Type::Of(t.dtype(), t.dims()));
        if (o < layouts.size() && layouts[o] == Layout::kChannelsLast)
          t = Relayout(t, Layout::kRowMajor);
      }
      r.outputs.push_back(std::move(t));
    }
    return r;
  }

  std::string name_;
  const OpDef* def_;
  std::unique_ptr<Attrs> attrs_;
  std::vector<TestInput> inputs_;
  std::vector<bool> wanted_;
  bool bf16_ = false;
  std::vector<SubgraphRunner*> subgraphs_;
  std::function<Result<std::vector<Type>>(int, std::span<const Type>)> on_infer_subgraph_;
};

}  // namespace dunlin::testing
