#include "serve/trace.h"

#include <gtest/gtest.h>

#include <future>

namespace dunlin::serve {
namespace {

// Keeps what it is given; may be told to wait.
struct Kept {
  std::mutex mutex;
  std::vector<TraceRecord> records;
  std::shared_future<void> gate;
};
class KeepSink : public TraceSink {
 public:
  explicit KeepSink(std::shared_ptr<Kept> kept) : kept_(std::move(kept)) {}
  void Write(std::vector<TraceRecord> records) override {
    if (kept_->gate.valid()) kept_->gate.wait();
    const std::lock_guard lock(kept_->mutex);
    for (TraceRecord& r : records) kept_->records.push_back(std::move(r));
  }
  uint64_t dropped() const override { return 0; }

 private:
  const std::shared_ptr<Kept> kept_;
};

TraceOptions On(TraceMode mode = TraceMode::kTriton) {
  TraceOptions o;
  o.mode = mode;
  o.values = {.level = kTraceTimestamps, .rate = 1};
  o.file = "trace.json";
  o.schedule_delay = std::chrono::milliseconds(1);
  return o;
}

class TracerTest : public testing::Test {
 protected:
  void Start(const TraceOptions& options) {
    tracer_ = std::make_unique<Tracer>(options, std::make_unique<KeepSink>(kept_));
  }
  std::shared_ptr<Trace> Begin(const std::string& model, std::string_view parent = {}) {
    return tracer_->Begin({.model = model, .version = 1, .id = "r", .traceparent = parent});
  }
  int Sampled(const std::string& model, int requests) {
    int n = 0;
    for (int i = 0; i < requests; ++i) n += Begin(model) != nullptr;
    return n;
  }
  std::vector<std::string> Value(const std::string& model, const std::string& key) {
    for (const auto& [k, v] : tracer_->Get(model))
      if (k == key) return v;
    return {"absent"};
  }
  std::vector<TraceRecord> Finish() {
    tracer_.reset();
    return kept_->records;
  }
  const std::shared_ptr<Kept> kept_ = std::make_shared<Kept>();
  std::unique_ptr<Tracer> tracer_;
  using List = std::vector<std::string>;
};

TEST_F(TracerTest, OffUntilTheSettingsSayOtherwise) {
  TraceOptions o = On();
  o.values = {};
  Start(o);
  EXPECT_EQ(Sampled("m", 5), 0);
  ASSERT_TRUE(tracer_->Update("m", {{"trace_level", {"TIMESTAMPS"}}, {"trace_rate", {"1"}}}));
  EXPECT_EQ(Sampled("m", 5), 5);
  EXPECT_EQ(Sampled("other", 5), 0);
  ASSERT_TRUE(tracer_->Update("m", {{"trace_level", {"OFF"}}}));
  EXPECT_EQ(Sampled("m", 5), 0);
}

TEST_F(TracerTest, RateAndCountBoundWhatIsSampled) {
  TraceOptions o = On();
  o.values.rate = 3;
  Start(o);
  EXPECT_EQ(Begin("m"), nullptr);
  EXPECT_EQ(Begin("m"), nullptr);
  EXPECT_NE(Begin("m"), nullptr);
  EXPECT_EQ(Sampled("m", 30), 10);
  ASSERT_TRUE(tracer_->Update("", {{"trace_count", {"4"}}}));
  EXPECT_EQ(Sampled("m", 30), 4);
  EXPECT_EQ(Value("", "trace_count"), List{"0"});
}

TEST_F(TracerTest, ModelsInheritWhatTheyDoNotSay) {
  Start(On());
  ASSERT_TRUE(tracer_->Update("m", {{"trace_rate", {"12"}}, {"log_frequency", {"34"}}}));
  ASSERT_TRUE(tracer_->Update(
      "", {{"trace_rate", {"56"}}, {"trace_count", {"78"}}, {"trace_level", {"OFF"}}}));
  EXPECT_EQ(Value("m", "trace_level"), List{"OFF"});
  EXPECT_EQ(Value("m", "trace_count"), List{"78"});
  EXPECT_EQ(Value("m", "trace_rate"), List{"12"});
  // Clearing the global values brings the command line's back; the model's own stay.
  ASSERT_TRUE(tracer_->Update("", {{"trace_rate", {}}, {"trace_count", {}}}));
  EXPECT_EQ(Value("", "trace_rate"), List{"1"});
  EXPECT_EQ(Value("", "trace_count"), List{"-1"});
  EXPECT_EQ(Value("m", "trace_rate"), List{"12"});
  ASSERT_TRUE(tracer_->Update("m", {{"trace_rate", {}}, {"trace_level", {}}}));
  EXPECT_EQ(Value("m", "trace_rate"), List{"1"});
  EXPECT_EQ(Value("m", "trace_level"), List{"OFF"});
  EXPECT_EQ(Value("m", "log_frequency"), List{"34"});
}

TEST_F(TracerTest, BadSettingsChangeNothing) {
  Start(On());
  const auto error = [&](const Tracer::Settings& s) {
    const Status status = tracer_->Update("m", s);
    return status ? "" : status.error().message;
  };
  EXPECT_EQ(error({{"trace_rate", {"5"}}, {"trace_file", {"x"}}}),
            "trace file location can not be updated through network protocol");
  EXPECT_EQ(Value("m", "trace_rate"), List{"1"});
  EXPECT_EQ(error({{"trace_rate", {"x"}}}), "Unable to parse 'trace_rate', got: x");
  EXPECT_EQ(error({{"trace_rate", {"0"}}}),
            "Attempting to set invalid trace setting :sample rate must be non-zero");
  EXPECT_NE(error({{"trace_rate", {"99999999999"}}}).find("out of range"), std::string::npos);
  EXPECT_NE(error({{"trace_level", {"OFF", "TENSORS"}}}), "");
  EXPECT_NE(error({{"trace_level", {"HIGH"}}}), "");
  EXPECT_NE(error({{"colour", {"red"}}}), "");
  TraceOptions no_file = On();
  no_file.values.level = 0;
  no_file.file.clear();
  Start(no_file);
  EXPECT_EQ(error({{"trace_level", {"TIMESTAMPS"}}}),
            "Attempting to set invalid trace setting :trace file name is not given");
}

TEST_F(TracerTest, RecordsCarryWhatWasNoted) {
  TraceOptions o = On();
  o.values.level = kTraceTimestamps | kTraceTensors;
  Start(o);
  {
    const auto trace = Begin("m");
    const std::chrono::steady_clock::time_point when{std::chrono::nanoseconds(77)};
    trace->Stamp(TracePoint::kComputeStart, when);
    trace->Note(TraceTensor::kBackendInput, {"x", Tensor::Of<float>({1, 2}, {0.5f, -3.f})});
    const auto child = trace->Child("step", 2);
    EXPECT_EQ(child->trace_id(), trace->trace_id());
    EXPECT_EQ(trace->trace_id().size(), 32u);
  }
  const auto records = Finish();
  ASSERT_EQ(records.size(), 2u);
  const TraceRecord &child = records[0], &parent = records[1];
  EXPECT_EQ(parent.ns[size_t(TracePoint::kComputeStart)], 77);
  EXPECT_EQ(parent.ns[size_t(TracePoint::kComputeEnd)], 0);
  EXPECT_EQ(parent.request_id, "r");
  EXPECT_EQ(parent.tensors,
            R"({"id":1,"activity":"TENSOR_BACKEND_INPUT","tensor":{"name":"x","data":"0.5,-3",)"
            R"("shape":"1,2","dtype":"FP32"}},)");
  EXPECT_EQ(child.parent_id, parent.id);
  EXPECT_EQ(child.parent_span, parent.request_span);
}

TEST_F(TracerTest, LargeTensorsAreCut) {
  TraceOptions o = On();
  o.values.level = kTraceTensors;
  Start(o);
  const Tensor big = Tensor::Zeros(DType::kI32, {3'000'000}).value();
  for (auto trace = Begin("m"); trace; trace.reset())
    for (int i = 0; i < 10; ++i) trace->Note(TraceTensor::kQueueInput, {"x", big});
  const auto records = Finish();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_LT(records[0].tensors.size(), 6u << 20);
  EXPECT_NE(records[0].tensors.find("\"truncated\":true"), std::string::npos);
}

TEST_F(TracerTest, AHugeStringIsCutToo) {
  TraceOptions o = On();
  o.values.level = kTraceTensors;
  Start(o);
  const Tensor text = Tensor::Create(DType::kString, {1}).value();
  text.mut<std::string>()[0].assign(3 << 20, 'x');
  Begin("m")->Note(TraceTensor::kQueueInput, {"x", text});
  const auto records = Finish();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_LT(records[0].tensors.size(), 2u << 20);
}

TEST_F(TracerTest, AFullQueueDropsAndCounts) {
  TraceOptions o = On();
  o.max_queue_size = 4;
  o.max_export_batch_size = 1;
  std::promise<void> open;
  kept_->gate = open.get_future().share();
  Start(o);
  constexpr int kTraces = 50;
  EXPECT_EQ(Sampled("m", kTraces), kTraces);
  const uint64_t dropped = tracer_->dropped();
  EXPECT_GE(dropped, uint64_t(kTraces - 2 * 4));
  open.set_value();
  EXPECT_EQ(Finish().size() + dropped, size_t(kTraces));
}

TEST_F(TracerTest, TraceParentDecidesAndBecomesTheParent) {
  TraceOptions o = On(TraceMode::kOpenTelemetry);
  o.values.rate = 1000;
  Start(o);
  constexpr std::string_view kIds = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331";
  EXPECT_EQ(Begin("m"), nullptr);
  EXPECT_EQ(Begin("m", std::string(kIds) + "-00"), nullptr);
  auto trace = Begin("m", std::string(kIds) + "-01");
  ASSERT_NE(trace, nullptr);
  EXPECT_EQ(trace->trace_id(), "0af7651916cd43dd8448eb211c80319c");
  trace.reset();
  EXPECT_EQ(Begin("m", "00-bad"), nullptr);
  const auto records = Finish();
  ASSERT_EQ(records.size(), 1u);
  EXPECT_EQ(records[0].parent_span[0], 0xb7);
}

TEST(TraceParentTest, OnlyValidOnesAreTaken) {
  const std::string good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
  EXPECT_TRUE(ParseTraceParent(good)->sampled);
  EXPECT_TRUE(ParseTraceParent("cc" + good.substr(2) + "-what"));  // a later version
  const std::string bad[] = {
      "",
      "ff" + good.substr(2),
      good + "-more",
      good.substr(0, 54),
      "cc" + good.substr(2) + "x",
      "00-00000000000000000000000000000000-b7ad6b7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
      "00-0AF7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c_b7ad6b7169203331-01",
      "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333g-01",
  };
  for (const std::string& text : bad) EXPECT_FALSE(ParseTraceParent(text)) << text;
}

TEST(TraceConfig, ParsesTritonsForms) {
  const auto o = ParseTraceConfig({"triton,file=/tmp/a=b", "level=TIMESTAMPS", "level=TENSORS",
                                   "rate=5", "count=10", "triton,log-frequency=3"});
  ASSERT_TRUE(o) << o.error().message;
  EXPECT_EQ(o->file, "/tmp/a=b");
  EXPECT_EQ(o->values.level, kTraceTimestamps | kTraceTensors);
  EXPECT_EQ(o->values.rate, 5u);
  EXPECT_EQ(o->values.count, 10);
  EXPECT_EQ(o->values.log_frequency, 3u);
  const auto otel = ParseTraceConfig({"mode=opentelemetry", "opentelemetry,url=http://c:1/x",
                                      "opentelemetry,resource=service.name=s", "level=TIMESTAMPS",
                                      "opentelemetry,bsp_schedule_delay=10"});
  ASSERT_TRUE(otel) << otel.error().message;
  EXPECT_EQ(otel->url, "http://c:1/x");
  EXPECT_EQ(otel->resource[0].second, "s");
  EXPECT_EQ(otel->schedule_delay.count(), 10);
  for (const char* bad : {"rate", "rate=0", "rate=x", "count=-2", "mode=other", "level=LOUD",
                          "triton,color=1", "opentelemetry,what=1", "opentelemetry,resource=x",
                          "level=TIMESTAMPS" /* without a file */}) {
    const auto status = ParseTraceConfig({bad});
    EXPECT_FALSE(status) << bad;
  }
}

}  // namespace
}  // namespace dunlin::serve
