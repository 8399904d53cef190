#include "runtime/tune.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "passes/testing.h"
#include "runtime/weight_cache.h"

namespace dunlin {
namespace {

// A 3 x 3 convolution that has several ways, of an input with positive values.
class TunedConv : public testing::Test {
 protected:
  TunedConv() {
    GraphBuilder b;
    const ValueId x = b.Input({1, 32, 12, 12});
    graph_ = b.Finish({b.Add("Conv", {x, b.Weights({32, 32, 3, 3}, 0, 1)},
                             {{"kernel_shape", std::vector<int64_t>{3, 3}}})});
    std::vector<float> values(32 * 12 * 12);
    for (float& v : values) v = float(b.rng() % 1000) / 1000;
    input_ = Tensor::Of<float>({1, 32, 12, 12}, std::span<const float>(values));
    view_ = input_.view();
    env_.pool = &pool_;
    env_.arenas = &arenas_;
  }

  std::shared_ptr<const Program> MakeProgram(std::shared_ptr<const WayPolicy> ways,
                                             int threads = 1) {
    ProgramContext context;
    context.threads = threads;
    context.weights = MakeWeightCache();
    context.ways = std::move(ways);
    return std::make_shared<const Program>(graph_->Clone(), context);
  }
  std::vector<RunInput> Inputs() { return {{&view_, nullptr}}; }
  // The convolution's choice and the name of its kernel.
  std::pair<Choice, std::string> Look(const Program& program) {
    const Type type = Type::Of(DType::kF32, input_.dims());
    const auto plan = program.PlanFor({&type, 1});
    EXPECT_TRUE(plan.has_value());
    EXPECT_EQ((*plan)->choices.size(), 1u);
    for (const Step& step : (*plan)->steps)
      if (step.node == (*plan)->choices[0].node)
        return {(*plan)->choices[0], std::string(step.kernel->name())};
    return {};
  }

  std::unique_ptr<Graph> graph_;
  Tensor input_;
  TensorView view_;
  ThreadPool pool_{2};
  ArenaPool arenas_;
  RunEnvironment env_;
};

TEST_F(TunedConv, TakesTheMeasuredWay) {
  const auto ways = std::make_shared<MeasuredWays>();
  const Choice choice = Look(*MakeProgram(ways)).first;
  const std::set<std::string> names(choice.ways.begin(), choice.ways.end());
  EXPECT_EQ(names, (std::set<std::string>{"winograd_2x2", "winograd_4x4", "indirect", "row_taps"}));
  for (const std::string& name : choice.ways) {
    ways->Put(choice.key, {name, {}});
    const auto [taken, kernel] = Look(*MakeProgram(ways));
    EXPECT_EQ(taken.ways[taken.way], name);
    EXPECT_TRUE(kernel.starts_with("conv." + name)) << kernel;
  }
}

TEST_F(TunedConv, TakesTheCostModelsWayWhereNothingFitsTheKey) {
  const auto ways = std::make_shared<MeasuredWays>();
  const Choice choice = Look(*MakeProgram(ways)).first;
  ASSERT_GE(choice.ways.size(), 2u);
  EXPECT_EQ(choice.way, 0u);
  ways->Put(choice.key, {choice.ways[1], {}});
  EXPECT_EQ(Look(*MakeProgram(ways)).first.way, 1u);
  EXPECT_EQ(Look(*MakeProgram(ways, 2)).first.way, 0u);  // measured for another number of threads
  ways->Put(choice.key, {"no such way", {}});
  EXPECT_EQ(Look(*MakeProgram(ways)).first.way, 0u);
}

TEST_F(TunedConv, MeasuresEveryWayOfWhatIsNotKnownAndNothingAgain) {
  MeasuredWays known;
  const auto program = MakeProgram(std::make_shared<MeasuredWays>());
  env_.timed = true;
  Execution execution(program);
  ASSERT_TRUE(execution.Run(Inputs(), env_).has_value());
  const std::vector<Choice> unknown = UnknownChoices(execution.Times(), known);
  ASSERT_EQ(unknown.size(), 1u);
  TuneProgress last;
  const Status status =
      MeasureWays(*program, unknown, Inputs(), env_, known, [&](TuneProgress p) { last = p; });
  ASSERT_TRUE(status.has_value()) << status.error().message;
  EXPECT_EQ(last.done, last.total);
  const auto found = known.Find(unknown[0].key);
  ASSERT_TRUE(found.has_value());
  ASSERT_EQ(found->times.size(), unknown[0].ways.size());
  EXPECT_EQ(found->times[0].way, unknown[0].ways[0]);
  for (const WayTime& t : found->times) EXPECT_GT(t.microseconds, 0) << t.way;
  EXPECT_TRUE(UnknownChoices(execution.Times(), known).empty());
}

}  // namespace
}  // namespace dunlin
