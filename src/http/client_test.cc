#include "http/client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <thread>

namespace dunlin::http {
namespace {

namespace asio = boost::asio;
using testing::HasSubstr;

// Accepts one connection and answers its requests, one by one, with the given bytes; then closes
// it.
class Canned {
 public:
  explicit Canned(std::vector<std::string> answers)
      : acceptor_(io_, {asio::ip::make_address("127.0.0.1"), 0}),
        thread_([this, answers = std::move(answers)] {
          asio::ip::tcp::socket socket(io_);
          boost::system::error_code error;
          acceptor_.accept(socket, error);
          for (const std::string& answer : answers) {
            asio::streambuf head;
            asio::read_until(socket, head, "\r\n\r\n", error);
            seen_.push_back(
                std::string(asio::buffers_begin(head.data()), asio::buffers_end(head.data())));
            asio::write(socket, asio::buffer(answer), error);
          }
        }) {}
  ~Canned() { thread_.join(); }
  std::string url() const {
    return fmt::format("http://127.0.0.1:{}", acceptor_.local_endpoint().port());
  }
  // After the last answer has been received.
  const std::vector<std::string>& seen() const { return seen_; }

 private:
  asio::io_context io_;
  asio::ip::tcp::acceptor acceptor_;
  std::vector<std::string> seen_;
  std::thread thread_;
};

std::string Ok(const std::string& body, const std::string& headers = "") {
  return fmt::format("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{}\r\n{}", body.size(), headers,
                     body);
}

serve::InferCall Call() {
  serve::InferCall call;
  call.model = "m";
  return call;
}

std::string InferError(const std::string& answer) {
  Canned server({answer});
  auto client = Client::Connect(server.url());
  EXPECT_TRUE(client) << client.error().message;
  const auto outputs = client->Infer(Call());
  return outputs ? "(accepted)" : outputs.error().message;
}

TEST(Client, ReadsMetadata) {
  Canned server({Ok(R"({"name":"m","versions":["1"],"platform":"p",
      "inputs":[{"name":"x","datatype":"FP32","shape":[-1,3]}],"outputs":[{"name":"y","datatype":"BYTES","shape":[1]}]})")});
  auto client = Client::Connect(server.url());
  ASSERT_TRUE(client) << client.error().message;
  const auto model = client->Metadata("a b/c", "2");
  ASSERT_TRUE(model) << model.error().message;
  EXPECT_THAT(server.seen()[0], HasSubstr("GET /v2/models/a%20b%2Fc/versions/2 HTTP/1.1"));
  EXPECT_EQ(model->name, "m");
  EXPECT_EQ(model->inputs[0].dims, (Dims{-1, 3}));
  EXPECT_EQ(model->outputs[0].dtype, DType::kString);
}

TEST(Client, ReadsBinaryAndJsonOutputs) {
  const std::string json = R"({"outputs":[
      {"name":"a","datatype":"INT16","shape":[2],"parameters":{"binary_data_size":4}},
      {"name":"b","datatype":"BYTES","shape":[1],"parameters":{"binary_data_size":6}},
      {"name":"c","datatype":"FP32","shape":[2,1],"data":[[1.5],[2]]},
      {"name":"d","datatype":"BOOL","shape":[1],"data":[true]}]})";
  Canned server({Ok(json + std::string("\1\0\2\0\2\0\0\0hi", 10),
                    fmt::format("Inference-Header-Content-Length: {}\r\n", json.size()))});
  auto client = Client::Connect(server.url());
  const auto outputs = client->Infer(Call());
  ASSERT_TRUE(outputs) << outputs.error().message;
  EXPECT_EQ((*outputs)[0].tensor.as<int16_t>()[1], 2);
  EXPECT_EQ((*outputs)[1].tensor.as<std::string>()[0], "hi");
  EXPECT_EQ((*outputs)[2].tensor.as<float>()[1], 2.0f);
  EXPECT_TRUE((*outputs)[3].tensor.as<bool>()[0]);
}

TEST(Client, SendsTensorsInBinary) {
  Canned server({Ok(R"({"outputs":[]})")});
  auto client = Client::Connect(server.url());
  serve::InferCall call = Call();
  call.inputs = {{"x", Tensor::Of<float>({2}, {1, 2}), {}}};
  ASSERT_TRUE(client->Infer(call));
  const std::string json =
      R"({"inputs":[{"name":"x","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}}],"parameters":{"binary_data_output":true}})";
  EXPECT_THAT(server.seen()[0], HasSubstr("POST /v2/models/m/infer HTTP/1.1"));
  EXPECT_THAT(server.seen()[0],
              HasSubstr(fmt::format("Inference-Header-Content-Length: {}\r\n", json.size())));
  EXPECT_THAT(server.seen()[0], HasSubstr(fmt::format("Content-Length: {}\r\n", json.size() + 8)));
}

TEST(Client, TheServersOwnErrorIsPassedOn) {
  Canned server(
      {"HTTP/1.1 404 Not Found\r\nContent-Length: 25\r\n\r\n{\"error\":\"no such thing\"}"});
  auto client = Client::Connect(server.url());
  const auto outputs = client->Infer(Call());
  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().code, Code::kNotFound);
  EXPECT_EQ(outputs.error().message, "the server says: no such thing");
}

TEST(Client, AnswersThatMakeNoSenseAreErrors) {
  EXPECT_THAT(InferError(Ok("hello")), HasSubstr("makes no sense"));
  EXPECT_THAT(InferError(Ok("[]")), HasSubstr("makes no sense"));
  EXPECT_THAT(InferError(Ok(R"({"outputs":[{"name":"y","datatype":"FP99","shape":[1]}]})")),
              HasSubstr("FP99"));
  EXPECT_THAT(
      InferError(Ok(R"({"outputs":[{"name":"y","datatype":"FP32","shape":[2],"data":[1]}]})")),
      HasSubstr("data are not"));
  EXPECT_THAT(
      InferError(Ok(R"({"outputs":[{"name":"y","datatype":"UINT8","shape":[1],"data":[256]}]})")),
      HasSubstr("data are not"));
  EXPECT_THAT(
      InferError(
          Ok(R"({"outputs":[{"name":"y","datatype":"FP64","shape":[99999999999],"data":[1]}]})")),
      HasSubstr("data are not"));
  EXPECT_THAT(
      InferError(Ok(
          R"({"outputs":[{"name":"y","datatype":"FP32","shape":[9],"parameters":{"binary_data_size":36}}]})")),
      HasSubstr("cut short"));
  EXPECT_THAT(InferError(Ok("{}", "Inference-Header-Content-Length: 3\r\n")),
              HasSubstr("is wrong"));
  EXPECT_THAT(InferError("SSH-2.0-OpenSSH\r\n"), HasSubstr("receiving"));
  EXPECT_THAT(InferError("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
              HasSubstr("receiving"));
}

TEST(Client, AnAnswerOverTheLimitIsRefused) {
  Canned server({Ok(std::string(1000, ' '))});
  auto client = Client::Connect(server.url(), {.max_response_bytes = 100});
  const auto outputs = client->Infer(Call());
  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().code, Code::kResourceExhausted);
}

TEST(Client, ASilentServerIsGivenUpOn) {
  Canned server({"", ""});  // says nothing and waits for more
  auto client = Client::Connect(server.url(), {.timeout = std::chrono::milliseconds(50)});
  const auto outputs = client->Infer(Call());
  ASSERT_FALSE(outputs);
  EXPECT_EQ(outputs.error().code, Code::kDeadlineExceeded);
}

TEST(Client, NobodyListeningIsUnavailable) {
  std::string url;
  {
    asio::io_context io;
    url = fmt::format("http://127.0.0.1:{}",
                      asio::ip::tcp::acceptor(io, {asio::ip::make_address("127.0.0.1"), 0})
                          .local_endpoint()
                          .port());
  }
  auto client = Client::Connect(url);
  ASSERT_TRUE(client);
  const auto model = client->Metadata("m");
  ASSERT_FALSE(model);
  EXPECT_EQ(model.error().code, Code::kUnavailable);
  EXPECT_THAT(model.error().message, HasSubstr("is the server running?"));
}

TEST(Client, UrlsThatAreNoneAreRefused) {
  for (const char* url :
       {"", "ftp://localhost:8000", "grpc://localhost", "http://", "http://host:0",
        "http://host:99999", "http://host:x", "host/path:80", "http://:80"}) {
    const auto client = Client::Connect(url);
    ASSERT_FALSE(client) << url;
    EXPECT_EQ(client.error().code, Code::kInvalidArgument) << url;
  }
}

}  // namespace
}  // namespace dunlin::http
