#include "serve/repository.h"

#include <gtest/gtest.h>

#include <future>

#include "serve/fake_backend.h"

namespace dunlin::serve {
namespace {

using std::chrono::milliseconds;

constexpr const char* kModel = "in x f32 -1,2\nout y f32 -1,2\n";

std::string Adding(int n) { return kModel + ("add " + std::to_string(n) + "\n"); }

// Waits until something holds; false after five seconds.
template <class F>
bool Eventually(F&& condition) {
  for (int i = 0; i < 5000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(milliseconds(1));
  }
  return false;
}

class RepositoryTest : public testing::Test {
 protected:
  Repository& Make(ControlMode mode, std::vector<std::string> load = {}) {
    repository_ =
        std::make_unique<Repository>(RepositoryOptions{.repositories = {disk_.path()},
                                                       .mode = mode,
                                                       .load_models = std::move(load),
                                                       .poll_interval = milliseconds(1000000),
                                                       .load_threads = 2},
                                     std::make_unique<FakeBackend>(counters_), metrics_);
    return *repository_;
  }
  Status Load(const std::string& model, std::optional<std::string> config = std::nullopt,
              std::map<std::string, std::string> files = {}) {
    std::promise<Status> done;
    repository_->Load(model, {.config_json = std::move(config), .files = std::move(files)},
                      [&](Status s) { done.set_value(std::move(s)); });
    return done.get_future().get();
  }
  Status Unload(const std::string& model) {
    std::promise<Status> done;
    repository_->Unload(model, [&](Status s) { done.set_value(std::move(s)); });
    return done.get_future().get();
  }
  // y[0] of a request with zeros, or the error's message.
  static std::string Ask(ModelVersion& model, std::chrono::microseconds timeout = {}) {
    return Begin(model, timeout).get();
  }
  static std::future<std::string> Begin(ModelVersion& model, std::chrono::microseconds timeout = {},
                                        std::shared_ptr<std::atomic<bool>> cancelled = nullptr) {
    auto answer = std::make_shared<std::promise<std::string>>();
    InferRequest request;
    request.timeout = timeout;
    request.cancelled = std::move(cancelled);
    request.inputs.push_back({"x", Tensor::Of<float>({1, 2}, {0, 0})});
    model.Submit(std::move(request), [answer](Result<InferResponse> r) {
      answer->set_value(r ? std::to_string(int(r->outputs[0].tensor.as<float>()[0]))
                          : r.error().message);
    });
    return answer->get_future();
  }
  std::string Ask(const std::string& model, int64_t version = 0) {
    auto found = repository_->Find(model, version);
    return found ? Ask(**found) : found.error().message;
  }
  std::string StateOf(const std::string& model, const std::string& version) {
    const std::vector<IndexEntry> index = repository_->Index(false).value();
    for (const IndexEntry& e : index)
      if (e.name == model && e.version == version)
        return std::string(StateName(e.state)) + (e.reason.empty() ? "" : ": " + e.reason);
    return "absent";
  }

  TempRepository disk_;
  std::shared_ptr<FakeCounters> counters_ = std::make_shared<FakeCounters>();
  Metrics metrics_;
  std::unique_ptr<Repository> repository_;
};

TEST_F(RepositoryTest, LoadsEverythingAtTheStart) {
  disk_.Write("a/1/model.onnx", Adding(1));
  disk_.Write("b/1/model.onnx", Adding(2));
  disk_.Write("b/7/model.onnx", Adding(7));
  disk_.Write("b/009/model.onnx", Adding(9));  // not a version
  Repository& r = Make(ControlMode::kNone);
  EXPECT_FALSE(r.AllReady());
  ASSERT_TRUE(r.Start());
  EXPECT_TRUE(r.AllReady());
  EXPECT_EQ(Ask("a"), "1");
  EXPECT_EQ(Ask("b"), "7");
  EXPECT_EQ(Ask("b", 1), "Request for unknown model: 'b' version 1 is not found");
  EXPECT_EQ(Ask("c"), "Request for unknown model: 'c' is not found");
  EXPECT_EQ(Load("a").error().message,
            "explicit model load / unload is not allowed if polling is enabled");
}

TEST_F(RepositoryTest, FollowsTheVersionPolicy) {
  for (const int v : {1, 2, 3, 4}) disk_.Write("m/" + std::to_string(v) + "/model.onnx", Adding(v));
  disk_.Write("m/config.pbtxt", "version_policy { latest { num_versions: 2 } }");
  Repository& r = Make(ControlMode::kExplicit, {"m"});
  ASSERT_TRUE(r.Start());
  EXPECT_EQ(r.Ready("m").size(), 2u);
  EXPECT_EQ(Ask("m", 3), "3");
  disk_.Write("m/config.pbtxt", "version_policy { specific { versions: [1, 4] } }");
  ASSERT_TRUE(Load("m"));
  EXPECT_EQ(Ask("m", 1), "1");
  EXPECT_EQ(Ask("m"), "4");
  EXPECT_TRUE(Eventually([&] { return StateOf("m", "3") == "UNAVAILABLE: unloaded"; }));
  disk_.Write("m/config.pbtxt", "version_policy { all {} }");
  ASSERT_TRUE(Load("m"));
  EXPECT_EQ(r.Ready("m").size(), 4u);
  disk_.Write("m/config.pbtxt", "version_policy { specific { versions: 9 } }");
  EXPECT_EQ(Load("m").error().message,
            "load failed for model 'm': at least one version must be available under the version "
            "policy of model 'm'");
  EXPECT_EQ(r.Ready("m").size(), 4u) << "a failed load changes nothing";
  disk_.Write("m/config.pbtxt", "version_policy { specific { versions: [9, 2] } }");
  ASSERT_TRUE(Load("m")) << "those that are there are served";
  EXPECT_EQ(r.Ready("m").size(), 1u);
}

TEST_F(RepositoryTest, AFailedNewVersionLeavesTheOldOneServing) {
  disk_.Write("m/1/model.onnx", Adding(1));
  Repository& r = Make(ControlMode::kExplicit, {"m"});
  ASSERT_TRUE(r.Start());
  disk_.Write("m/2/model.onnx", "fail broken file");
  const Status s = Load("m");
  ASSERT_FALSE(s);
  EXPECT_EQ(
      s.error().message,
      "load failed for model 'm': version 2 is at UNAVAILABLE state: Invalid argument: broken "
      "file;");
  EXPECT_EQ(Ask("m"), "1");
  EXPECT_EQ(StateOf("m", "2"), "UNAVAILABLE: Invalid argument: broken file");
  EXPECT_EQ(Ask("m", 2), "Request for unknown model: 'm' version 2 is not at ready state");
  EXPECT_TRUE(r.AllReady()) << "the model still serves";
  disk_.Write("m/1/model.onnx", "fail worse");
  disk_.Remove("m/2");
  EXPECT_FALSE(Load("m"));
  EXPECT_EQ(Ask("m"), "1") << "nor does a failed reload of the same version take it down";
}

TEST_F(RepositoryTest, ReloadSwitchesWhenTheFilesChangedAndOnlyThen) {
  disk_.Write("m/1/model.onnx", Adding(1));
  Repository& r = Make(ControlMode::kExplicit, {"m"});
  ASSERT_TRUE(r.Start());
  ASSERT_TRUE(Load("m"));
  EXPECT_EQ(counters_->loads, 1) << "nothing changed";
  disk_.Write("m/1/model.onnx", Adding(12));
  ASSERT_TRUE(Load("m"));
  EXPECT_EQ(Ask("m"), "12");
  ASSERT_TRUE(Load("m", R"({"max_batch_size": 7})"));
  EXPECT_EQ(r.Find("m", 0).value()->spec().max_batch_size, 7);
  EXPECT_NE(Load("m", "{").error().message.find("failed to load 'm'"), std::string::npos);
  EXPECT_TRUE(Eventually([&] { return counters_->live_models == 1; })) << "old ones are freed";
}

TEST_F(RepositoryTest, UnloadLetsAcceptedRequestsFinish) {
  disk_.Write("m/1/model.onnx", Adding(5));
  Repository& r = Make(ControlMode::kExplicit, {"m"});
  ASSERT_TRUE(r.Start());
  counters_->hold = true;
  auto model = r.Find("m", 0).value();
  std::vector<std::future<std::string>> answers;
  for (int i = 0; i < 6; ++i) answers.push_back(Begin(*model));
  model.reset();
  ASSERT_TRUE(Unload("m"));
  EXPECT_EQ(Ask("m"), "Request for unknown model: 'm' has no available versions");
  EXPECT_EQ(StateOf("m", "1"), "UNLOADING");
  counters_->hold = false;
  for (auto& a : answers) EXPECT_EQ(a.get(), "5");
  EXPECT_TRUE(Eventually([&] { return StateOf("m", "1") == "UNAVAILABLE: unloaded"; }));
  EXPECT_EQ(counters_->live_instances, 0);
  EXPECT_TRUE(r.AllReady()) << "an unloaded model is not a missing one";
  ASSERT_TRUE(Load("m"));
  EXPECT_EQ(Ask("m"), "5");
}

TEST_F(RepositoryTest, TheLastOwnerMayBeACallback) {
  disk_.Write("m/1/model.onnx", Adding(5));
  ASSERT_TRUE(Make(ControlMode::kExplicit, {"m"}).Start());
  std::promise<void> done;
  auto model = repository_->Find("m", 0).value();
  ModelVersion& version = *model;
  InferRequest request;
  request.inputs.push_back({"x", Tensor::Of<float>({1, 2}, {0, 0})});
  counters_->hold = true;
  version.Submit(std::move(request),
                 [&done, owner = std::move(model)](const Result<InferResponse>&) mutable {
                   owner.reset();  // on the model's own thread
                   done.set_value();
                 });
  ASSERT_TRUE(Unload("m"));
  counters_->hold = false;
  done.get_future().get();
  EXPECT_TRUE(Eventually([&] { return counters_->live_models == 0; }));
}

TEST_F(RepositoryTest, ItsEndWaitsForVersionsThatRequestsStillHold) {
  disk_.Write("m/1/model.onnx", Adding(1));
  ASSERT_TRUE(Make(ControlMode::kNone).Start());
  auto held = repository_->Find("m", 0).value();
  const std::weak_ptr<ModelVersion> version = held;
  std::thread request([held = std::move(held)]() mutable {
    std::this_thread::sleep_for(milliseconds(50));
    held.reset();
  });
  repository_.reset();
  EXPECT_TRUE(version.expired());
  request.join();
}

TEST_F(RepositoryTest, AFullQueueRefusesAtOnce) {
  disk_.Write("m/1/model.onnx", Adding(5));
  disk_.Write(
      "m/config.pbtxt",
      "instance_group { count: 1 } max_batch_size: 4 dynamic_batching { default_queue_policy { "
      "max_queue_size: 2 allow_timeout_override: true } }");
  ASSERT_TRUE(Make(ControlMode::kNone).Start());
  auto model = repository_->Find("m", 0).value();
  counters_->hold = true;
  const int before = counters_->executions;
  std::vector<std::future<std::string>> answers;
  answers.push_back(Begin(*model));
  ASSERT_TRUE(Eventually([&] { return counters_->executions == before + 1; }));
  answers.push_back(Begin(*model));
  answers.push_back(Begin(*model, std::chrono::milliseconds(300)));
  EXPECT_EQ(Ask(*model), "[request id: <id_unknown>] Exceeds maximum queue size");
  EXPECT_NE(metrics_.Text().find("nv_inference_pending_request_count{model=\"m\",version=\"1\"} 2"),
            std::string::npos);
  EXPECT_EQ(answers[2].get(), "[request id: <id_unknown>] Request timeout expired");
  counters_->hold = false;
  EXPECT_EQ(answers[0].get(), "5");
  EXPECT_EQ(answers[1].get(), "5");
  const ModelStatistics s = model->Statistics();
  EXPECT_EQ(s.success.count, 2u);
  EXPECT_EQ(s.fail.count, 2u);
  EXPECT_EQ(s.batches.at(1).compute_infer.count, 2u);
}

TEST_F(RepositoryTest, CancelledRequestsEndEarly) {
  disk_.Write("m/1/model.onnx", Adding(5));
  ASSERT_TRUE(Make(ControlMode::kNone).Start());
  counters_->hold = true;
  const int before = counters_->executions;
  auto cancelled = std::make_shared<std::atomic<bool>>(false);
  auto answer = Begin(**repository_->Find("m", 0), {}, cancelled);
  ASSERT_TRUE(Eventually([&] { return counters_->executions > before; }));
  *cancelled = true;
  EXPECT_EQ(answer.get(), "[request id: <id_unknown>] cancelled");
  counters_->hold = false;
}

TEST_F(RepositoryTest, PollingFollowsTheFolders) {
  disk_.Write("a/1/model.onnx", Adding(1));
  disk_.Write("bad/1/model.onnx", "fail x");
  Repository& r = Make(ControlMode::kPoll);
  EXPECT_FALSE(r.Start());
  EXPECT_FALSE(r.AllReady());
  const int loads = counters_->loads;
  r.Poll();
  EXPECT_EQ(counters_->loads, loads) << "what has not changed is not tried again";
  disk_.Write("b/1/model.onnx", Adding(2));
  disk_.Write("a/2/model.onnx", Adding(22));
  disk_.Write("bad/1/model.onnx", Adding(3));
  r.Poll();
  EXPECT_EQ(Ask("a"), "22");
  EXPECT_EQ(Ask("b"), "2");
  EXPECT_EQ(Ask("bad"), "3");
  EXPECT_TRUE(r.AllReady());
  disk_.Remove("b");
  disk_.Remove("a/2");
  r.Poll();
  EXPECT_EQ(Ask("b"), "Request for unknown model: 'b' has no available versions");
  EXPECT_EQ(Ask("a"), "1");
  disk_.Write("b/1/model.onnx", Adding(4));
  r.Poll();
  EXPECT_EQ(Ask("b"), "4");
}

TEST_F(RepositoryTest, NamesCannotLeaveTheRepository) {
  disk_.Write("repo/a/1/model.onnx", Adding(1));
  disk_.Write("outside/1/model.onnx", Adding(1));
  Repository r(
      {.repositories = {disk_.path() + "/repo"}, .mode = ControlMode::kExplicit, .load_models = {}},
      std::make_unique<FakeBackend>(counters_), metrics_);
  ASSERT_TRUE(r.Start());
  for (const char* name : {"../outside", "..", ".", "", "a/1", "/a", "a/../../outside"}) {
    std::promise<Status> done;
    r.Load(name, {}, [&](Status s) { done.set_value(std::move(s)); });
    const Status s = done.get_future().get();
    ASSERT_FALSE(s) << name;
    EXPECT_NE(s.error().message.find("failed to poll from model repository"), std::string::npos);
  }
  EXPECT_EQ(counters_->loads, 0);
  EXPECT_EQ(r.Index(false)->size(), 1u) << "names asked for in vain leave nothing behind";
}

TEST_F(RepositoryTest, AModelInTwoRepositoriesIsRefused) {
  disk_.Write("r1/m/1/model.onnx", Adding(1));
  disk_.Write("r2/m/1/model.onnx", Adding(2));
  Repository r({.repositories = {disk_.path() + "/r1", disk_.path() + "/r2"}, .load_models = {}},
               std::make_unique<FakeBackend>(counters_), metrics_);
  EXPECT_FALSE(r.Start());
  const auto index = *r.Index(false);
  ASSERT_EQ(index.size(), 1u);
  EXPECT_EQ(index[0].state, VersionState::kUnavailable);
  EXPECT_EQ(index[0].version, "");
  EXPECT_EQ(index[0].reason, "model appears in two or more repositories");
}

TEST_F(RepositoryTest, PollingUnloadsAModelThatTwoRepositoriesHave) {
  disk_.Write("r1/m/1/model.onnx", Adding(1));
  disk_.Write("r2/other/1/model.onnx", Adding(3));
  Repository r({.repositories = {disk_.path() + "/r1", disk_.path() + "/r2"},
                .mode = ControlMode::kPoll,
                .load_models = {},
                .poll_interval = milliseconds(1000000)},
               std::make_unique<FakeBackend>(counters_), metrics_);
  ASSERT_TRUE(r.Start());
  disk_.Write("r2/m/1/model.onnx", Adding(2));
  r.Poll();
  EXPECT_FALSE(r.Find("m", 0));
  EXPECT_TRUE(r.Find("other", 0));
  disk_.Remove("r1/m");
  r.Poll();
  ASSERT_TRUE(r.Find("m", 0));
  EXPECT_EQ(Ask(**r.Find("m", 0)), "2");
}

TEST_F(RepositoryTest, TheIndexListsWhatIsThereAndWhy) {
  disk_.Write("bad/1/model.onnx", "fail x");
  disk_.Write("odd/config.pbtxt", "nonsense: 1");
  disk_.Write("never/1/model.onnx", Adding(1));
  disk_.Write("good/1/model.onnx", Adding(1));
  Repository& r = Make(ControlMode::kExplicit, {"bad", "odd", "good"});
  EXPECT_FALSE(r.Start());
  EXPECT_EQ(r.Index(true)->size(), 1u);
  EXPECT_EQ(r.Index(false)->size(), 4u);
  EXPECT_EQ(StateOf("good", "1"), "READY");
  EXPECT_EQ(StateOf("never", ""), "UNKNOWN");
  EXPECT_EQ(StateOf("bad", "1"), "UNAVAILABLE: Invalid argument: x");
  EXPECT_NE(StateOf("odd", "").find("failed to read text proto"), std::string::npos)
      << StateOf("odd", "");
  disk_.Remove("good");
  EXPECT_EQ(StateOf("good", "1"), "READY") << "it still serves";
  ASSERT_TRUE(Unload("good"));
  EXPECT_TRUE(Eventually([&] { return StateOf("good", "1") == "absent"; }));
}

TEST_F(RepositoryTest, LoadsFromTheFilesOfARequest) {
  disk_.Write("m/3/model.onnx", Adding(3));
  Repository& r = Make(ControlMode::kExplicit, {"m"});
  ASSERT_TRUE(r.Start());
  const Status bare = Load("m", std::nullopt, {{"1/model.onnx", Adding(1)}});
  ASSERT_FALSE(bare);
  EXPECT_EQ(bare.error().message.find("failed to load 'm', failed to poll from model repository"),
            0u);
  EXPECT_EQ(Ask("m"), "3") << "a failed load changes nothing";
  ASSERT_TRUE(Load("new", "{}", {{"1/model.onnx", Adding(7)}})) << "no repository has it";
  EXPECT_EQ(Ask("new"), "7");
  EXPECT_EQ(StateOf("new", "1"), "READY");
  ASSERT_TRUE(Load("m", R"({"backend":"onnxruntime"})", {{"1/model.onnx", Adding(1)}}));
  EXPECT_EQ(Ask("m"), "1") << "the files replace the folder";
  EXPECT_FALSE(r.Find("m", 3));
  ASSERT_TRUE(Load("m", R"({"output":[{"name":"y","label_filename":"l.txt"}]})",
                   {{"1/model.onnx", Adding(2)}, {"l.txt", "cat\ndog\n"}}));
  EXPECT_EQ(Ask("m"), "2");
  EXPECT_EQ(r.Find("m", 0).value()->spec().outputs[0].labels.size(), 2u);
  ASSERT_TRUE(Load("m"));
  EXPECT_EQ(Ask("m"), "3") << "the next load reads the repository";
  ASSERT_TRUE(Unload("new"));
  EXPECT_FALSE(Load("new"));
}

TEST_F(RepositoryTest, FilesOfARequestStayInTheirFolder) {
  disk_.Write("m/1/model.onnx", Adding(1));
  const TempRepository temporary;
  ::setenv("TMPDIR", temporary.path().c_str(), 1);
  ASSERT_TRUE(Make(ControlMode::kExplicit).Start());
  const std::string outside = disk_.path() + "/outside";
  for (const std::string& path :
       {std::string("../outside"), std::string("1/../../outside"), outside, std::string(""),
        std::string("1//model.onnx"), std::string("./1/model.onnx"), std::string("1/"),
        std::string("1/m\0x", 5), std::string(300, 'x')}) {
    const Status s = Load("m", "{}", {{"1/model.onnx", Adding(1)}, {path, "text"}});
    ASSERT_FALSE(s) << path;
    EXPECT_NE(s.error().message.find("failed to load 'm'"), std::string::npos);
  }
  EXPECT_FALSE(std::filesystem::exists(outside));
  EXPECT_FALSE(Load("evil", "{}", {{"../outside", "text"}}));
  EXPECT_EQ(StateOf("evil", ""), "absent");
  EXPECT_TRUE(repository_->AllReady());
  EXPECT_EQ(counters_->loads, 0);
  std::map<std::string, std::string> many;
  for (int i = 0; i < 1001; ++i) many["1/" + std::to_string(i)] = "";
  EXPECT_FALSE(Load("m", "{}", many));
  // Nothing stays behind, of good loads as of bad ones.
  ASSERT_TRUE(Load("m", "{}", {{"1/model.onnx", Adding(1)}}));
  EXPECT_TRUE(std::filesystem::is_empty(temporary.path()));
  ::unsetenv("TMPDIR");
}

TEST_F(RepositoryTest, TriesAFailedLoadAgainWhereAsked) {
  disk_.Write("m/1/model.onnx", Adding(1));
  const auto start = [&](int retries) {
    Repository r({.repositories = {disk_.path()}, .load_models = {}, .load_retries = retries},
                 std::make_unique<FakeBackend>(counters_), metrics_);
    counters_->fail_loads = 2;
    return r.Start().has_value();
  };
  EXPECT_FALSE(start(1));
  EXPECT_TRUE(start(2));
}

TEST_F(RepositoryTest, VariantsOfTheConfiguration) {
  for (const char* m : {"a", "b"}) {
    disk_.Write(std::string(m) + "/1/model.onnx", Adding(1));
    disk_.Write(std::string(m) + "/config.pbtxt", "max_batch_size: 2");
  }
  disk_.Write("a/configs/big.pbtxt", "max_batch_size: 16");
  Repository r({.repositories = {disk_.path()}, .load_models = {}, .config_name = "big"},
               std::make_unique<FakeBackend>(counters_), metrics_);
  ASSERT_TRUE(r.Start());
  EXPECT_EQ(r.Find("a", 0).value()->spec().max_batch_size, 16);
  EXPECT_EQ(r.Find("b", 0).value()->spec().max_batch_size, 2);
}

TEST_F(RepositoryTest, AModelMayBeAFolder) {
  disk_.Write("m/1/model.onnx/model.onnx", Adding(1));
  disk_.Write("named/1/net.onnx", Adding(2));
  disk_.Write("named/config.pbtxt", "default_model_filename: 'net.onnx'");
  ASSERT_TRUE(Make(ControlMode::kNone).Start());
  EXPECT_EQ(Ask("m"), "1");
  EXPECT_EQ(Ask("named"), "2");
}

TEST_F(RepositoryTest, WarmUpRunsBeforeReady) {
  disk_.Write("m/1/model.onnx", Adding(1));
  disk_.Write("m/config.pbtxt", R"(
    instance_group { count: 1 }
    model_warmup { name: "w" batch_size: 2 count: 3
      inputs { key: "x" value { data_type: TYPE_FP32 dims: 2 random_data: true } } })");
  ASSERT_TRUE(Make(ControlMode::kNone).Start());
  EXPECT_EQ(counters_->executions, 3);
  EXPECT_EQ(repository_->Find("m", 0).value()->Statistics().success.count, 0u);
}

TEST_F(RepositoryTest, WarmUpTakesFilesAndRandomNumbersOfEveryType) {
  disk_.Write("m/1/model.onnx", "in s string -1,2\nin i i64 -1,1\nout t string -1,2\n");
  const std::string config = R"(
    model_warmup { name: "w" batch_size: 1
      inputs { key: "s" value { data_type: TYPE_STRING dims: 2 input_data_file: "words" } }
      inputs { key: "i" value { data_type: TYPE_INT64 dims: 1 random_data: true } } })";
  disk_.Write("m/config.pbtxt", config);
  disk_.Write("m/warmup/words", std::string("\2\0\0\0hi\0\0\0\0", 10));
  EXPECT_TRUE(Make(ControlMode::kNone).Start());
  disk_.Write("m/warmup/words", std::string("\2\0\0\0hi", 6));
  const Status s = Make(ControlMode::kNone).Start();
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().message.find("warmup/words': Expected 2 BYTES elements, got 1"),
            std::string::npos)
      << s.error().message;
}

TEST_F(RepositoryTest, AWarmUpSampleThatFailsFailsTheLoad) {
  disk_.Write("m/1/model.onnx", std::string(kModel) + "error boom\n");
  disk_.Write("m/config.pbtxt", R"(model_warmup { name: "w"
      inputs { key: "x" value { data_type: TYPE_FP32 dims: 2 zero_data: true } } })");
  const Status s = Make(ControlMode::kNone).Start();
  ASSERT_FALSE(s);
  EXPECT_NE(s.error().message.find("warm-up sample 'w' of model 'm': boom"), std::string::npos)
      << s.error().message;
}

// Loads, unloads, reloads and requests at once: nothing crashes, and every request gets one answer.
TEST_F(RepositoryTest, SurvivesEverythingAtOnce) {
  for (const char* m : {"a", "b"}) disk_.Write(std::string(m) + "/1/model.onnx", Adding(1));
  ASSERT_TRUE(Make(ControlMode::kExplicit, {"*"}).Start());
  std::atomic<bool> stop{false};
  std::atomic<int> sent{0}, answered{0};
  std::vector<std::thread> clients;
  for (int c = 0; c < 3; ++c) {
    clients.emplace_back([&, c] {
      while (!stop) {
        auto model = repository_->Find(c % 2 ? "a" : "b", 0);
        if (!model) continue;
        ++sent;
        Ask(**model);
        ++answered;
      }
    });
  }
  for (int i = 0; i < 60; ++i) {
    const std::string m = i % 2 ? "a" : "b";
    disk_.Write(m + "/1/model.onnx", Adding(i) + std::string(size_t(i), '\n'));
    EXPECT_TRUE(i % 5 == 0 ? Unload(m) : Load(m));
  }
  stop = true;
  for (auto& t : clients) t.join();
  EXPECT_EQ(sent, answered);
  EXPECT_GT(sent, 0);
  repository_.reset();
  EXPECT_EQ(counters_->live_models, 0);
}

}  // namespace
}  // namespace dunlin::serve
