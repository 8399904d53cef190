#include "serve/batcher.h"

#include <gtest/gtest.h>

#include <future>

#include "serve/fake_backend.h"
#include "serve/metrics.h"
#include "serve/model_version.h"

namespace dunlin::serve {
namespace {

using std::chrono::microseconds;
using std::chrono::milliseconds;

// A model of one float input "x" [-1, -1] and its copy "y", on a fake engine and two slots.
class BatcherTest : public testing::Test {
 protected:
  BatcherTest() {
    spec_.name = "m";
    spec_.version = 1;
    spec_.max_batch_size = 8;
    spec_.inputs = {Spec("x")};
    spec_.outputs = {Spec("y")};
    spec_.instances = 1;
    spec_.queue.max_size = 1024;
    fake_->ins = {Port("x")};
    fake_->outs = {Port("y")};
  }
  ~BatcherTest() override { counters_->hold = false; }

  static TensorSpec Spec(std::string name) {
    TensorSpec s;
    s.name = std::move(name);
    s.dtype = DType::kF32;
    s.dims = {-1};
    return s;
  }
  static PortInfo Port(std::string name) {
    PortInfo p;
    p.name = std::move(name);
    p.dtype = DType::kF32;
    p.has_shape = true;
    p.dims = {-1, -1};
    return p;
  }
  BatchingSpec& Batching() {
    if (!spec_.batching) spec_.batching.emplace();
    return *spec_.batching;
  }
  ModelVersion& Make() {
    auto made = ModelVersion::Create(spec_, fake_, metrics_.ForModel("m", 1, {}), compute_);
    EXPECT_TRUE(made);
    model_ = std::move(*made);
    return *model_;
  }
  static InferRequest Request(std::vector<float> rows, int64_t width = 1) {
    InferRequest r;
    const int64_t count = int64_t(rows.size()) / width;
    r.inputs.push_back({"x", Tensor::Of<float>({count, width}, rows)});
    return r;
  }
  // The answer as text: the values, or the message.
  static std::string Text(const Result<InferResponse>& r) {
    if (!r) return r.error().message.substr(r.error().message.find("] ") + 2);
    std::string text;
    for (const float f : r->outputs[0].tensor.values<float>())
      text += (text.empty() ? "" : " ") + std::to_string(int(f));
    return text;
  }
  std::future<std::string> Begin(InferRequest request) {
    auto promise = std::make_shared<std::promise<std::string>>();
    auto answer = promise->get_future();
    model_->Submit(std::move(request), [this, promise](const Result<InferResponse>& r) {
      const std::string text = Text(r);
      {
        const std::lock_guard lock(order_mutex_);
        order_.push_back(text);
      }
      promise->set_value(text);
    });
    return answer;
  }
  // Occupies the instance until Release; the first execution.
  void Hold() {
    counters_->hold = true;
    const int before = counters_->executions;
    held_ = Begin(Request({0}));
    ASSERT_TRUE(Eventually([&] { return counters_->executions == before + 1; }));
    counters_->batches.clear();
  }
  void Release() {
    counters_->hold = false;
    held_.get();
  }
  template <class F>
  static bool Eventually(const F& f) {
    for (int i = 0; i < 5000 && !f(); ++i) std::this_thread::sleep_for(milliseconds(1));
    return f();
  }
  std::vector<std::string> Order() {
    const std::lock_guard lock(order_mutex_);
    return order_;
  }
  using Sizes = std::vector<int64_t>;

  std::shared_ptr<FakeCounters> counters_ = std::make_shared<FakeCounters>();
  std::shared_ptr<FakeModel> fake_ = std::make_shared<FakeModel>(counters_);
  Metrics metrics_;
  ModelSpec spec_;
  Compute compute_{2};
  std::unique_ptr<ModelVersion> model_;
  std::future<std::string> held_;
  std::mutex order_mutex_;
  std::vector<std::string> order_;
};

TEST_F(BatcherTest, JoinsWhatWaitsAndSplitsTheResult) {
  Batching().preferred_sizes = {4};
  fake_->add = 100;
  Make();
  Hold();
  std::vector<std::future<std::string>> answers;
  for (const auto& rows : std::vector<std::vector<float>>{{1}, {2, 3}, {4}})
    answers.push_back(Begin(Request(rows)));
  Release();
  EXPECT_EQ(answers[0].get(), "101");
  EXPECT_EQ(answers[1].get(), "102 103");
  EXPECT_EQ(answers[2].get(), "104");
  EXPECT_EQ(counters_->Batches(), Sizes{4});
  const ModelStatistics s = model_->Statistics();
  EXPECT_EQ(s.execution_count, 2u);
  EXPECT_EQ(s.inference_count, 5u);
  EXPECT_EQ(s.success.count, 4u);
  EXPECT_EQ(s.batches.at(4).compute_infer.count, 1u);
}

TEST_F(BatcherTest, JoinsAndSplitsStrings) {
  Batching().preferred_sizes = {8};
  spec_.inputs[0].dtype = spec_.outputs[0].dtype = DType::kString;
  fake_->ins[0].dtype = fake_->outs[0].dtype = DType::kString;
  Make();
  counters_->hold = true;
  std::vector<std::future<std::string>> answers;
  const std::string long_text(100, 'x');
  for (const std::string& text : {std::string("held"), std::string("a"), long_text}) {
    InferRequest r;
    r.inputs.push_back({"x", Tensor::Of<std::string>({2, 1}, {text, text + "!"})});
    auto promise = std::make_shared<std::promise<std::string>>();
    answers.push_back(promise->get_future());
    const int before = counters_->executions;
    model_->Submit(std::move(r), [promise](const Result<InferResponse>& a) {
      const auto v = a->outputs[0].tensor.values<std::string>();
      promise->set_value(v[0] + v[1]);
    });
    if (text == "held") {
      ASSERT_TRUE(Eventually([&] { return counters_->executions == before + 1; }));
    }
  }
  counters_->hold = false;
  EXPECT_EQ(answers[1].get(), "aa!");
  EXPECT_EQ(answers[2].get(), long_text + long_text + "!");
  EXPECT_EQ(counters_->Batches(), (Sizes{2, 4}));
}

TEST_F(BatcherTest, TakesTheLargestPreferredSizeAndNothingBeyondTheMaximum) {
  Batching().preferred_sizes = {2, 4};
  Make();
  Hold();
  std::vector<std::future<std::string>> answers;
  for (int i = 0; i < 5; ++i) answers.push_back(Begin(Request({float(i)})));
  answers.push_back(Begin(Request({1, 2, 3, 4, 5, 6, 7, 8})));
  Release();
  for (auto& a : answers) a.get();
  EXPECT_EQ(counters_->Batches(), (Sizes{4, 1, 8}));
}

TEST_F(BatcherTest, ASmallerPreferredSizeGoesBeforeWhatIsLeft) {
  Batching().preferred_sizes = {2, 8};
  Make();
  Hold();
  std::vector<std::future<std::string>> answers;
  for (int i = 0; i < 3; ++i) answers.push_back(Begin(Request({float(i)})));
  Release();
  for (auto& a : answers) a.get();
  EXPECT_EQ(counters_->Batches(), (Sizes{2, 1}));
}

TEST_F(BatcherTest, JoinsEqualShapesOnly) {
  Batching().preferred_sizes = {8};
  Make();
  Hold();
  auto a = Begin(Request({1, 2}, 2)), b = Begin(Request({3, 4, 5}, 3)),
       c = Begin(Request({6, 7}, 2));
  Release();
  EXPECT_EQ(a.get(), "1 2");
  EXPECT_EQ(b.get(), "3 4 5");
  EXPECT_EQ(c.get(), "6 7");
  EXPECT_EQ(counters_->Batches(), (Sizes{2, 1}));
}

TEST_F(BatcherTest, AConfiguredDelayIsWaitedForUnlessTheBatchIsFull) {
  Batching().preferred_sizes = {4};
  Batching().max_delay = milliseconds(20);
  Make();
  const TimePoint start = Clock::now();
  Begin(Request({1})).get();
  EXPECT_GE(Clock::now() - start, milliseconds(20));
  Batching().max_delay = std::chrono::hours(1);
  model_.reset();
  Make();
  std::vector<std::future<std::string>> answers;
  for (int i = 0; i < 4; ++i) answers.push_back(Begin(Request({float(i)})));
  for (auto& a : answers) a.get();
  Begin(Request({1, 2, 3, 4})).get();
  EXPECT_EQ(counters_->Batches(), (Sizes{1, 4, 4}));
  auto last = Begin(Request({5}));
  model_.reset();  // does not wait for company that will not come
  EXPECT_EQ(last.get(), "5");
}

TEST_F(BatcherTest, WithoutBatchingRequestsRunAlone) {
  Make();
  Hold();
  auto a = Begin(Request({1})), b = Begin(Request({2}));
  Release();
  a.get();
  b.get();
  EXPECT_EQ(counters_->Batches(), (Sizes{1, 1}));
}

TEST_F(BatcherTest, HigherPrioritiesGoFirst) {
  Batching() = {.preferred_sizes = {1}, .priority_levels = 3, .default_priority = 2};
  Make();
  Hold();
  std::vector<std::future<std::string>> answers;
  for (const auto& [value, priority] :
       std::vector<std::pair<float, uint64_t>>{{3, 3}, {2, 0}, {1, 1}, {22, 99}, {11, 1}}) {
    InferRequest r = Request({value});
    r.priority = priority;
    answers.push_back(Begin(std::move(r)));
  }
  Release();
  for (auto& a : answers) a.get();
  EXPECT_EQ(Order(), (std::vector<std::string>{"0", "1", "11", "2", "22", "3"}));
}

TEST_F(BatcherTest, QueuesAreBoundedByPriority) {
  Batching() = {.preferred_sizes = {1}, .priority_levels = 2, .default_priority = 1};
  spec_.queue.max_size = 2;
  Batching().policies[2].max_size = 1;
  Make();
  Hold();
  std::vector<std::future<std::string>> answers;
  for (const uint64_t priority : {1, 1, 2, 1, 2}) {
    InferRequest r = Request({7});
    r.priority = priority;
    answers.push_back(Begin(std::move(r)));
  }
  EXPECT_EQ(answers[3].get(), "Exceeds maximum queue size");
  EXPECT_EQ(answers[4].get(), "Exceeds maximum queue size");
  Release();
  for (const int i : {0, 1, 2}) EXPECT_EQ(answers[size_t(i)].get(), "7");
}

TEST_F(BatcherTest, TimeoutsExpireWhileNoInstanceIsFree) {
  Make();
  Hold();
  InferRequest r = Request({1});
  r.timeout = milliseconds(5);
  EXPECT_EQ(Begin(std::move(r)).get(), "Request timeout expired");
  r = Request({1});
  r.deadline = Clock::now() + milliseconds(5);
  EXPECT_EQ(Begin(std::move(r)).get(), "Deadline Exceeded");
  Release();
  EXPECT_EQ(counters_->Batches(), Sizes{}) << "they do not run";
  EXPECT_EQ(model_->Statistics().fail.count, 2u);
  EXPECT_NE(metrics_.Text().find(
                R"(nv_inference_request_failure{model="m",version="1",reason="REJECTED"} 2)"),
            std::string::npos);
}

TEST_F(BatcherTest, ATimeoutOfTheRequestNeedsThePolicysLeave) {
  spec_.queue.allow_timeout_override = false;
  Make();
  Hold();
  InferRequest r = Request({1});
  r.timeout = microseconds(1);
  auto answer = Begin(std::move(r));
  std::this_thread::sleep_for(milliseconds(5));
  Release();
  EXPECT_EQ(answer.get(), "1");
}

TEST_F(BatcherTest, DelayedRequestsRunAfterTheOthers) {
  Batching().preferred_sizes = {1};
  spec_.queue.timeout_action = TimeoutAction::kDelay;
  Make();
  Hold();
  InferRequest late = Request({1});
  late.timeout = microseconds(1);
  auto a = Begin(std::move(late));
  std::this_thread::sleep_for(milliseconds(2));
  auto b = Begin(Request({2}));
  Release();
  a.get();
  b.get();
  EXPECT_EQ(Order(), (std::vector<std::string>{"0", "2", "1"}));
}

TEST_F(BatcherTest, CancelledRequestsLeaveTheQueueAndDoNotRun) {
  Batching().preferred_sizes = {8};
  Make();
  Hold();
  InferRequest r = Request({1});
  r.cancelled = std::make_shared<std::atomic<bool>>(false);
  const auto cancelled = r.cancelled;
  auto a = Begin(std::move(r)), b = Begin(Request({2}));
  *cancelled = true;
  EXPECT_EQ(a.get(), "request cancelled by the client") << "while the instance is still busy";
  Release();
  EXPECT_EQ(b.get(), "2");
  EXPECT_EQ(counters_->Batches(), Sizes{1});
}

TEST_F(BatcherTest, AnExecutionEndsWhenNobodyWantsItAnyMore) {
  Batching().preferred_sizes = {8};
  Make();
  counters_->hold = true;
  const int before = counters_->executions;
  InferRequest a = Request({1}), b = Request({2});
  a.cancelled = std::make_shared<std::atomic<bool>>(false);
  const auto cancelled = a.cancelled;
  b.deadline = Clock::now() + milliseconds(250);  // time to begin on a busy machine
  auto held = Begin(std::move(b));
  EXPECT_EQ(held.get(), "Deadline Exceeded") << "during its execution";
  EXPECT_EQ(counters_->executions, before + 1);
  EXPECT_EQ(counters_->cancelled, 1);
  auto again = Begin(std::move(a));
  ASSERT_TRUE(Eventually([&] { return counters_->executions == before + 2; }));
  *cancelled = true;
  EXPECT_EQ(again.get(), "cancelled") << "by the execution, not in the queue";
}

TEST_F(BatcherTest, OneOfABatchMayGoWithoutTheOthers) {
  Batching().preferred_sizes = {2};
  Batching().max_delay = std::chrono::hours(1);
  Make();
  counters_->hold = true;
  InferRequest r = Request({1});
  r.cancelled = std::make_shared<std::atomic<bool>>(false);
  const auto cancelled = r.cancelled;
  const int before = counters_->executions;
  auto a = Begin(std::move(r)), b = Begin(Request({2}));
  ASSERT_TRUE(Eventually([&] { return counters_->executions == before + 1; }));
  *cancelled = true;
  std::this_thread::sleep_for(milliseconds(5));
  counters_->hold = false;
  EXPECT_EQ(b.get(), "2");
  a.get();
}

TEST_F(BatcherTest, ABadRequestDoesNotSpoilTheOthersOfItsBatch) {
  Batching().preferred_sizes = {8};
  fake_->poison = 13;
  Make();
  Hold();
  auto a = Begin(Request({1})), b = Begin(Request({13})), c = Begin(Request({2}));
  Release();
  EXPECT_EQ(a.get(), "1");
  EXPECT_EQ(b.get(), "poisoned");
  EXPECT_EQ(c.get(), "2");
}

TEST_F(BatcherTest, OutputsWithoutABatchDimensionAreNotSplit) {
  Batching().preferred_sizes = {8};
  fake_->whole = true;
  Make();
  for (int round = 0; round < 2; ++round) {
    Hold();
    auto a = Begin(Request({1})), b = Begin(Request({2}));
    Release();
    EXPECT_EQ(a.get(), "1");
    EXPECT_EQ(b.get(), "2");
  }
}

TEST_F(BatcherTest, ExecutionsNeverHaveMoreThreadsThanThereAreSlots) {
  spec_.instances = 0;
  fake_->sleep_ms = 1;
  Make();
  const auto other = *ModelVersion::Create(spec_, fake_, metrics_.ForModel("n", 1, {}), compute_);
  counters_->most_threads = 0;
  std::atomic<int> answered{0};
  for (int i = 0; i < 60; ++i)
    (i % 2 ? *model_ : *other).Submit(Request({1}), [&](const auto&) { ++answered; });
  ASSERT_TRUE(Eventually([&] { return answered == 60; }));
  EXPECT_EQ(counters_->most_threads, 2);
  EXPECT_TRUE(Eventually([&] { return compute_.free_slots() == 2; }));
}

TEST_F(BatcherTest, ALoneRequestGetsAllThreadsAndTheConfigurationItsOwn) {
  Make();
  counters_->most_threads = 0;
  Begin(Request({1})).get();
  EXPECT_EQ(counters_->most_threads, 2);
  spec_.threads = 1;
  Make();
  counters_->most_threads = 0;
  Begin(Request({1})).get();
  EXPECT_EQ(counters_->most_threads, 1);
}

TEST_F(BatcherTest, ShortModelsRunOnTheCallersThread) {
  Make();
  std::thread::id ran;
  const auto run = [&] {
    std::promise<void> done;
    model_->Submit(Request({1}), [&](const auto&) {
      ran = std::this_thread::get_id();
      done.set_value();
    });
    done.get_future().get();
    return ran == std::this_thread::get_id();
  };
  EXPECT_FALSE(run()) << "not before it is known to be short";
  EXPECT_TRUE(Eventually(run));
  Batching().preferred_sizes = {4};
  Batching().max_delay = microseconds(1);
  Make();
  for (int i = 0; i < 5; ++i) EXPECT_FALSE(run()) << "it has to wait for company";
}

TEST_F(BatcherTest, TheEndAnswersEverything) {
  Batching().preferred_sizes = {2};
  Make();
  Hold();
  std::vector<std::future<std::string>> answers;
  for (int i = 1; i < 6; ++i) answers.push_back(Begin(Request({float(i)})));
  counters_->hold = false;
  model_.reset();
  for (int i = 1; i < 6; ++i) EXPECT_EQ(answers[size_t(i - 1)].get(), std::to_string(i));
}

TEST_F(BatcherTest, ManyClientsAtOnceGetTheirOwnAnswers) {
  Batching().preserve_ordering = true;
  spec_.instances = 0;
  Make();
  std::vector<std::thread> clients;
  std::atomic<int> wrong{0};
  for (int c = 0; c < 4; ++c) {
    clients.emplace_back([&, c] {
      for (int i = 0; i < 300; ++i) {
        std::promise<std::string> answer;
        const float value = float(c * 1000 + i);
        model_->Submit(Request({value}),
                       [&](const Result<InferResponse>& r) { answer.set_value(Text(r)); });
        wrong += answer.get_future().get() != std::to_string(int(value));
      }
    });
  }
  for (auto& t : clients) t.join();
  EXPECT_EQ(wrong, 0);
}

TEST(OrderedAnswers, ComeInTheOrderOfTheirTickets) {
  OrderedAnswers order;
  std::vector<uint64_t> seen;
  const auto answer = [&](const Job& job) { seen.push_back(job.ticket); };
  std::vector<JobPtr> jobs;
  for (int i = 0; i < 4; ++i) {
    jobs.push_back(std::make_unique<Job>());
    jobs.back()->ticket = order.Take();
  }
  order.Ready(2, std::move(jobs[2]), answer);
  order.Ready(1, nullptr, answer);
  EXPECT_TRUE(seen.empty());
  order.Ready(0, std::move(jobs[0]), answer);
  EXPECT_EQ(seen, (std::vector<uint64_t>{0, 2}));
  order.Ready(3, std::move(jobs[3]), answer);
  EXPECT_EQ(seen, (std::vector<uint64_t>{0, 2, 3}));
}

}  // namespace
}  // namespace dunlin::serve
