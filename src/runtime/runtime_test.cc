// Plans: whatever is optimised, laid out and packed must give what the reference gives.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <random>

#include "passes/testing.h"
#include "runtime/testing.h"

namespace dunlin {
namespace {

// What only moves elements of x, and of another value of its height and width.
ValueId Moved(GraphBuilder& b, ValueId x, ValueId other) {
  using Ints = std::vector<int64_t>;
  const Dims d = b.graph().value(x).type.dims;
  const int64_t C = d[1], H = d[2], W = d[3];
  const auto ints = [&](Ints v) { return b.Const(Tensor::Ints(v)); };
  switch (b.rng() % 5) {
    case 0:
      return b.Add("Transpose", {b.Add("Transpose", {x}, {{"perm", Ints{0, 2, 3, 1}}})},
                   {{"perm", Ints{0, 3, 1, 2}}});
    case 1:
      return b.Add("Reshape", {b.Add("Reshape", {x, ints({C, H * W})}), ints({1, C, H, W})});
    case 2:
      return b.Add("Concat", {x, other, x}, {{"axis", int64_t{1}}});
    case 3: {  // a channel shuffle, of two groups if it can be
      const int64_t groups = C % 2 == 0 ? 2 : C;
      const ValueId split = b.Add("Reshape", {x, ints({1, groups, C / groups, H, W})});
      return b.Add("Reshape", {b.Add("Transpose", {split}, {{"perm", Ints{0, 2, 1, 3, 4}}}),
                               ints({1, C, H, W})});
    }
    default: {
      const int64_t from = int64_t(b.rng()) % C, to = from + 1 + int64_t(b.rng()) % (C - from);
      return b.Add("Slice", {x, ints({from}), ints({to}), ints({1})});
    }
  }
}

// Narrow convolutions of one input, in part with a depthwise convolution behind.
ValueId Heads(GraphBuilder& b, ValueId x, std::mt19937& rng, std::vector<ValueId>& live) {
  ValueId sum = ValueId::kNone;
  for (int i = 0; i < 3; ++i) {
    const int64_t M = 1 + int64_t(rng() % 9), C = b.graph().value(x).type.dims[1];
    ValueId y = b.Add("Conv", {x, b.Weights({M, C, 1, 1}, -0.5f, 0.5f)});
    if (rng() % 4 != 0)
      y = b.Add("Conv", {y, b.Weights({M, 1, 3, 3})},
                {{"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"group", M}});
    live.push_back(y);
    y = b.Add("ReduceMean", {y, b.Const(Tensor::Ints(std::vector<int64_t>{1}))});
    sum = i == 0 ? y : b.Add("Add", {sum, y});
  }
  return sum;
}

// A random network of convolutions, pools, elementwise operators, reshapes and products over [1, C,
// H, W] values.
std::unique_ptr<Graph> RandomGraph(std::mt19937& rng, std::vector<Dims>& inputs) {
  GraphBuilder b;
  b.rng.seed(rng());
  const int64_t H = 3 + int64_t(rng() % 9), W = 3 + int64_t(rng() % 9);
  std::vector<ValueId> live;
  for (int i = 0; i < 2; ++i) {
    inputs.push_back({1 + int64_t(rng() % 2) * 0, 1 + int64_t(rng() % 20), H, W});
    live.push_back(b.Input(inputs.back()));
  }
  const auto dims = [&](ValueId v) { return b.graph().value(v).type.dims; };
  const auto pick = [&] { return live[rng() % live.size()]; };
  const int steps = 4 + int(rng() % 16);
  for (int i = 0; i < steps; ++i) {
    const ValueId x = pick();
    const Dims d = dims(x);
    const int64_t C = d[1];
    ValueId y = x;
    switch (rng() % 18) {
      case 0: {
        const int64_t M = 1 + int64_t(rng() % 36);
        y = b.Add("Conv", {x, b.Weights({M, C, 3, 3}, -0.3f, 0.3f), b.Weights({M})},
                  {{"pads", std::vector<int64_t>{1, 1, 1, 1}}});
        break;
      }
      case 1:
        y = b.Add("Conv", {x, b.Weights({1 + int64_t(rng() % 20), C, 1, 1}, -0.5f, 0.5f)});
        break;
      case 2:
        y = b.Add("Conv", {x, b.Weights({C, 1, 3, 3})},
                  {{"pads", std::vector<int64_t>{1, 1, 1, 1}}, {"group", C}});
        break;
      case 3:
        y = b.Add("Relu", {x});
        break;
      case 4:
        y = b.Add("Sigmoid", {x});
        break;
      case 5:
        y = b.Add("BatchNormalization",
                  {x, b.Weights({C}), b.Weights({C}), b.Weights({C}), b.Weights({C}, 0.5f, 2)});
        break;
      case 6:
        y = b.Add("MaxPool", {x},
                  {{"kernel_shape", std::vector<int64_t>{3, 3}},
                   {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
        break;
      case 7:
        y = b.Add("Mul", {x, b.Add("GlobalAveragePool", {x})});
        break;
      case 8:
        y = b.Add("Mul", {x, b.Weights({C, 1, 1})});
        break;
      case 9: {
        const ValueId other = pick();
        y = dims(other) == d ? b.Add("Add", {x, other})
                             : b.Add("Concat", {x, other}, {{"axis", int64_t{1}}});
        break;
      }
      case 10:
        y = b.Add("Tanh", {b.Add("MatMul", {x, b.Weights({W, W}, -0.3f, 0.3f)})});
        break;
      case 11:
        y = b.Add("Clip", {x, b.Scalar(-0.5f), b.Scalar(0.75f)});
        break;
      case 12:
        y = Heads(b, x, rng, live);
        break;
      default:
        y = Moved(b, x, pick());
        break;
    }
    if (dims(y)[1] <= 96) live.push_back(y);
  }
  return b.Finish({live.back(), pick(), pick()});
}

constexpr ChainOptions kChainAll = {0, 1, int64_t{1} << 40, 1};

TEST(Plan, RandomGraphsGiveWhatTheReferenceGives) {
  const auto seed = std::random_device{}();
  Runner runner;
  for (int round = 0; round < 60; ++round) {
    std::mt19937 rng(unsigned(seed + unsigned(round)));
    std::vector<Dims> dims;
    const auto g = RandomGraph(rng, dims);
    std::vector<Tensor> inputs;
    for (const Dims& d : dims) inputs.push_back(Random(d, rng));
    const std::string where = "seed " + std::to_string(seed + unsigned(round)) + "\n" + g->ToText();
    const auto want = runner.Run(*g, PlanMode::kReference, inputs, 1);
    ASSERT_TRUE(want.has_value()) << want.error().message << where;
    for (const int threads : {1, 2}) {
      // As it is, and every possible chain in bands of one row.
      runner.chains = round % 2 == 0 ? ChainOptions() : kChainAll;
      const auto got = runner.Run(*g, PlanMode::kFast, inputs, threads);
      ASSERT_TRUE(got.has_value()) << got.error().message << where;
      for (size_t i = 0; i < want->size(); ++i)
        ExpectClose((*got)[i].tensor, (*want)[i].tensor, where);
    }
  }
}

// Pointwise, depth-wise and pointwise with the residual over its own input: what a chain must not
// spoil. Strides, dilation, padding and batches vary.
std::unique_ptr<Graph> Block(int64_t batch, int64_t stride, int64_t dilation, Dims& input,
                             bool read_twice) {
  GraphBuilder b;
  input = {batch, 5, 23, 19};
  const ValueId x = b.Add("Relu", {b.Input(input)});
  const ValueId wide =
      b.Add("Relu", {b.Add("Conv", {x, b.Weights({17, 5, 1, 1}), b.Weights({17})})});
  const ValueId deep =
      b.Add("Conv", {wide, b.Weights({17, 1, 3, 3})},
            {{"group", int64_t{17}},
             {"strides", std::vector<int64_t>{stride, stride}},
             {"dilations", std::vector<int64_t>{dilation, dilation}},
             {"pads", std::vector<int64_t>{dilation, dilation, dilation, dilation}}});
  ValueId y = b.Add("Conv", {deep, b.Weights({5, 17, 1, 1}), b.Weights({5})});
  if (stride == 1) y = b.Add("Add", {y, x});
  y = b.Add("Relu", {y});
  return read_twice ? b.Finish({y, wide}) : b.Finish({y});
}

TEST(Chain, GivesWhatTheReferenceGivesInBandsOfAnyHeight) {
  std::mt19937 rng(7);
  Runner runner;
  for (const int64_t batch : {1, 3})
    for (const int64_t stride : {1, 2, 3})
      for (const int64_t dilation : {1, 4})
        for (const int64_t band_bytes : {1, 8000, 1 << 20}) {
          Dims dims;
          const auto g = Block(batch, stride, dilation, dims, false);
          const std::vector<Tensor> x = {Random(dims, rng)};
          const auto want = runner.Run(*g, PlanMode::kReference, x, 1);
          runner.chains = {0, band_bytes, 1 << 20, 2};
          for (const int threads : {1, 2}) {
            const auto got = runner.Run(*g, PlanMode::kFast, x, threads);
            ASSERT_TRUE(want && got);
            ExpectClose((*got)[0].tensor, (*want)[0].tensor,
                        fmt::format("batch {} stride {} dilation {} band {} threads {}", batch,
                                    stride, dilation, band_bytes, threads));
          }
        }
}

// Windows that overlap again and again: a link keeps rows for the next one, which keeps others.
TEST(Chain, KeepsRowsForEveryLinkOfALongOne) {
  std::mt19937 rng(11);
  for (const int64_t stride : {1, 2, 4}) {
    GraphBuilder b;
    const Dims dims = {2, 6, 37, 9};
    ValueId v = b.Add("Relu", {b.Input(dims)});
    for (int i = 0; i < 3; ++i) {
      v = b.Add("Conv", {v, b.Weights({6, 6, 1, 1}), b.Weights({6})});
      v = b.Add("Conv", {v, b.Weights({6, 1, 3, 3})},
                {{"group", int64_t{6}},
                 {"strides", std::vector<int64_t>{i == 1 ? stride : 1, 1}},
                 {"pads", std::vector<int64_t>{1, 1, 1, 1}}});
    }
    const auto g = b.Finish({v});
    const std::vector<Tensor> x = {Random(dims, rng)};
    Runner runner;
    const auto want = runner.Run(*g, PlanMode::kReference, x, 1);
    for (const int64_t band_bytes : {1, 6000, 20000}) {
      runner.chains = {0, band_bytes, 1 << 20, 2};
      const auto got = runner.Run(*g, PlanMode::kFast, x, 2);
      ASSERT_TRUE(want && got);
      ExpectClose((*got)[0].tensor, (*want)[0].tensor,
                  fmt::format("stride {} band {}", stride, band_bytes));
    }
  }
}

std::vector<std::string> Kernels(const Graph& g, const Dims& input, const ChainOptions& chains) {
  ProgramContext context;
  context.weights = MakeWeightCache();
  context.chains = chains;
  const auto plan = BuildPlan(g, std::vector<Type>{Type::Of(DType::kF32, input)}, context);
  EXPECT_TRUE(plan.has_value());
  std::vector<std::string> names;
  for (const Step& s : (*plan)->steps) names.emplace_back(s.kernel->name());
  return names;
}
bool HasChain(const std::vector<std::string>& kernels) {
  return std::ranges::any_of(kernels, [](const auto& k) { return k.starts_with("chain "); });
}

TEST(Chain, TakesInWhatWouldSpillAndNothingElse) {
  Dims dims;
  const auto g = Block(1, 1, 1, dims, false);
  EXPECT_TRUE(HasChain(Kernels(*g, dims, kChainAll)));
  EXPECT_FALSE(HasChain(Kernels(*g, dims, {})));  // all of it fits the cache
  ChainOptions light = kChainAll;
  light.weight_bytes = 1;
  EXPECT_FALSE(HasChain(Kernels(*g, dims, light)));
}

TEST(Chain, KeepsAnImageThatSomebodyElseReads) {
  Dims dims;
  const auto g = Block(1, 1, 1, dims, true);
  for (const std::string& k : Kernels(*g, dims, kChainAll))
    EXPECT_NE(k, "chain pointwise+depthwise+pointwise");
  std::mt19937 rng(7);
  Runner runner;
  const std::vector<Tensor> x = {Random(dims, rng)};
  const auto want = runner.Run(*g, PlanMode::kReference, x, 1);
  runner.chains = kChainAll;
  const auto got = runner.Run(*g, PlanMode::kFast, x, 2);
  ASSERT_TRUE(want && got);
  for (size_t i = 0; i < 2; ++i) ExpectClose((*got)[i].tensor, (*want)[i].tensor, "");
}

TEST(Chain, SharesAmongAllThreadsWhatDoesNotOverlap) {
  GraphBuilder b;
  const Dims dims = {1, 5, 23, 19};
  const ValueId wide = b.Add("Conv", {b.Input(dims), b.Weights({16, 5, 1, 1})});
  const auto g = b.Finish({b.Add("Conv", {b.Add("Relu", {wide}), b.Weights({5, 16, 1, 1})})});
  const auto scratch = [&](int threads) -> int64_t {
    ProgramContext context;
    context.weights = MakeWeightCache();
    context.chains = {0, 1, 1 << 20, 14};  // bands of one row
    context.threads = threads;
    const auto plan = BuildPlan(*g, std::vector<Type>{Type::Of(DType::kF32, dims)}, context);
    if (!plan.has_value()) return -1;
    for (const Step& s : (*plan)->steps)
      if (s.kernel->name() == "chain pointwise+pointwise") return s.scratch_bytes;
    return 0;
  };
  EXPECT_EQ(scratch(1), 19 * 16 * 4);
  EXPECT_EQ(scratch(8), 8 * 19 * 16 * 4);
}

// A dense block: every layer normalises all that was made before, which lies in parts of the last
// Concat's memory.
TEST(Chain, BeginsWithANormalisationOfAPart) {
  std::mt19937 rng(5);
  for (const int64_t batch : {1, 3})
    for (const int64_t band_bytes : {1, 8000, 1 << 20}) {
      GraphBuilder b;
      const Dims dims = {batch, 5, 23, 19};
      std::vector<ValueId> made = {b.Add("Conv", {b.Input(dims), b.Weights({18, 5, 1, 1})})};
      int64_t channels = 18;
      for (const int64_t more : {7, 16, 3}) {
        const ValueId all =
            made.size() == 1 ? made[0] : b.Add("Concat", made, {{"axis", int64_t{1}}});
        const ValueId norm =
            b.Add("BatchNormalization", {all, b.Weights({channels}), b.Weights({channels}),
                                         b.Weights({channels}), b.Weights({channels}, 0.5f, 2)});
        const ValueId narrow =
            b.Add("Conv", {b.Add("Relu", {norm}), b.Weights({6, channels, 1, 1}), b.Weights({6})});
        made.push_back(b.Add("Conv", {narrow, b.Weights({more, 6, 3, 3})},
                             {{"pads", std::vector<int64_t>{1, 1, 1, 1}}}));
        channels += more;
      }
      const auto g = b.Finish({b.Add("Concat", made, {{"axis", int64_t{1}}})});
      Runner runner;
      runner.chains = {0, band_bytes, 1 << 20, 2};
      EXPECT_EQ(std::ranges::count(Kernels(*g, dims, runner.chains), "chain affine+pointwise"), 3);
      const std::vector<Tensor> x = {Random(dims, rng)};
      const auto want = runner.Run(*g, PlanMode::kReference, x, 1);
      for (const int threads : {1, 2}) {
        const auto got = runner.Run(*g, PlanMode::kFast, x, threads);
        ASSERT_TRUE(want && got);
        ExpectClose((*got)[0].tensor, (*want)[0].tensor,
                    fmt::format("batch {} band {} threads {}", batch, band_bytes, threads));
      }
    }
}

// Attention as exporters write it, with a mask that fills: constant, constant with a row of its
// own, or an input.
TEST(Plan, AttentionGivesWhatItsPartsGive) {
  std::mt19937 rng(3);
  Runner runner;
  for (const int filled : {0, 1, 2, 3, 4, 5}) {
    GraphBuilder b;
    const Dims dims{2, 7, 3, 8};
    const auto heads = [&](std::vector<int64_t> perm) {
      return b.Add("Transpose", {b.Input(dims)}, {{"perm", std::move(perm)}});
    };
    ValueId q = heads({0, 2, 1, 3}), k = heads({0, 2, 3, 1});
    const ValueId v = heads({0, 2, 1, 3});
    // The scale stands behind the product or, as newer exporters have it, ahead of it.
    if (filled == 1) {
      q = b.Add("Mul", {q, b.Scalar(0.6f)});
      k = b.Add("Div", {k, b.Scalar(1.5f)});
    }
    ValueId scores = b.Add("MatMul", {q, k});
    if (filled != 1) scores = b.Add("Div", {scores, b.Scalar(2.5f)});
    Tensor holes = *Tensor::Create(DType::kBool, {7, 7});
    for (int64_t i = 0; i < 49; ++i) holes.mut<bool>()[i] = i % 7 > i / 7 || (filled == 2 && i < 7);
    if (filled > 0) {
      const ValueId mask =
          filled == 3 || filled == 4 ? b.Input({7, 7}, DType::kBool) : b.Const(holes);
      const ValueId fill = b.Scalar(-1e9f);
      // From 4 on the mask tells what stays.
      scores =
          filled >= 4 ? b.Add("Where", {mask, scores, fill}) : b.Add("Where", {mask, fill, scores});
    }
    const auto g = b.Finish({b.Add("Transpose", {b.Add("MatMul", {b.Add("Softmax", {scores}), v})},
                                   {{"perm", std::vector<int64_t>{0, 2, 1, 3}}})});
    std::vector<Tensor> x = {Random(dims, rng), Random(dims, rng), Random(dims, rng)};
    if (filled == 3 || filled == 4) x.push_back(holes);
    const auto want = runner.Run(*g, PlanMode::kReference, x, 1);
    for (const int threads : {1, 2}) {
      const auto got = runner.Run(*g, PlanMode::kFast, x, threads);
      ASSERT_TRUE(want && got);
      ExpectClose((*got)[0].tensor, (*want)[0].tensor, fmt::format("mask {}", filled));
    }
  }
}

TEST(Plan, AnInputMayBeAnOutputAndAnOutputMayRepeat) {
  GraphBuilder b;
  const ValueId x = b.Input({2, 2});
  const ValueId y = b.Add("Relu", {x});
  const auto g = b.Finish({x, y, y});
  Runner r;
  const auto out = r.Run(*g, PlanMode::kFast, {Tensor::Of<float>({2, 2}, {-1, 2, -3, 4})}, 1);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_EQ((*out)[0].tensor.as<float>()[0], -1);
  EXPECT_EQ((*out)[1].tensor.as<float>()[1], 2);
  EXPECT_EQ((*out)[2].tensor.as<float>()[2], 0);
}

TEST(Plan, ResultsOutliveTheNextRun) {
  GraphBuilder b;
  const auto g = b.Finish({b.Add("Neg", {b.Input({1})})});
  ProgramContext context;
  context.weights = MakeWeightCache();
  Execution e(std::make_shared<const Program>(g->Clone(), context));
  ThreadPool pool(1);
  ArenaPool arenas;
  RunEnvironment env;
  env.pool = &pool;
  env.arenas = &arenas;
  const auto run = [&](float v) {
    const Tensor t = Tensor::Of<float>({1}, {v});
    const TensorView view = t.view();
    const RunInput in[] = {{&view, nullptr}};
    return e.Run(in, env)->at(0).tensor;
  };
  const Tensor first = run(1);
  const Tensor second = run(2);
  EXPECT_EQ(first.as<float>()[0], -1);
  EXPECT_EQ(second.as<float>()[0], -2);
}

TEST(Plan, ShapesInTurnsGiveTheirOwnResults) {
  GraphBuilder b;
  const auto g = b.Finish({b.Add("Neg", {b.Add("Abs", {b.Input({kUnknownDim})})})});
  ProgramContext context;
  context.weights = MakeWeightCache();
  Execution e(std::make_shared<const Program>(g->Clone(), context));
  ThreadPool pool(1);
  ArenaPool arenas;
  RunEnvironment env;
  env.pool = &pool;
  env.arenas = &arenas;
  std::vector<Tensor> results;
  for (int i = 0; i < 30; ++i) {  // more shapes than are kept
    const std::vector<float> values(size_t(i * i % 7 + 1), float(i));
    const Tensor t = Tensor::Of<float>({int64_t(values.size())}, values);
    const TensorView view = t.view();
    const RunInput in[] = {{&view, nullptr}};
    results.push_back(e.Run(in, env)->at(0).tensor);
  }
  for (int i = 0; i < 30; ++i) {
    ASSERT_EQ(results[size_t(i)].count(), i * i % 7 + 1);
    for (const float v : results[size_t(i)].values<float>()) EXPECT_EQ(v, -float(i));
  }
}

TEST(Plan, ShapesThatDependOnDataRunInTheSameExecutor) {
  GraphBuilder b;
  const ValueId x = b.Input({5});
  const ValueId where = b.Add("NonZero", {x});    // [1, n]
  const ValueId count = b.Add("Shape", {where});  // known only when running

  const auto g = b.Finish({where, count});
  Runner r;
  const auto out = r.Run(*g, PlanMode::kFast, {Tensor::Of<float>({5}, {0, 2, 0, 4, 5})}, 1);
  ASSERT_TRUE(out.has_value()) << out.error().message;
  EXPECT_EQ((*out)[0].tensor.dims(), (Dims{1, 3}));
  EXPECT_EQ((*out)[1].tensor.as<int64_t>()[1], 3);
}

// The same network with constants and inputs in halves is within their rounding of one in f32.
TEST(Halves, ComputeAsF32DoesWithinTheirRounding) {
  std::mt19937 rng(7);
  const Dims dims{1, 8, 9, 9};
  const Tensor x = Random(dims, rng), w = Random({16, 8, 3, 3}, rng), v = Random({16, 8}, rng);
  const auto network = [&](DType type) {
    GraphBuilder b;
    const auto constant = [&](const Tensor& t) { return b.Const(*Convert(t, type)); };
    const ValueId y = b.Add("Relu", {b.Add("Conv", {b.Input(dims, type), constant(w)})});
    const ValueId mean = b.Add("GlobalAveragePool", {y});
    const ValueId flat =
        b.Add("Reshape", {mean, b.Const(Tensor::Ints(std::vector<int64_t>{1, 16}))});
    return b.Finish({b.Add("Softmax", {b.Add("MatMul", {flat, constant(v)})})});
  };
  Runner runner;
  const Tensor want = (*runner.Run(*network(DType::kF32), PlanMode::kFast, {x}, 2))[0].tensor;
  for (const DType type : {DType::kF16, DType::kBF16}) {
    const auto g = network(type);
    ASSERT_TRUE(OptimizeModel(*g).has_value());
    for (const PlanMode mode : {PlanMode::kFast, PlanMode::kReference}) {
      const auto got = runner.Run(*g, mode, {*Convert(x, type)}, 2);
      ASSERT_TRUE(got.has_value()) << got.error().message;
      ASSERT_EQ((*got)[0].tensor.dtype(), type);
      const Tensor wide = *Convert((*got)[0].tensor, DType::kF32);
      const float bound = type == DType::kF16 ? 2e-3f : 2e-2f;
      for (int64_t i = 0; i < wide.count(); ++i)
        EXPECT_NEAR(wide.as<float>()[i], want.as<float>()[i], bound) << DTypeName(type);
    }
  }
}

}  // namespace
}  // namespace dunlin
