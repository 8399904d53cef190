#include "http/listener.h"

#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <thread>

namespace dunlin::http {
namespace {

using std::chrono::milliseconds;

// A plain blocking client, so that every byte is under the test's control.
class Client {
 public:
  explicit Client(int port) : fd_(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_port = htons(uint16_t(port));
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = ::connect(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0;
    const timeval limit{.tv_sec = 10, .tv_usec = 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  }
  ~Client() { ::close(fd_); }
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  bool connected() const { return connected_; }
  void Send(const std::string& s) {
    for (size_t at = 0; at < s.size();) {
      const ssize_t n = ::send(fd_, s.data() + at, s.size() - at, MSG_NOSIGNAL);
      if (n <= 0) return;
      at += size_t(n);
    }
  }
  // One reply with Content-Length; "" when the connection ends first.
  std::string Receive() {
    for (;;) {
      const size_t head = buffer_.find("\r\n\r\n");
      if (head != std::string::npos) {
        const size_t at = buffer_.find("Content-Length: ");
        const size_t length = at < head ? std::stoul(buffer_.substr(at + 16)) : 0;
        if (buffer_.size() >= head + 4 + length) {
          std::string reply = buffer_.substr(0, head + 4 + length);
          buffer_.erase(0, reply.size());
          return reply;
        }
      }
      if (!More()) return "";
    }
  }
  // True when the server has closed and nothing more came.
  bool AtEnd() { return buffer_.empty() && !More(); }

 private:
  bool More() {
    char bytes[4096];
    const ssize_t n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0) return false;
    buffer_.append(bytes, size_t(n));
    return true;
  }
  int fd_;
  bool connected_ = false;
  std::string buffer_;
};

class ListenerTest : public testing::Test {
 protected:
  void Start(ListenerOptions options = {}) {
    options.address = "127.0.0.1";
    options.threads = 2;
    auto started = Listener::Start(options, [this](const Request& request, ReplyFn done) {
      ++requests_;
      Reply reply;
      reply.content_type = "text/plain";
      reply.body = std::string(request.method) + " " + std::string(request.target) + " " +
                   std::string(request.body.substr(0, 100));
      if (request.target == "/size") reply.body = std::to_string(request.body.size());
      if (request.target != "/wait") return done(std::move(reply));
      {
        const std::lock_guard lock(mutex_);
        waiting_.emplace_back(request.cancelled, std::move(done));
      }
    });
    ASSERT_TRUE(started) << started.error().message;
    listener_ = std::move(*started);
  }
  void ReleaseAll() {
    const std::lock_guard lock(mutex_);
    for (auto& [cancelled, done] : waiting_) {
      Reply reply;
      reply.body = "done";
      done(std::move(reply));
    }
    waiting_.clear();
  }
  template <class F>
  static bool Eventually(F&& f) {
    for (int i = 0; i < 5000; ++i) {
      if (f()) return true;
      std::this_thread::sleep_for(milliseconds(1));
    }
    return false;
  }
  bool Waiting(size_t n) {
    return Eventually([&] {
      const std::lock_guard lock(mutex_);
      return waiting_.size() == n;
    });
  }

  std::atomic<int> requests_{0};
  std::mutex mutex_;
  std::vector<std::pair<std::shared_ptr<std::atomic<bool>>, ReplyFn>> waiting_;
  std::unique_ptr<Listener> listener_;
};

TEST_F(ListenerTest, KeepsConnectionsAndOrder) {
  Start();
  Client c(listener_->port());
  c.Send(
      "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nPOST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\nabcGET /3 "
      "HTT");
  EXPECT_NE(c.Receive().find("GET /1 "), std::string::npos);
  EXPECT_NE(c.Receive().find("POST /2 abc"), std::string::npos);
  c.Send("P/1.1\r\nConnection: close\r\n\r\n");
  const std::string last = c.Receive();
  EXPECT_NE(last.find("GET /3 "), std::string::npos);
  EXPECT_NE(last.find("Connection: close"), std::string::npos);
  EXPECT_TRUE(c.AtEnd());
}

TEST_F(ListenerTest, AHeadThatComesAgainIsTheSame) {
  Start();
  Client a(listener_->port()), b(listener_->port());  // may be on one thread or on two
  const std::string head = "POST /2 HTTP/1.1\r\nContent-Length: 3\r\n\r\n";
  const std::string other = "POST /other HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n";
  for (int i = 0; i < 3; ++i) {
    a.Send(head + "abc" + head + "def" + other + "1234" + head.substr(0, 20));
    EXPECT_NE(a.Receive().find("POST /2 abc"), std::string::npos);
    EXPECT_NE(a.Receive().find("POST /2 def"), std::string::npos);
    EXPECT_NE(a.Receive().find("POST /other 1234"), std::string::npos);
    a.Send(head.substr(20) + "xyz");
    EXPECT_NE(a.Receive().find("POST /2 xyz"), std::string::npos);
    a.Send(head + "gh");  // others have theirs while the body is on its way
    b.Send(i == 1 ? head + "uvw" : other + "5678");
    EXPECT_NE(b.Receive().find(i == 1 ? "POST /2 uvw" : "POST /other 5678"), std::string::npos);
    a.Send("i");
    EXPECT_NE(a.Receive().find("POST /2 ghi"), std::string::npos);
  }
  a.Send("GET /old HTTP/1.0\r\n\r\n");
  EXPECT_NE(a.Receive().find("Connection: close"), std::string::npos);
}

TEST_F(ListenerTest, HeadersOverSeveralLinesAreRefused) {
  Start();
  Client c(listener_->port());
  c.Send("GET /1 HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n");
  EXPECT_EQ(c.Receive().substr(0, 13), "HTTP/1.1 400 ");
  EXPECT_EQ(requests_, 0);
}

TEST_F(ListenerTest, ReadsChunkedBodiesAndExpect) {
  Start();
  Client c(listener_->port());
  c.Send(
      "POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
  EXPECT_NE(c.Receive().find("POST /c abcde"), std::string::npos);
  c.Send("POST /e HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
  EXPECT_EQ(c.Receive(), "HTTP/1.1 100 Continue\r\n\r\n");
  c.Send("hi");
  EXPECT_NE(c.Receive().find("POST /e hi"), std::string::npos);
}

TEST_F(ListenerTest, LargeBodiesArriveWhole) {
  Start();
  Client c(listener_->port());
  std::string body(20 << 20, 'x');
  c.Send("POST /size HTTP/1.1\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         body);
  EXPECT_NE(c.Receive().find("20971520"), std::string::npos);
}

TEST_F(ListenerTest, RefusesWhatIsTooLargeBeforeItArrives) {
  Start({.max_header_size = 4096, .max_json_size = 1000, .max_body_size = 5000});
  const auto ask = [&](const std::string& head) {
    Client c(listener_->port());
    c.Send(head);
    const std::string reply = c.Receive();
    EXPECT_TRUE(c.AtEnd()) << "the connection ends after a refusal";
    return reply;
  };
  EXPECT_NE(ask("POST /s HTTP/1.1\r\nContent-Length: 1073741824\r\n\r\nabc")
                .find("413 Payload Too Large"),
            std::string::npos);
  EXPECT_NE(ask("POST /s HTTP/1.1\r\nContent-Length: 2000\r\n\r\n")
                .find("request JSON size of 2000 bytes exceeds"),
            std::string::npos);
  EXPECT_NE(ask("POST /s HTTP/1.1\r\nContent-Length: 99999999999999999999999\r\n\r\n").find("400 "),
            std::string::npos);
  EXPECT_NE(ask("GET /s HTTP/1.1\r\nX: " + std::string(5000, 'a') + "\r\n\r\n").find("431 "),
            std::string::npos);
  EXPECT_NE(ask("POST /s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n7fffffff\r\n").find("413 "),
            std::string::npos);
  std::string chunks = "POST /s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 30; ++i) chunks += "64\r\n" + std::string(100, 'x') + "\r\n";
  EXPECT_NE(ask(chunks).find("413 "), std::string::npos);
  EXPECT_NE(ask("not http at all\r\n\r\n").find("400 "), std::string::npos);
  EXPECT_NE(ask("GET /s HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n")
                .find("400 "),
            std::string::npos);
  EXPECT_EQ(requests_, 0);
}

TEST_F(ListenerTest, WhatTheParserOfChunksSaysOutlivesIt) {
  Start({.max_body_size = 10 << 20});
  Client client(listener_->port());
  std::string chunks = "POST /s HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 70000; ++i) chunks += "1\r\nx\r\n";
  client.Send(chunks);
  const std::string reply = client.Receive();
  EXPECT_NE(reply.find("request body has more than"), std::string::npos) << reply;
}

TEST_F(ListenerTest, BytesInFlightAreBounded) {
  Start({.max_body_size = 1 << 20, .max_inflight_size = 1500});
  Client first(listener_->port()), second(listener_->port());
  first.Send("POST /wait HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'x'));
  ASSERT_TRUE(Waiting(1));
  second.Send("POST /x HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'x'));
  EXPECT_NE(second.Receive().find("503 Service Unavailable"), std::string::npos);
  ReleaseAll();
  EXPECT_NE(first.Receive().find("done"), std::string::npos);
  Client third(listener_->port());
  third.Send("POST /x HTTP/1.1\r\nContent-Length: 1000\r\n\r\n" + std::string(1000, 'x'));
  EXPECT_NE(third.Receive().find("200 OK"), std::string::npos)
      << "the first has given its share back";
}

TEST_F(ListenerTest, TooManyConnectionsAreToldSo) {
  Start({.max_connections = 2});
  Client a(listener_->port()), b(listener_->port());
  for (Client* c : {&a, &b}) {
    c->Send("GET /x HTTP/1.1\r\n\r\n");
    EXPECT_NE(c->Receive().find("200 OK"), std::string::npos);
  }
  Client c(listener_->port());
  c.Send("GET /x HTTP/1.1\r\n\r\n");
  EXPECT_NE(c.Receive().find("503 Service Unavailable"), std::string::npos);
}

TEST_F(ListenerTest, SlowClientsAreLetGo) {
  Start({.idle_timeout = milliseconds(300), .read_timeout = milliseconds(300)});
  Client idle(listener_->port()), head(listener_->port()), body(listener_->port());
  head.Send("GET /x HTTP/1.1\r\nX: ");
  body.Send("POST /x HTTP/1.1\r\nContent-Length: 10\r\n\r\nabc");
  std::thread drip([&] {
    for (int i = 0; i < 20; ++i) {
      head.Send("a");
      std::this_thread::sleep_for(milliseconds(50));
    }
  });
  EXPECT_NE(body.Receive().find("408 Request Timeout"), std::string::npos);
  EXPECT_NE(head.Receive().find("408 Request Timeout"), std::string::npos);
  EXPECT_TRUE(idle.AtEnd());
  drip.join();
  EXPECT_EQ(requests_, 0);
}

TEST_F(ListenerTest, ClientsThatGoCancelTheirRequest) {
  Start();
  auto c = std::make_unique<Client>(listener_->port());
  c->Send("GET /wait HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(Waiting(1));
  EXPECT_FALSE(*waiting_[0].first);
  c.reset();
  EXPECT_TRUE(Eventually([&] { return waiting_[0].first->load(); }));
  ReleaseAll();
}

TEST_F(ListenerTest, DrainAnswersWhatWasAccepted) {
  Start();
  const int port = listener_->port();
  Client busy(port), idle(port), half(port);
  busy.Send("GET /wait HTTP/1.1\r\n\r\n");
  half.Send("GET /half HTT");
  ASSERT_TRUE(Waiting(1));
  listener_->Drain();
  EXPECT_FALSE(listener_->WaitUntilDrained(milliseconds(50)));
  idle.Send("GET /late HTTP/1.1\r\n\r\n");
  const std::string late = idle.Receive();
  EXPECT_NE(late.find("GET /late"), std::string::npos);
  EXPECT_NE(late.find("Connection: close"), std::string::npos);
  half.Send("P/1.1\r\n\r\n");
  EXPECT_NE(half.Receive().find("GET /half"), std::string::npos);
  EXPECT_FALSE(Client(port).connected());
  ReleaseAll();
  EXPECT_NE(busy.Receive().find("done"), std::string::npos);
  EXPECT_TRUE(listener_->WaitUntilDrained(milliseconds(5000)));
}

TEST_F(ListenerTest, IdleConnectionsDoNotHoldUpDraining) {
  Start();
  Client a(listener_->port()), b(listener_->port());
  a.Send("GET /x HTTP/1.1\r\n\r\n");
  a.Receive();
  listener_->Drain();
  EXPECT_TRUE(listener_->WaitUntilDrained(milliseconds(3000)));
  EXPECT_TRUE(a.AtEnd());
  EXPECT_TRUE(b.AtEnd());
}

TEST_F(ListenerTest, RepliesAfterTheEndAreDropped) {
  Start();
  Client c(listener_->port());
  c.Send("GET /wait HTTP/1.1\r\n\r\n");
  ASSERT_TRUE(Waiting(1));
  listener_.reset();
  EXPECT_TRUE(*waiting_[0].first);
  ReleaseAll();
  EXPECT_TRUE(c.AtEnd());
}

TEST_F(ListenerTest, AnAddressInUseIsAnError) {
  Start();
  ListenerOptions options;
  options.address = "127.0.0.1";
  options.port = listener_->port();
  const auto second = Listener::Start(options, {});
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().message.find("cannot listen on 127.0.0.1:"), std::string::npos);
  options.address = "localhost?";
  EXPECT_FALSE(Listener::Start(options, {}));
}

}  // namespace
}  // namespace dunlin::http
