// Operator by element type: every operator takes every type that its specification names (the union
// over the versions up to opset 24), and what it computes in a type is what it computes in the
// widest type of the kind, rounded. A type that an operator should take and does not fails here.
#include <functional>
#include <sstream>

#include "ops/testing.h"

namespace dunlin::testing {
namespace {

// Sets of types as bits.
using Types = uint64_t;
constexpr Types Bit(DType t) { return Types{1} << int(t); }
template <class... T>
constexpr Types Of(T... t) {
  return (Bit(t) | ...);
}
constexpr Types kFloat = Of(DType::kF32, DType::kF16, DType::kBF16, DType::kF64);
constexpr Types kSigned = Of(DType::kI8, DType::kI16, DType::kI32, DType::kI64);
constexpr Types kUnsigned = Of(DType::kU8, DType::kU16, DType::kU32, DType::kU64);
constexpr Types kNumber = kFloat | kSigned | kUnsigned;
constexpr Types kWideInt = Of(DType::kI32, DType::kI64, DType::kU32, DType::kU64);
constexpr Types kBytes = Of(DType::kI8, DType::kU8);
constexpr Types kBoolean = Bit(DType::kBool);
constexpr Types kAny = kNumber | kBoolean | Bit(DType::kString);
constexpr Types kF8 = Of(DType::kF8E4M3FN, DType::kF8E4M3FNUZ, DType::kF8E5M2, DType::kF8E5M2FNUZ);
constexpr Types kStored =
    kAny | kF8 | Of(DType::kI4, DType::kU4, DType::kF4E2M1, DType::kF8E8M0, DType::kI2, DType::kU2);

// Elements 1, 2, 3 (true, false; "1", "2" …), which all types but the smallest hold exactly.
Tensor Values(DType t, const Dims& dims, int64_t first = 0) {
  Tensor numbers = Tensor::Create(DType::kI64, dims).value();
  for (int64_t i = 0; i < numbers.count(); ++i) numbers.mut<int64_t>()[i] = (i + first) % 3 + 1;
  if (t == DType::kString) {
    Tensor s = Tensor::Create(t, dims).value();
    for (int64_t i = 0; i < s.count(); ++i)
      s.mut<std::string>()[i] = std::to_string(numbers.as<int64_t>()[i]);
    return s;
  }
  if (t == DType::kBool)
    for (int64_t i = 0; i < numbers.count(); ++i) numbers.mut<int64_t>()[i] %= 2;
  return Convert(numbers, t).value();
}
Tensor Ints(std::initializer_list<int64_t> v) {
  return Tensor::Of<int64_t>({int64_t(v.size())}, v);
}
Tensor Flags(std::initializer_list<bool> v) { return Tensor::Of<bool>({int64_t(v.size())}, v); }

struct Row {
  const char* ops;  // separated by spaces
  Types types;
  std::function<void(OpTest&, DType)> fill;
};

void One(OpTest& t, DType d) { t.Input(Values(d, {2, 3})); }
void Two(OpTest& t, DType d) { t.Input(Values(d, {2, 3})).Input(Values(d, {3}, 1)); }
void Three(OpTest& t, DType d) {
  t.Input(Values(d, {2, 3})).Input(Values(d, {3}, 1)).Input(Values(d, {2, 1}, 2));
}
void Image(OpTest& t, DType d) { t.Input(Values(d, {1, 2, 4, 4})); }
void Pool(OpTest& t, DType d) {
  t.Attr("kernel_shape", std::vector<int64_t>{2, 2});
  Image(t, d);
}
void Recurrent(OpTest& t, DType d, int gates) {
  t.Attr("hidden_size", 2).Outputs(2);
  const auto small = [&](const Dims& dims) {  // sigmoids of small numbers tell types apart
    Tensor v = Values(DType::kF64, dims);
    for (int64_t i = 0; i < v.count(); ++i) v.mut<double>()[i] /= 8;
    return Convert(v, d).value();
  };
  t.Input(small({3, 1, 2})).Input(small({1, 2 * gates, 2})).Input(small({1, 2 * gates, 2}));
}

const Row kRows[] = {
    // Elementwise
    {"Abs Sign", kNumber, One},
    {"Neg", kFloat | kSigned, One},
    {"Relu", kFloat | kSigned, One},
    {"Acos Acosh Asin Asinh Atan Atanh Ceil Celu Cos Cosh Elu Exp Floor Gelu HardSigmoid HardSwish "
     "LeakyRelu Log Mish Reciprocal Round Selu Sigmoid Sin Sinh Softplus Softsign Sqrt Tan Tanh "
     "Swish ThresholdedRelu",
     kFloat, One},
    {"Erf Shrink", kNumber, One},
    {"IsNaN IsInf", kFloat | kF8, One},
    {"Not", kBoolean, One},
    {"BitwiseNot", kSigned | kUnsigned, One},
    {"Add Sub Mul Div Max Min Less LessOrEqual Greater GreaterOrEqual", kNumber, Two},
    {"Sum Mean", kFloat, Three},
    {"Max Min", kNumber, Three},
    {"And Or Xor", kBoolean, Two},
    {"BitwiseAnd BitwiseOr BitwiseXor", kSigned | kUnsigned, Two},
    {"BitShift", kUnsigned, [](OpTest& t, DType d) { Two(t.Attr("direction", "LEFT"), d); }},
    {"Equal", kAny, Two},
    {"Mod", kNumber, [](OpTest& t, DType d) { Two(t.Attr("fmod", 1), d); }},
    {"Mod", kSigned | kUnsigned, Two},
    {"Pow", kFloat | kSigned | kUnsigned, Two},
    {"Pow", kFloat | kSigned | kUnsigned,  // an exponent of another type
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Values(DType::kF32, {3}, 1));
     }},
    {"PRelu", kFloat | kSigned | kUnsigned, Two},
    {"Clip", kNumber,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {5})).Input(Values(d, {}, 1)).Input(Values(d, {}, 1));
     }},
    {"Where", kAny,
     [](OpTest& t, DType d) {
       t.Input(Flags({true, false, true})).Input(Values(d, {2, 3})).Input(Values(d, {3}, 1));
     }},
    {"Identity", kStored, One},
    // Products
    {"MatMul", kFloat | kWideInt,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Values(d, {3, 2}));
     }},
    {"Gemm", kFloat | kWideInt,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Values(d, {3, 2})).Input(Values(d, {2}));
     }},
    {"Einsum", kNumber,
     [](OpTest& t, DType d) {
       t.Attr("equation", "ij,jk->ik").Input(Values(d, {2, 3})).Input(Values(d, {3, 2}));
     }},
    {"Det", kFloat,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 2}, 1));
     }},
    {"Conv", kFloat,
     [](OpTest& t, DType d) {
       Image(t, d);
       t.Input(Values(d, {3, 2, 2, 2})).Input(Values(d, {3}));
     }},
    {"ConvTranspose", kFloat,
     [](OpTest& t, DType d) {
       Image(t, d);
       t.Input(Values(d, {2, 3, 2, 2})).Input(Values(d, {3}));
     }},
    {"DeformConv", kFloat,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {1, 2, 3, 3})).Input(Values(d, {3, 2, 2, 2}));
       t.Input(Values(d, {1, 8, 2, 2}));
     }},
    // Pools, norms, recurrent networks
    {"AveragePool LpPool", kFloat, Pool},
    {"MaxPool", kFloat | kBytes, Pool},
    {"GlobalAveragePool GlobalMaxPool GlobalLpPool", kFloat, Image},
    {"MaxUnpool", kFloat,
     [](OpTest& t, DType d) {
       t.Attr("kernel_shape", std::vector<int64_t>{2, 2})
           .Attr("strides", std::vector<int64_t>{2, 2})
           .Input(Values(d, {1, 1, 1, 2}))
           .Input(Tensor::Of<int64_t>({1, 1, 1, 2}, {1, 6}));
     }},
    {"MaxRoiPool", kFloat,
     [](OpTest& t, DType d) {
       Image(t.Attr("pooled_shape", std::vector<int64_t>{2, 2}), d);
       t.Input(Convert(Tensor::Of<float>({1, 5}, {0, 0, 0, 3, 3}), d).value());
     }},
    {"RoiAlign", kFloat,
     [](OpTest& t, DType d) {
       Image(t, d);
       t.Input(Convert(Tensor::Of<float>({1, 4}, {0, 0, 3, 3}), d).value()).Input(Ints({0}));
     }},
    {"BatchNormalization", kFloat,
     [](OpTest& t, DType d) {
       Image(t, d);
       for (int i = 0; i < 4; ++i) t.Input(Values(d, {2}, i));
     }},
    {"InstanceNormalization", kFloat,
     [](OpTest& t, DType d) {
       Image(t, d);
       t.Input(Values(d, {2})).Input(Values(d, {2}, 1));
     }},
    {"GroupNormalization", kFloat,
     [](OpTest& t, DType d) {
       Image(t.Attr("num_groups", 2), d);
       t.Input(Values(d, {2})).Input(Values(d, {2}, 1));
     }},
    {"LayerNormalization RMSNormalization", kFloat,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Values(d, {3}, 1));
     }},
    {"LRN", kFloat, [](OpTest& t, DType d) { Image(t.Attr("size", 3), d); }},
    {"LpNormalization MeanVarianceNormalization", kFloat, Image},
    {"Softmax LogSoftmax Hardmax", kFloat, One},
    {"RNN", kFloat, [](OpTest& t, DType d) { Recurrent(t, d, 1); }},
    {"GRU", kFloat, [](OpTest& t, DType d) { Recurrent(t, d, 3); }},
    {"LSTM", kFloat, [](OpTest& t, DType d) { Recurrent(t, d, 4); }},
    {"NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss", kFloat,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Ints({2, 0}));
     }},
    // Reductions
    {"ReduceSum ReduceMean ReduceProd ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum "
     "ReduceLogSumExp",
     kFloat | kWideInt,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Ints({1}));
     }},
    {"ReduceMax ReduceMin", kFloat | kWideInt | kBytes | kBoolean,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Ints({1}));
     }},
    {"ArgMax ArgMin", kNumber, One},
    {"CumSum", kFloat | kWideInt,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Tensor::Scalar<int64_t>(1));
     }},
    {"TopK", kNumber,
     [](OpTest& t, DType d) {
       t.Outputs(2).Input(Values(d, {2, 3})).Input(Ints({2}));
     }},
    // Movement
    {"Reshape", kStored,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Ints({3, 2}));
     }},
    {"Flatten Shape Size Transpose", kStored, One},
    {"Squeeze", kStored,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {1, 3})).Input(Ints({0}));
     }},
    {"Unsqueeze", kStored, [](OpTest& t, DType d) { t.Input(Values(d, {3})).Input(Ints({0})); }},
    {"Pad", kStored,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Ints({0, 1, 1, 0})).Input(Values(d, {}, 2));
     }},
    {"Concat", kStored,
     [](OpTest& t, DType d) {
       t.Attr("axis", 1).Input(Values(d, {2, 3})).Input(Values(d, {2, 1}, 1));
     }},
    {"Split", kStored,
     [](OpTest& t, DType d) {
       t.Attr("axis", 1).Outputs(2).Input(Values(d, {2, 3})).Input(Ints({1, 2}));
     }},
    {"Slice", kStored,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Ints({1})).Input(Ints({3})).Input(Ints({1}));
     }},
    {"Gather", kStored,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {3, 3})).Input(Ints({2, 0}));
     }},
    {"GatherElements", kStored,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {3, 2})).Input(Tensor::Of<int64_t>({1, 2}, {2, 0}));
     }},
    {"GatherND", kStored,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {3, 2})).Input(Tensor::Of<int64_t>({1, 2}, {2, 0}));
     }},
    {"ScatterElements", kStored,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {3, 2})).Input(Tensor::Of<int64_t>({1, 2}, {2, 0}));
       t.Input(Values(d, {1, 2}, 1));
     }},
    {"ScatterElements", kNumber,
     [](OpTest& t, DType d) {
       t.Attr("reduction", "mul").Input(Values(d, {3, 2}));
       t.Input(Tensor::Of<int64_t>({1, 2}, {2, 0})).Input(Values(d, {1, 2}, 1));
     }},
    {"ScatterND", kStored,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {3, 2})).Input(Tensor::Of<int64_t>({1, 1}, {2}));
       t.Input(Values(d, {1, 2}, 1));
     }},
    {"Expand Tile", kStored,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {1, 3})).Input(Ints({2, 1}));
     }},
    {"DepthToSpace", kAny,
     [](OpTest& t, DType d) {
       t.Attr("blocksize", 2).Input(Values(d, {1, 4, 1, 2}));
     }},
    {"SpaceToDepth", kAny, [](OpTest& t, DType d) { Image(t.Attr("blocksize", 2), d); }},
    {"Compress", kAny,
     [](OpTest& t, DType d) {
       t.Attr("axis", 1).Input(Values(d, {2, 3})).Input(Flags({true, false, true}));
     }},
    {"ReverseSequence", kAny,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {3, 2})).Input(Ints({3, 1}));
     }},
    {"Trilu", kAny, One},
    {"Unique", kAny & ~kBoolean, [](OpTest& t, DType d) { t.Outputs(4).Input(Values(d, {5})); }},
    {"NonZero", kAny, One},
    {"EyeLike", kNumber | kBoolean, One},
    {"OneHot", kAny,
     [](OpTest& t, DType d) {
       t.Input(Ints({1, 0})).Input(Tensor::Scalar<int64_t>(3)).Input(Values(d, {2}));
     }},
    {"OneHot", kNumber,  // indices and depth of this type
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2})).Input(Values(d, {}, 2)).Input(Tensor::Of<float>({2}, {0, 1}));
     }},
    {"ConstantOfShape", kStored,
     [](OpTest& t, DType d) {
       t.Attr("value", Values(d, {1})).Input(Ints({2, 3}));
     }},
    {"CastLike", kStored,
     [](OpTest& t, DType d) { t.Input(Values(DType::kI64, {5})).Input(Values(d, {1})); }},
    {"Range", kFloat | kSigned,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {})).Input(Values(d, {}, 2)).Input(Values(d, {}));
     }},
    {"Resize", kNumber,
     [](OpTest& t, DType d) {
       t.Attr("mode", "nearest").Input(Values(d, {1, 1, 2, 2})).Absent();
       t.Input(Tensor::Of<float>({4}, {1, 1, 2, 2}));
     }},
    {"Resize", kFloat,
     [](OpTest& t, DType d) {
       t.Attr("mode", "cubic").Input(Values(d, {1, 1, 4, 4})).Absent();
       t.Input(Tensor::Of<float>({4}, {1, 1, 2, 2}));
     }},
    {"GridSample", kFloat,
     [](OpTest& t, DType d) {
       Image(t, d);
       t.Input(Convert(Tensor::Of<float>({1, 1, 2, 2}, {0, 0.5f, -0.25f, 1}), d).value());
     }},
    {"Col2Im", kNumber,  // not the booleans of its list: it adds
     [](OpTest& t, DType d) {
       t.Input(Values(d, {1, 4, 1})).Input(Ints({2, 2})).Input(Ints({2, 2}));
     }},
    {"CenterCropPad", kAny,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {2, 3})).Input(Ints({3, 2}));
     }},
    {"DFT", kFloat,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {1, 4, 1}));
     }},
    {"STFT", kFloat,
     [](OpTest& t, DType d) {
       t.Input(Values(d, {1, 8, 1})).Input(Tensor::Scalar<int64_t>(2)).Input(Values(d, {4}));
     }},
    {"Dropout", kFloat, One},
    {"SequenceConstruct", kAny, Two},
};

// The type whose result this one's must be, rounded: kUndefined for what is no number.
DType WidestOf(DType t, Types allowed) {
  if (Bit(t) & kFloat) return DType::kF64;
  if (!(Bit(t) & (kSigned | kUnsigned))) return DType::kUndefined;
  return Bit(DType::kI64) & allowed ? DType::kI64 : DType::kU64;
}
Tolerance RoundingOf(DType t) {
  const double unit = t == DType::kF16 ? 0x1p-10 : t == DType::kBF16 ? 0x1p-7 : 0x1p-22;
  return {.abs = unit, .rel = 2 * unit};
}

OpTest Make(const std::string& op, const Row& row, DType d) {
  OpTest t(op);
  row.fill(t, d);
  return t;
}

// What the operator lowers to for this type, if anything, does the same.
void ExpectKernelAgrees(const OpTest& t, const OpTest::Outcome& reference, DType d) {
  const auto kernel = t.Kernel({});
  ASSERT_TRUE(kernel.has_value()) << kernel.error().message;
  if (kernel->kernel.empty()) return;
  for (size_t o = 0; o < reference.outputs.size(); ++o)
    if (reference.outputs[o].defined()) {
      EXPECT_TRUE(Near(kernel->outputs[o], reference.outputs[o], RoundingOf(d)))
          << kernel->kernel << ", output " << o;
    }
}

void ExpectTakes(const std::string& op, const Row& row, DType d) {
  SCOPED_TRACE(op + " of " + std::string(DTypeName(d)));
  const OpTest test = Make(op, row, d);
  const auto got = test.Reference();
  ASSERT_TRUE(got.has_value()) << got.error().message;
  ExpectKernelAgrees(test, *got, d);
  const DType widest = WidestOf(d, row.types);
  if (widest == DType::kUndefined || d == widest) return;
  const auto want = Make(op, row, widest).Reference();
  ASSERT_TRUE(want.has_value()) << want.error().message;
  for (size_t o = 0; o < want->outputs.size(); ++o) {
    const Tensor& wide = want->outputs[o];
    if (!wide.defined()) continue;
    // Of this type, or of one that does not depend on it (an index).
    const DType out = got->outputs[o].dtype();
    EXPECT_TRUE(out == wide.dtype() || (wide.dtype() == widest && out == d)) << DTypeName(out);
    EXPECT_TRUE(Near(got->outputs[o], Convert(wide, out).value(), RoundingOf(out)))
        << "output " << o;
  }
}

TEST(Types, EveryOperatorTakesEveryTypeOfItsSpecification) {
  for (const Row& row : kRows) {
    std::istringstream ops(row.ops);
    for (std::string op; ops >> op;)
      for (int d = 1; d < kDTypeCount; ++d)
        if (Bit(DType(d)) & row.types) ExpectTakes(op, row, DType(d));
  }
}

}  // namespace
}  // namespace dunlin::testing
