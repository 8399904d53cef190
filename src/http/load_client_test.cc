#include "http/load_client.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/streambuf.hpp>
#include <boost/asio/write.hpp>
#include <map>
#include <thread>

#include "http/url.h"

namespace dunlin::http {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using testing::HasSubstr;

// Answers one request per connection with the bytes of `answer`, in `pieces`, and closes.
class OneAnswer {
 public:
  explicit OneAnswer(std::string answer, size_t piece = SIZE_MAX, int connections = 1)
      : acceptor_(io_, {asio::ip::make_address("127.0.0.1"), 0}),
        thread_([this, answer = std::move(answer), piece, connections] {
          for (int i = 0; i < connections; ++i) {
            asio::ip::tcp::socket socket(io_);
            boost::system::error_code error;
            acceptor_.accept(socket, error);
            asio::streambuf head;
            asio::read_until(socket, head, "\r\n\r\n", error);
            for (size_t at = 0; at < answer.size(); at += std::min(piece, answer.size()))
              asio::write(socket, asio::buffer(answer.substr(at, piece)), error);
          }
        }) {}
  ~OneAnswer() { thread_.join(); }
  ServerUrl url() const {
    return *ParseServerUrl(fmt::format("http://127.0.0.1:{}", acceptor_.local_endpoint().port()));
  }

 private:
  asio::io_context io_;
  asio::ip::tcp::acceptor acceptor_;
  std::thread thread_;
};

struct Seen {
  int status = 0;
  std::string body, failure;
};

Seen Ask(LoadClient& client, const ServerUrl& url, uint32_t slot = 0) {
  const std::string request = HttpRequest("GET", "/", url, {}, "");
  Seen seen;
  bool ended = false;
  client.Send(slot, request);
  while (!ended) {
    client.Wait(client.Now() + 5s, [&](const LoadAnswer& a) {
      ended = true;
      seen = {a.status, std::string(a.body), a.failure != nullptr ? a.failure->message : ""};
    });
  }
  return seen;
}

Seen AskOnce(const std::string& answer, size_t piece = SIZE_MAX, LoadOptions options = {}) {
  OneAnswer server(answer, piece);
  const auto client = MakeHttpLoadClient(server.url(), options);
  return Ask(**client, server.url());
}

TEST(LoadClient, ReadsAnswersInAnyPieces) {
  const std::string large(100'000, 'x');
  for (const size_t piece : {size_t{1}, size_t{7}, size_t{4096}, SIZE_MAX}) {
    const std::string& body = piece == 1 ? large.substr(0, 300) : large;
    const Seen seen = AskOnce(
        fmt::format("HTTP/1.1 200 OK\r\ncontent-length:  {} \r\nX: y\r\n\r\n{}", body.size(), body),
        piece);
    EXPECT_EQ(seen.status, 200) << seen.failure;
    EXPECT_EQ(seen.body, body) << piece;
  }
}

TEST(LoadClient, ReadsChunks) {
  for (const size_t piece : {size_t{1}, SIZE_MAX}) {
    const Seen seen = AskOnce(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n, "
        "chunked!\r\n0\r\n\r\n",
        piece);
    EXPECT_EQ(seen.body, "hello, chunked!") << seen.failure;
  }
}

TEST(LoadClient, WhatIsNoAnswerIsAFailure) {
  EXPECT_THAT(AskOnce("SSH-2.0\r\n").failure, HasSubstr("not HTTP/1.1"));
  EXPECT_THAT(AskOnce("HTTP/1.1 200 OK\r\n\r\n").failure, HasSubstr("does not tell its length"));
  EXPECT_THAT(AskOnce("HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n").failure,
              HasSubstr("not HTTP"));
  EXPECT_THAT(AskOnce("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort").failure,
              HasSubstr("closed"));
  EXPECT_THAT(AskOnce("").failure, HasSubstr("closed"));
  EXPECT_THAT(AskOnce("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n").failure,
              HasSubstr("not HTTP"));
  EXPECT_THAT(AskOnce("HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n", SIZE_MAX,
                      {.max_answer_bytes = 100, .tls = {}})
                  .failure,
              HasSubstr("larger than 100"));
}

// The server closes after every answer, with and without saying so; the slot is usable again.
TEST(LoadClient, ReconnectsWhenTheServerCloses) {
  for (const char* said : {"", "Connection: close\r\n"}) {
    OneAnswer server(fmt::format("HTTP/1.1 200 OK\r\n{}Content-Length: 2\r\n\r\nok", said),
                     SIZE_MAX, 3);
    const auto client = MakeHttpLoadClient(server.url(), {});
    for (int i = 0; i < 3; ++i) {
      EXPECT_EQ(Ask(**client, server.url()).body, "ok");
      // Notices the end of the connection, if that was not announced.
      (*client)->Wait((*client)->Now() + 100ms, [](const LoadAnswer&) {});
    }
  }
}

TEST(LoadClient, ASilentServerIsGivenUpOn) {
  asio::io_context io;
  asio::ip::tcp::acceptor acceptor(io, {asio::ip::make_address("127.0.0.1"), 0});
  const auto url =
      ParseServerUrl(fmt::format("http://127.0.0.1:{}", acceptor.local_endpoint().port()));
  const auto client = MakeHttpLoadClient(*url, {.timeout = 50ms, .tls = {}});
  EXPECT_EQ(Ask(**client, *url).failure, "no answer within 50 ms");
}

TEST(LoadClient, NobodyThereIsAFailureOfEachRequest) {
  ServerUrl url = *ParseServerUrl("http://127.0.0.1:1");
  const auto client = MakeHttpLoadClient(url, {});
  for (int i = 0; i < 2; ++i)
    EXPECT_THAT(Ask(**client, url).failure, HasSubstr("connecting: Connection refused"));
}

TEST(Url, SchemesHaveTheirPorts) {
  const auto port = [](const char* url) { return ParseServerUrl(url)->authority(); };
  EXPECT_EQ(port("localhost"), "localhost:8000");
  EXPECT_EQ(port("http://localhost:81/"), "localhost:81");
  EXPECT_EQ(port("https://localhost"), "localhost:443");
  EXPECT_EQ(port("grpc://[::1]"), "[::1]:8001");
  EXPECT_TRUE(ParseServerUrl("grpcs://h")->tls());
}

TEST(HttpRequest, GivenHeadersReplaceOurs) {
  const ServerUrl url = *ParseServerUrl("http://localhost");
  const std::string request = HttpRequest("POST", "/x", url, {{"host", "models.example"}}, "ab");
  EXPECT_EQ(request,
            "POST /x HTTP/1.1\r\nUser-Agent: dunlin\r\nhost: models.example\r\nContent-Length: "
            "2\r\n\r\nab");
}

}  // namespace
}  // namespace dunlin::http
