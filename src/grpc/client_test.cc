// The client and the server, over loopback, with an engine that does what it is told.
#include "grpc/client.h"

#include <gtest/gtest.h>

#include <future>
#include <thread>

#include "grpc/server_fixture.h"

namespace dunlin::grpc {
namespace {

using std::chrono::milliseconds;

class ServerAndClient : public ServerTest {
 protected:
  Client Connect(milliseconds timeout = milliseconds(20000)) {
    auto client =
        Client::Connect("127.0.0.1:" + std::to_string(server_->port()), {.timeout = timeout});
    EXPECT_TRUE(client.has_value());
    return std::move(*client);
  }
  static serve::InferCall Request() {
    serve::InferCall call;
    call.model = "m";
    call.inputs.push_back({"x", Tensor::Of<float>(Dims{1, 2}, {1.f, 2.f}), std::nullopt});
    return call;
  }
};

TEST_F(ServerAndClient, Infer) {
  Start();
  Client client = Connect();
  auto results = client.Infer(Request());
  ASSERT_TRUE(results.has_value()) << results.error().message;
  ASSERT_EQ(results->size(), 1u);
  EXPECT_EQ((*results)[0].name, "y");
  EXPECT_EQ((*results)[0].dims, (Dims{1, 2}));
  EXPECT_EQ((*results)[0].tensor.as<float>()[1], 3.f);

  serve::InferCall text;
  text.model = "text";
  text.inputs.push_back(
      {"s", Tensor::Of<std::string>(Dims{2}, {std::string("a"), std::string()}), std::nullopt});
  results = client.Infer(text);
  ASSERT_TRUE(results.has_value()) << results.error().message;
  EXPECT_EQ((*results)[0].tensor.as<std::string>()[0], "a");
}

TEST_F(ServerAndClient, LargeTensorsGoBothWays) {
  Start();
  serve::InferCall call = Request();
  constexpr int64_t kRows = 200000;
  Tensor big = *Tensor::Create(DType::kF32, Dims{kRows, 2});
  for (int64_t i = 0; i < big.count(); ++i) big.mut<float>()[i] = float(i);
  call.inputs[0].tensor = big;
  auto results = Connect().Infer(call);
  ASSERT_TRUE(results.has_value()) << results.error().message;
  for (int64_t i = 0; i < big.count(); i += 999)
    ASSERT_EQ((*results)[0].tensor.as<float>()[i], float(i) + 1);
}

TEST_F(ServerAndClient, MetadataAndStatistics) {
  Start();
  Client client = Connect();
  auto model = client.Metadata("m");
  ASSERT_TRUE(model.has_value()) << model.error().message;
  EXPECT_EQ(model->inputs.at(0).name, "x");
  EXPECT_EQ(model->inputs.at(0).dims.back(), 2);
  ASSERT_TRUE(client.Infer(Request()).has_value());
  auto stats = client.Statistics("m", "");
  ASSERT_TRUE(stats.has_value());
  EXPECT_EQ(stats->success.count, 1u);
  const auto missing = client.Metadata("no");
  ASSERT_FALSE(missing.has_value());
  EXPECT_EQ(missing.error().code, Code::kNotFound);
}

TEST_F(ServerAndClient, SharedMemory) {
  Start();
  Client client = Connect();
  EXPECT_FALSE(client.RegisterSharedMemory("r", "/dunlin-no-such-region", 8).has_value());
  EXPECT_TRUE(client.UnregisterSharedMemory("r").has_value());
}

TEST_F(ServerAndClient, NobodyThere) {
  auto client = Client::Connect("127.0.0.1:1", {.timeout = milliseconds(5000)});
  ASSERT_TRUE(client.has_value());
  const auto answer = client->Metadata("m");
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, Code::kUnavailable);
  EXPECT_FALSE(Client::Connect("127.0.0.1:1", {.use_tls = true, .tls = {.ca_file = "/no/such"}})
                   .has_value());
}

TEST_F(ServerAndClient, ADeadlineEndsTheRequestInTheModel) {
  Start();
  counters_->hold = true;
  const auto answer = Connect(milliseconds(300)).Infer(Request());
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, Code::kDeadlineExceeded);
  for (int i = 0; i < 2000 && counters_->cancelled == 0; ++i)
    std::this_thread::sleep_for(milliseconds(5));
  EXPECT_EQ(counters_->cancelled, 1);
}

TEST_F(ServerAndClient, BytesInProgressAreBounded) {
  Start({.max_inflight_size = 1 << 20});
  serve::InferCall large = Request();
  large.inputs[0].tensor = *Tensor::Zeros(DType::kF32, Dims{200000, 2});
  const auto answer = Connect().Infer(large);
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, Code::kResourceExhausted) << answer.error().message;
  // The bytes are given back a moment after the answer has left.
  bool again = false;
  for (int i = 0; i < 500 && !again; ++i) {
    again = Connect().Infer(Request()).has_value();
    if (!again) std::this_thread::sleep_for(milliseconds(10));
  }
  EXPECT_TRUE(again);
}

TEST_F(ServerAndClient, CallsInProgressAreBounded) {
  Start({.max_inflight_calls = 1});
  counters_->hold = true;
  auto first = std::async(std::launch::async, [this] { return Connect().Infer(Request()); });
  WaitUntilRunning();
  const auto answer = Connect().Infer(Request());
  ASSERT_FALSE(answer.has_value());
  EXPECT_EQ(answer.error().code, Code::kResourceExhausted) << answer.error().message;
  counters_->hold = false;
  EXPECT_TRUE(first.get().has_value());
}

TEST_F(ServerAndClient, DrainAnswersWhatWasAcceptedAndRefusesTheRest) {
  Start();
  counters_->hold = true;
  auto first = std::async(std::launch::async, [this] { return Connect().Infer(Request()); });
  WaitUntilRunning();
  Client second = Connect();
  stopping_ = true;
  server_->Drain();
  EXPECT_FALSE(server_->WaitUntilDrained(milliseconds(50)));
  const auto refused = second.Infer(Request());
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code, Code::kUnavailable);
  counters_->hold = false;
  EXPECT_TRUE(first.get().has_value());
  EXPECT_TRUE(server_->WaitUntilDrained(milliseconds(20000)));
}

TEST_F(ServerAndClient, TheServerEndsWhileModelsRun) {
  Start();
  counters_->hold = true;
  auto call = std::async(std::launch::async, [this] { return Connect().Infer(Request()); });
  WaitUntilRunning();
  const auto begun = std::chrono::steady_clock::now();
  server_.reset();  // cancels the call, which the model sees long before the call's deadline
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(15));
  EXPECT_FALSE(call.get().has_value());
}

TEST_F(ServerAndClient, APortInUseIsAnError) {
  Start();
  auto second = Server::Start({.address = "127.0.0.1", .port = server_->port()}, *service_);
  ASSERT_FALSE(second.has_value());
  EXPECT_EQ(second.error().code, Code::kUnavailable);
}

}  // namespace
}  // namespace dunlin::grpc
