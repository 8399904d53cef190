#include "ops/control/control.h"

#include "ops/testing.h"

namespace dunlin {
namespace {

using testing::Near;
using testing::OpTest;

// A sub-graph that is a C++ function.
class Body final : public SubgraphRunner {
 public:
  using Fn = std::function<Result<std::vector<Tensor>>(std::vector<Tensor>)>;
  explicit Body(Fn fn) : fn_(std::move(fn)) {}
  Result<std::vector<RunValue>> Run(std::vector<RunValue> formal) override {
    std::vector<Tensor> tensors;
    for (RunValue& v : formal) tensors.push_back(std::move(v.tensor));
    std::vector<Tensor> results = TRY(fn_(std::move(tensors)));
    std::vector<RunValue> out;
    for (Tensor& t : results) out.push_back({std::move(t), nullptr});
    return out;
  }

 private:
  Fn fn_;
};

Tensor Floats(std::initializer_list<float> v) { return Tensor::Of<float>({int64_t(v.size())}, v); }

TEST(If, RunsTheBranchOfTheCondition) {
  Body then_branch([](auto) -> Result<std::vector<Tensor>> { return std::vector{Floats({1})}; });
  Body else_branch([](auto) -> Result<std::vector<Tensor>> { return std::vector{Floats({2, 3})}; });
  for (const bool cond : {true, false}) {
    OpTest t("If");
    t.Input(Tensor::Scalar<bool>(cond)).Subgraphs({&then_branch, &else_branch});
    t.OnInferSubgraph([](int branch, auto) -> Result<std::vector<Type>> {
      return std::vector{Type::Of(DType::kF32, {branch == 0 ? 1 : 2})};
    });
    const auto r = t.Reference();
    ASSERT_TRUE(r.has_value()) << r.error().message;
    EXPECT_TRUE(Near((*r)[0], cond ? Floats({1}) : Floats({2, 3})));
  }
}

TEST(If, KnowsOnlyWhatBothBranchesShare) {
  OpTest t("If");
  t.Input(Tensor::Scalar<bool>(true))
      .OnInferSubgraph([](int branch, auto) -> Result<std::vector<Type>> {
        return std::vector{branch == 0 ? Type::Of(DType::kF32, {4, 1, 7})
                                       : Type::Of(DType::kF32, {4, 2, 7})};
      });
  auto unknown_condition = t.MakeInfer();
  EXPECT_EQ((*t.Infer(unknown_condition))[0], Type::Of(DType::kF32, {4, kUnknownDim, 7}));
  EXPECT_EQ((*t.Infer())[0], Type::Of(DType::kF32, {4, 1, 7}));  // the condition is known
}

TEST(If, RefusesBranchesOfDifferentElementTypes) {
  OpTest t("If");
  t.Input(Tensor::Scalar<bool>(true))
      .OnInferSubgraph([](int branch, auto) -> Result<std::vector<Type>> {
        return std::vector{Type::Of(branch == 0 ? DType::kF32 : DType::kI64, {4})};
      });
  auto unknown_condition = t.MakeInfer();
  EXPECT_EQ(t.Infer(unknown_condition).error().code, Code::kInvalidArgument);
}

TEST(If, TakesTheTypesOfTheOnlyBranchThatIsPossible) {
  OpTest t("If");
  t.Input(Tensor::Scalar<bool>(true))
      .OnInferSubgraph([](int branch, auto) -> Result<std::vector<Type>> {
        if (branch == 0) return Fail(Code::kInvalidArgument, "extents that do not fit");
        return std::vector{Type::Of(DType::kF32, {4})};
      });
  auto unknown_condition = t.MakeInfer();
  EXPECT_EQ((*t.Infer(unknown_condition))[0], Type::Of(DType::kF32, {4}));
}

// sum += iteration until the sum exceeds `limit`; scans the sum.
Body Summing(float limit) {
  return Body([limit](std::vector<Tensor> in) -> Result<std::vector<Tensor>> {
    const float sum = in[2].as<float>()[0] + float(in[0].as<int64_t>()[0]);
    return std::vector{Tensor::Scalar<bool>(sum <= limit), Floats({sum}), Floats({sum, -sum})};
  });
}

OpTest LoopOf(Body& body) {
  OpTest t("Loop");
  t.Outputs(2).Subgraphs({&body}).OnInferSubgraph([](int, auto) -> Result<std::vector<Type>> {
    return std::vector{Type::Of(DType::kBool, {}), Type::Of(DType::kF32, {1}),
                       Type::Of(DType::kF32, {2})};
  });
  return t;
}

TEST(Loop, StacksScanOutputsOfEveryTrip) {
  Body body = Summing(100);
  OpTest t = LoopOf(body);
  t.Input(Tensor::Scalar<int64_t>(3)).Input(Tensor::Scalar<bool>(true)).Input(Floats({10}));
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], Floats({13})));
  EXPECT_TRUE(Near((*r)[1], Tensor::Of<float>({3, 2}, {10, -10, 11, -11, 13, -13})));
}

TEST(Loop, EndsWhenTheBodySaysSoWithoutATripCount) {
  Body body = Summing(12);
  OpTest t = LoopOf(body);
  t.Absent().Input(Tensor::Scalar<bool>(true)).Input(Floats({10}));
  EXPECT_TRUE(Near((*t.Reference())[0], Floats({13})));
}

TEST(Loop, GivesTheInitialValuesWhenItNeverRuns) {
  Body body = Summing(100);
  OpTest t = LoopOf(body);
  t.Input(Tensor::Scalar<int64_t>(5)).Input(Tensor::Scalar<bool>(false)).Input(Floats({10}));
  const auto r = t.Reference();
  EXPECT_TRUE(Near((*r)[0], Floats({10})));
  EXPECT_EQ((*r)[1].dims()[0], 0);
}

TEST(Loop, RefusesToRunForever) {
  Body body = Summing(100);
  OpTest t = LoopOf(body);
  t.Absent().Absent().Input(Floats({10}));
  EXPECT_EQ(t.Infer().error().code, Code::kInvalidArgument);
}

TEST(Loop, CarriedExtentsThatChangeAreUnknown) {
  OpTest t("Loop");
  t.Input(Tensor::Scalar<int64_t>(5)).Absent().Input(Floats({10}));
  // The body doubles its carried value: what goes in as [n] comes out as another extent.
  t.OnInferSubgraph([](int, std::span<const Type> formal) -> Result<std::vector<Type>> {
    Type grown = formal[2];
    if (grown.ranked) grown.dims[0] = IsKnown(grown.dims[0]) ? 2 * grown.dims[0] : kUnknownDim;
    return std::vector{Type::Of(DType::kBool, {}), grown};
  });
  const auto types = t.Infer();
  ASSERT_TRUE(types.has_value()) << types.error().message;
  EXPECT_EQ((*types)[0], Type::Unranked(DType::kF32));
}

TEST(Scan, RunsBackwardsAndAlongAnyAxis) {
  Body body([](std::vector<Tensor> in) -> Result<std::vector<Tensor>> {
    const float sum = in[0].as<float>()[0] + in[1].as<float>()[0] + in[1].as<float>()[1];
    return std::vector{Floats({sum}), Floats({sum, 0})};
  });
  OpTest t("Scan");
  t.Attr("num_scan_inputs", 1).Attr("scan_input_axes", std::vector<int64_t>{-1});
  t.Attr("scan_input_directions", std::vector<int64_t>{1})
      .Attr("scan_output_axes", std::vector<int64_t>{1});
  t.Input(Floats({0}))
      .Input(Tensor::Of<float>({2, 3}, {1, 2, 3, 10, 20, 30}))
      .Outputs(2)
      .Subgraphs({&body});
  t.OnInferSubgraph([](int, std::span<const Type> formal) -> Result<std::vector<Type>> {
    EXPECT_EQ(formal[1], Type::Of(DType::kF32, {2}));
    return std::vector{Type::Of(DType::kF32, {1}), Type::Of(DType::kF32, {2})};
  });
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_TRUE(Near((*r)[0], Floats({66})));
  EXPECT_TRUE(Near((*r)[1], Tensor::Of<float>({2, 3}, {33, 55, 66, 0, 0, 0})));
  EXPECT_EQ((*t.Infer())[1], Type::Of(DType::kF32, {2, 3}));
}

TEST(Scan, RefusesInputsOfDifferentLength) {
  OpTest t("Scan");
  t.Attr("num_scan_inputs", 2).Input(Floats({1, 2})).Input(Floats({1, 2, 3}));
  EXPECT_EQ(t.Infer().error().code, Code::kInvalidArgument);
}

// Running sums of two sequences, the second of one step only, the first backwards or forwards.
TEST(BatchScan, GivesEveryItemItsOwnLength) {
  Body body([](std::vector<Tensor> in) -> Result<std::vector<Tensor>> {
    const Tensor sum = Floats({in[0].as<float>()[0] + in[1].as<float>()[0]});
    return std::vector{sum, sum};
  });
  for (const int64_t backwards : {0, 1}) {
    OpTest t("BatchScan", "dunlin");
    t.Attr("num_scan_inputs", 1).Attr("directions", std::vector<int64_t>{backwards});
    t.Input(Tensor::Of<int64_t>({2}, {3, 1}))
        .Input(Tensor::Of<float>({2, 1}, {100, 200}))
        .Input(Tensor::Of<float>({2, 3, 1}, {1, 2, 3, 4, 5, 6}))
        .Outputs(2)
        .Subgraphs({&body});
    t.OnInferSubgraph([](int, std::span<const Type> formal) -> Result<std::vector<Type>> {
      return std::vector{formal[0], formal[1]};
    });
    const auto r = t.Reference();
    ASSERT_TRUE(r.has_value()) << r.error().message;
    EXPECT_TRUE(Near((*r)[0], Tensor::Of<float>({2, 1}, {106, 204})));
    EXPECT_TRUE(Near((*r)[1], backwards
                                  ? Tensor::Of<float>({2, 3, 1}, {103, 105, 106, 204, 0, 0})
                                  : Tensor::Of<float>({2, 3, 1}, {101, 103, 106, 204, 0, 0})));
    t.ExpectInferIsTotal();
  }
}

TEST(BatchScan, RefusesLengthsAndBatchesThatDoNotFit) {
  Body body([](std::vector<Tensor> in) -> Result<std::vector<Tensor>> { return in; });
  const auto run = [&](int64_t length, int64_t states) {
    OpTest t("BatchScan", "dunlin");
    t.Attr("num_scan_inputs", 1).Input(Tensor::Of<int64_t>({1}, {length}));
    t.Input(Tensor::Zeros(DType::kF32, {states, 1}).value());
    t.Input(Tensor::Of<float>({1, 2, 1}, {1, 2})).Outputs(2).Subgraphs({&body});
    t.OnInferSubgraph([](int, std::span<const Type> formal) -> Result<std::vector<Type>> {
      return std::vector{formal[0], formal[1]};
    });
    return t.Reference();
  };
  EXPECT_TRUE(run(2, 1).has_value());
  OpTest huge("BatchScan", "dunlin");  // of nothing, but often
  huge.Attr("num_scan_inputs", 1).Absent();
  huge.Input(Tensor::Zeros(DType::kF32, {int64_t{1} << 50, 1, 0}).value()).Subgraphs({&body});
  huge.OnInferSubgraph([](int, std::span<const Type> formal) -> Result<std::vector<Type>> {
    return std::vector{formal[0]};
  });
  EXPECT_EQ(huge.Reference().error().code, Code::kInvalidArgument);
  EXPECT_EQ(run(3, 1).error().code, Code::kInvalidArgument);
  EXPECT_EQ(run(2, 2).error().code, Code::kInvalidArgument);
}

TEST(Loop, CarriesSequences) {
  class Growing final : public SubgraphRunner {
   public:
    Result<std::vector<RunValue>> Run(std::vector<RunValue> in) override {
      SequenceValue grown = *in[2].sequence;
      grown.items.push_back(Floats({float(grown.items.size())}));
      return std::vector<RunValue>{{Tensor::Scalar<bool>(true), nullptr},
                                   {{}, std::make_shared<const SequenceValue>(std::move(grown))}};
    }
  } body;
  OpTest t("Loop");
  t.Input(Tensor::Scalar<int64_t>(3)).Absent().Sequence({DType::kF32, {}}).Subgraphs({&body});
  t.OnInferSubgraph([](int, std::span<const Type> formal) -> Result<std::vector<Type>> {
    return std::vector{Type::Of(DType::kBool, {}), formal[2]};
  });
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  ASSERT_EQ(r->sequences[0].items.size(), 3u);
  EXPECT_TRUE(Near(r->sequences[0].items[2], Floats({2})));
}

TEST(SequenceMap, TakesSequencesItemByItemAndTensorsWhole) {
  Body body([](std::vector<Tensor> in) -> Result<std::vector<Tensor>> {
    return std::vector{Floats({in[0].as<float>()[0] + in[1].as<float>()[0]})};
  });
  OpTest t("SequenceMap");
  t.Sequence({DType::kF32, {Floats({1}), Floats({2})}}).Input(Floats({10})).Subgraphs({&body});
  t.OnInferSubgraph([](int, auto) -> Result<std::vector<Type>> {
    return std::vector{Type::Of(DType::kF32, {1})};
  });
  const auto r = t.Reference();
  ASSERT_TRUE(r.has_value()) << r.error().message;
  ASSERT_EQ(r->sequences[0].items.size(), 2u);
  EXPECT_TRUE(Near(r->sequences[0].items[1], Floats({12})));
}

TEST(SequenceMap, RefusesSequencesOfDifferentLength) {
  Body body(
      [](std::vector<Tensor> in) -> Result<std::vector<Tensor>> { return std::vector{in[0]}; });
  OpTest t("SequenceMap");
  t.Sequence({DType::kF32, {Floats({1}), Floats({2})}})
      .Sequence({DType::kF32, {Floats({1})}})
      .Subgraphs({&body});
  t.OnInferSubgraph([](int, auto) -> Result<std::vector<Type>> {
    return std::vector{Type::Of(DType::kF32, {1})};
  });
  EXPECT_EQ(t.Reference().error().code, Code::kInvalidArgument);
}

TEST(Stack, ManyRowsOfNothingTakeNoTime) {
  const Tensor empty = Tensor::Zeros(DType::kF32, {int64_t{1} << 50, 0}).value();
  const Tensor slices[] = {empty, empty};
  EXPECT_EQ(control::Stack(slices, 1, false)->dims(), (Dims{int64_t{1} << 50, 2, 0}));
  EXPECT_EQ(control::SliceAt(control::Stack(slices, 1, false)->view(), 1, 1)->dims(), empty.dims());
}

}  // namespace
}  // namespace dunlin
