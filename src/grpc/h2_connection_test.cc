// The server against clients that speak HTTP/2 as no gRPC library does.
#include "grpc/h2_connection.h"

#include <gmock/gmock.h>
#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zlib.h>

#include <fstream>
#include <random>

#include "grpc/client.h"
#include "grpc/h2_client_fixture.h"
#include "grpc/methods.h"
#include "grpc/server_fixture.h"
#include "grpc/wire_writer.h"

namespace dunlin::grpc {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using End = H2Client::End;
using Answer = H2Client::Answer;

constexpr std::string_view kLive = "/inference.GRPCInferenceService/ServerLive";

std::string InferBytes(int64_t rows = 1, std::string_view id = "7") {
  serve::InferCall call;
  call.model = "m";
  call.id = id;
  Tensor x = *Tensor::Create(DType::kF32, Dims{rows, 2});
  for (int64_t i = 0; i < x.count(); ++i) x.mut<float>()[i] = float(i);
  call.inputs.push_back({"x", std::move(x), std::nullopt});
  return *EncodeInfer(call);
}

// What is behind the prefix of the first message; the rest in `data`.
std::string TakeMessage(std::string& data) {
  if (data.size() < 5) return "none";
  size_t size = 0;
  for (int i = 1; i < 5; ++i) size = size << 8 | uint8_t(data[size_t(i)]);
  std::string message = data.substr(5, size);
  data.erase(0, 5 + size);
  return message;
}

void ExpectInferred(Answer answer, int64_t rows = 1) {
  EXPECT_EQ(answer.headers[":status"], "200");
  EXPECT_EQ(answer.headers["content-type"], "application/grpc");
  EXPECT_EQ(answer.status(), "0") << answer.message();
  const auto results = ParseInferReply(TakeMessage(answer.data));
  ASSERT_TRUE(results.has_value()) << results.error().message;
  const Tensor& y = results->at(0).tensor;
  ASSERT_EQ(y.dims(), (Dims{rows, 2}));
  for (int64_t i = 0; i < y.count(); i += 1 + y.count() / 100)
    ASSERT_EQ(y.as<float>()[i], float(i) + 1);
  EXPECT_EQ(answer.data, "");
}

int64_t ResidentBytes() {
  std::ifstream in("/proc/self/statm");
  int64_t pages = 0;
  in >> pages >> pages;
  return pages * 4096;
}

class H2 : public ServerTest {
 protected:
  // A socket to the server that has sent these bytes.
  int RawConnection(std::string_view bytes) const {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(uint16_t(server_->port()));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    return fd;
  }
  // The server is as well as before.
  void TearDown() override {
    counters_->hold = false;
    if (server_ && !drained_) {
      H2Client client(server_->port());
      ExpectInferred(client.Wait(client.Call(kInferPath, InferBytes())));
    }
    ServerTest::TearDown();
  }
  bool drained_ = false;
};

TEST_F(H2, MessagesInFramesOfAnySize) {
  Start();
  H2Client client(server_->port());
  for (const size_t frame : {1, 3, 7, 100, 16384}) {
    const int32_t stream = client.Begin(kInferPath);
    client.Send(stream, Framed(InferBytes()), End::kYes, frame);
    ExpectInferred(client.Wait(stream));
  }
  // The end of the stream in a frame of its own, and megabytes both ways at the same time.
  std::vector<int32_t> streams;
  for (int i = 0; i < 5; ++i) {
    streams.push_back(client.Begin(kInferPath));
    client.Send(streams.back(), Framed(InferBytes(200'000)), End::kNo);
  }
  for (const int32_t stream : streams) {
    client.Send(stream, "", End::kYes);
    ExpectInferred(client.Wait(stream), 200'000);
  }
}

TEST_F(H2, WhatIsNoGrpc) {
  Start();
  H2Client client(server_->port());
  const auto status = [&](const H2Client::Headers& headers) {
    return client.Wait(client.Begin(kLive, headers, End::kYes)).headers[":status"];
  };
  EXPECT_EQ(status({{"content-type", "application/json"}}), "415");
  EXPECT_EQ(status({{"content-type", ""}}), "415");
  EXPECT_EQ(status({{":method", "GET"}}), "405");
  const int32_t proto = client.Call(kLive, "", {{"content-type", "application/grpc+proto"}});
  EXPECT_EQ(client.Wait(proto).status(), "0");
}

TEST_F(H2, CallsThatMakeNoSense) {
  Start();
  H2Client client(server_->port());
  const auto ask = [&](std::string_view path, std::string_view bytes,
                       const H2Client::Headers& headers = {}) {
    const int32_t stream = client.Begin(path, headers);
    client.Send(stream, bytes, End::kYes);
    return client.Wait(stream);
  };
  EXPECT_EQ(ask("/no/Method", Framed("")).status(), "12");
  EXPECT_EQ(ask("/", Framed("")).status(), "12");
  EXPECT_EQ(ask(kInferPath, Framed("\x0a\xff")).status(), "3");
  EXPECT_EQ(ask(kInferPath, "").status(), "3");                                  // no message
  EXPECT_EQ(ask(kInferPath, Framed(InferBytes()).substr(0, 30)).status(), "3");  // half of one
  EXPECT_EQ(ask(kLive, Framed("") + Framed("")).status(), "0");  // only the first counts
  EXPECT_EQ(ask(kLive, Framed("x", true)).status(), "13");
  EXPECT_EQ(ask(kLive, std::string("\x05\0\0\0\0", 5)).status(), "13");
  EXPECT_EQ(ask(kLive, Framed(""), {{"grpc-timeout", "soon"}}).status(), "13");
  Answer answer = ask(kLive, Framed(""), {{"grpc-encoding", "snappy"}});
  EXPECT_EQ(answer.status(), "12");
  EXPECT_EQ(answer.headers["grpc-accept-encoding"], "identity, deflate, gzip");
  answer = ask(kLive, Framed(""), {{"long", std::string(20'000, 'x')}});
  EXPECT_EQ(answer.status(), "8");
  EXPECT_THAT(answer.message(), HasSubstr("received metadata size exceeds limit"));
  std::string request;
  PutString(request, 1, "100% ü");
  answer = ask("/inference.GRPCInferenceService/ModelConfig", Framed(request));
  EXPECT_EQ(answer.status(), "5");
  EXPECT_THAT(answer.message(), HasSubstr("'100%25 %C3%BC' is not found"));
}

TEST_F(H2, ADeadlineEndsTheCallAndTheModel) {
  Start();
  counters_->hold = true;
  H2Client client(server_->port());
  const Answer& answer =
      client.Wait(client.Call(kInferPath, InferBytes(), {{"grpc-timeout", "1000000u"}}));
  EXPECT_EQ(answer.status(), "4") << answer.message();
  for (int i = 0; i < 4000 && counters_->cancelled == 0; ++i)
    std::this_thread::sleep_for(milliseconds(5));
  EXPECT_EQ(counters_->cancelled, 1);
}

TEST_F(H2, AResetIsACancellationDownToTheModel) {
  Start();
  counters_->hold = true;
  H2Client client(server_->port());
  const int32_t stream = client.Call(kInferPath, InferBytes());
  WaitUntilRunning();
  client.Reset(stream);
  for (int i = 0; i < 4000 && counters_->cancelled == 0; ++i)
    std::this_thread::sleep_for(milliseconds(5));
  EXPECT_EQ(counters_->cancelled, 1);
}

TEST_F(H2, AnAnnouncedLengthCostsNothingBeforeItArrives) {
  // Of large memory the system may give 2 MiB to the first byte: that counts.
  Start({.max_message_size = 1 << 30, .max_inflight_size = 64 << 20});
  H2Client client(server_->port());
  const int64_t before = ResidentBytes();
  std::string begin("\0\x3f\xff\xff\xff", 5);
  PutLength(begin, 7, 1'000'000'000);
  std::vector<int32_t> streams;
  for (int i = 0; i < 200; ++i) {
    streams.push_back(client.Begin(kInferPath));
    client.Send(streams.back(), begin + std::string(100, 'x'), End::kNo);
  }
  EXPECT_EQ(client.Wait(client.Call(kLive, "")).status(), "0");
  EXPECT_LT(ResidentBytes() - before, 100 << 20);
  const int32_t large = client.Begin(kInferPath);
  client.Send(large, std::string("\0\x7f\xff\xff\xff", 5), End::kNo);
  const Answer& answer = client.Wait(large);
  EXPECT_EQ(answer.status(), "8");
  EXPECT_EQ(answer.message(), "Received message larger than max (2147483647 vs. 1073741824)");
  EXPECT_EQ(answer.error, NGHTTP2_NO_ERROR);
}

TEST_F(H2, RepliesAreCompressedForThoseWhoAcceptIt) {
  Start({.response_compression = Compression::kHigh});
  H2Client client(server_->port());
  Answer answer = client.Wait(client.Call(kInferPath, InferBytes(100)));
  EXPECT_EQ(answer.headers.count("grpc-encoding"), 0u);
  ExpectInferred(answer, 100);
  for (const char* encoding : {"gzip", "deflate"}) {
    answer = client.Wait(
        client.Call(kInferPath, InferBytes(10'000), {{"grpc-accept-encoding", encoding}}));
    EXPECT_EQ(answer.headers["grpc-encoding"], encoding);
    ASSERT_EQ(answer.data.substr(0, 1), "\x01");
    const std::string packed = TakeMessage(answer.data);
    EXPECT_LT(packed.size(), 60'000u);
    std::string message(100'000, '\0');
    z_stream z{};
    ASSERT_EQ(inflateInit2(&z, 15 + 32), Z_OK);
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(packed.data()));
    z.avail_in = uInt(packed.size());
    z.next_out = reinterpret_cast<Bytef*>(message.data());
    z.avail_out = uInt(message.size());
    EXPECT_EQ(inflate(&z, Z_FINISH), Z_STREAM_END);
    message.resize(z.total_out);
    inflateEnd(&z);
    answer.data = Framed(message);
    ExpectInferred(answer, 10'000);
  }
}

TEST_F(H2, WhoDoesNotReadHoldsUpNobodyElse) {
  Start();
  H2Client slow(server_->port(), H2Client::Windows::kClosed);
  std::vector<int32_t> streams;
  for (int i = 0; i < 4; ++i) {
    streams.push_back(slow.Begin(kInferPath));
    slow.Send(streams.back(), Framed(InferBytes(100'000)), End::kYes);
  }
  for (int i = 0; i < 20; ++i) slow.Read(milliseconds(20));
  EXPECT_FALSE(slow.answer(streams[0]).closed);
  H2Client other(server_->port());
  ExpectInferred(other.Wait(other.Call(kInferPath, InferBytes())));
}

TEST_F(H2, AStreamIsReadOnlyAsFastAsItIsAnswered) {
  Start();
  counters_->hold = true;
  H2Client client(server_->port());
  const int32_t stream = client.Begin(kStreamPath);
  constexpr int kRequests = 1000;
  for (int i = 0; i < kRequests; ++i)
    client.Send(stream, Framed(InferBytes(1, std::to_string(i))), End::kNo);
  for (int i = 0; i < 20; ++i) client.Read(milliseconds(10));
  EXPECT_EQ(client.answer(stream).headers[":status"], "200");
  EXPECT_EQ(client.answer(stream).data, "");
  counters_->hold = false;
  client.Send(stream, "", End::kYes);
  Answer& answer = client.Wait(stream, std::chrono::seconds(60));
  EXPECT_EQ(answer.status(), "0") << answer.message();
  int count = 0;
  for (; !answer.data.empty(); ++count) EXPECT_THAT(TakeMessage(answer.data), HasSubstr("FP32"));
  EXPECT_EQ(count, kRequests);
}

TEST_F(H2, PingFloods) {
  Start();
  H2Client client(server_->port());
  EXPECT_EQ(client.Wait(client.Call(kLive, "")).status(), "0");
  for (int i = 0; i < 10; ++i) client.Ping();
  EXPECT_TRUE(client.WaitForEnd());
  ASSERT_EQ(client.goaways.size(), 1u);
  EXPECT_EQ(client.goaways[0].first, uint32_t(NGHTTP2_ENHANCE_YOUR_CALM));
  EXPECT_EQ(client.goaways[0].second, "too_many_pings");
}

TEST_F(H2, PingsThatAreAllowed) {
  Start({.keepalive_permit_without_calls = true,
         .http2_min_recv_ping_interval_without_data = milliseconds(0)});
  H2Client client(server_->port());
  for (int i = 0; i < 20; ++i) client.Ping();
  EXPECT_EQ(client.Wait(client.Call(kLive, "")).status(), "0");
  EXPECT_TRUE(client.goaways.empty());
}

TEST_F(H2, KeepAliveFindsClientsThatAreGone) {
  Start({.keepalive_time = milliseconds(200),
         .keepalive_timeout = milliseconds(2000),
         .keepalive_permit_without_calls = true,
         .http2_max_pings_without_data = 0});
  H2Client good(server_->port());
  H2Client dead(server_->port());
  dead.answers_pings = false;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(30);
  while (std::chrono::steady_clock::now() < end && (good.pings < 3 || !dead.ended())) {
    good.Read(milliseconds(20));
    dead.Read(milliseconds(20));
  }
  EXPECT_TRUE(dead.ended());
  EXPECT_FALSE(good.ended());
  EXPECT_GE(good.pings, 3);
}

TEST_F(H2, OldConnectionsAreLeftInTwoSteps) {
  Start({.max_connection_age = milliseconds(300)});
  H2Client client(server_->port());
  counters_->hold = true;
  const int32_t stream = client.Call(kInferPath, InferBytes());
  WaitUntilRunning();
  for (int i = 0; i < 200 && client.goaways.size() < 2; ++i) client.Read(milliseconds(50));
  ASSERT_EQ(client.goaways.size(), 2u);
  EXPECT_EQ(client.last_streams[0], INT32_MAX);
  EXPECT_EQ(client.last_streams[1], stream);
  EXPECT_FALSE(client.answer(stream).closed);
  counters_->hold = false;
  ExpectInferred(client.Wait(stream));
  EXPECT_TRUE(client.WaitForEnd());
}

TEST_F(H2, TheGraceOfOldConnectionsEnds) {
  Start({.max_connection_age = milliseconds(100), .max_connection_age_grace = milliseconds(300)});
  H2Client client(server_->port());
  counters_->hold = true;
  client.Call(kInferPath, InferBytes());
  EXPECT_TRUE(client.WaitForEnd());
  counters_->hold = false;
}

TEST_F(H2, DrainingTellsClientsToLeaveAndFinishesTheirCalls) {
  Start();
  drained_ = true;
  H2Client idle(server_->port()), busy(server_->port());
  EXPECT_EQ(idle.Wait(idle.Call(kLive, "")).status(), "0");
  counters_->hold = true;
  const int32_t stream = busy.Call(kInferPath, InferBytes());
  WaitUntilRunning();
  stopping_ = true;
  server_->Drain();
  EXPECT_TRUE(idle.WaitForEnd());
  EXPECT_EQ(idle.goaways.at(0).first, uint32_t(NGHTTP2_NO_ERROR));
  EXPECT_FALSE(server_->WaitUntilDrained(milliseconds(50)));
  counters_->hold = false;
  ExpectInferred(busy.Wait(stream));
  EXPECT_TRUE(busy.WaitForEnd());
  EXPECT_TRUE(server_->WaitUntilDrained(milliseconds(20000)));
}

TEST_F(H2, ClientsThatSayNothingAndOnesTooMany) {
  Start({.max_connections = 2, .read_timeout = milliseconds(1000)});
  {
    H2Client first(server_->port()), second(server_->port());
    EXPECT_EQ(first.Wait(first.Call(kLive, "")).status(), "0");
    EXPECT_EQ(second.Wait(second.Call(kLive, "")).status(), "0");
    H2Client third(server_->port());
    EXPECT_TRUE(third.WaitForEnd());
    EXPECT_EQ(third.goaways.at(0).second, "too many connections");
    std::this_thread::sleep_for(milliseconds(1300));  // beyond the time for a handshake
    EXPECT_EQ(first.Wait(first.Call(kLive, "")).status(), "0");
  }
  // Half a greeting.
  const int fd = RawConnection("PRI * HTTP/2.0\r\n");
  char bytes[100];
  EXPECT_GT(::recv(fd, bytes, sizeof bytes, 0), 0);  // the server's own greeting
  EXPECT_EQ(::recv(fd, bytes, sizeof bytes, 0), 0);
  ::close(fd);
}

TEST_F(H2, MessagesThatDoNotComeToTheirEnd) {
  Start({.read_timeout = milliseconds(300)});
  H2Client client(server_->port());
  const int32_t stream = client.Begin(kInferPath);
  client.Send(stream, Framed(InferBytes()).substr(0, 20), End::kNo);
  const Answer& answer = client.Wait(stream);
  EXPECT_EQ(answer.status(), "4");
  EXPECT_EQ(answer.message(), "the message did not arrive in time");
}

TEST_F(H2, RapidResets) {
  Start();
  H2Client client(server_->port());
  for (int i = 0; i < 20'000 && !client.ended(); ++i) {
    client.Reset(client.Begin(kInferPath));
    if (i % 100 == 0) client.Read(milliseconds(0));
  }
  EXPECT_TRUE(client.WaitForEnd());
}

// A frame as it goes on the wire.
std::string RawFrame(uint8_t type, uint8_t flags, int32_t stream, std::string_view payload) {
  std::string out;
  for (const int shift : {16, 8, 0}) out += char(payload.size() >> shift);
  out += char(type);
  out += char(flags);
  for (const int shift : {24, 16, 8, 0}) out += char(stream >> shift);
  return out.append(payload);
}

TEST_F(H2, FloodsOfFrames) {
  Start();
  const std::string settings = RawFrame(NGHTTP2_SETTINGS, 0, 0, "");
  std::string continuations = RawFrame(NGHTTP2_HEADERS, 0, 1, "");
  for (int i = 0; i < 1000; ++i) continuations += RawFrame(NGHTTP2_CONTINUATION, 0, 1, "");
  std::string many_settings;
  for (int i = 0; i < 200'000; ++i) many_settings += settings;
  for (const std::string& flood : {continuations, many_settings}) {
    H2Client client(server_->port());
    client.SendRaw(flood);
    EXPECT_TRUE(client.WaitForEnd());
  }
}

// As gRPC's C core sends them for calls that are cancelled before their headers have left.
TEST_F(H2, ResetsOfStreamsThatNeverBegan) {
  Start();
  H2Client client(server_->port());
  const std::string reset = RawFrame(NGHTTP2_RST_STREAM, 0, 1001, std::string(4, '\0'));
  client.SendRaw(reset);
  for (size_t cut = 1; cut < reset.size(); cut += 2) {
    client.SendRaw(reset.substr(0, cut));
    std::this_thread::sleep_for(milliseconds(10));
    client.SendRaw(reset.substr(cut));
    ExpectInferred(client.Wait(client.Call(kInferPath, InferBytes(5000))), 5000);
  }
  EXPECT_TRUE(client.goaways.empty());
}

// What a call of each kind sends, changed at random: whatever comes back, the server lives, and
// answers others.
TEST_F(H2, RandomAndMutatedFrames) {
  Start({.read_timeout = milliseconds(500)});
  std::mt19937 random(20261128);
  const std::string preface =
      "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + RawFrame(NGHTTP2_SETTINGS, 0, 0, "");
  const auto call = [](int32_t stream, std::string_view path, std::string_view body) {
    std::string block = "\x83\x86";  // POST, http; then literals without index
    const auto literal = [&](std::string_view name, std::string_view value) {
      block += '\0';
      block += char(name.size());
      block += name;
      block += char(value.size());
      block += value;
    };
    literal(":path", path);
    literal("content-type", "application/grpc");
    literal("grpc-encoding", "gzip");
    return RawFrame(NGHTTP2_HEADERS, NGHTTP2_FLAG_END_HEADERS, stream, block) +
           RawFrame(NGHTTP2_DATA, NGHTTP2_FLAG_END_STREAM, stream, body);
  };
  const std::string calls = call(1, kLive, Framed("")) +
                            call(3, kInferPath, Framed(InferBytes(600))) +
                            call(5, kStreamPath, Framed(InferBytes()) + Framed(InferBytes())) +
                            call(7, kWatchPath, Framed("")) +
                            RawFrame(NGHTTP2_WINDOW_UPDATE, 0, 3, std::string("\0\0\1\0", 4)) +
                            RawFrame(NGHTTP2_PING, 0, 0, "12345678") +
                            RawFrame(NGHTTP2_RST_STREAM, 0, 7, std::string(4, '\0'));
  constexpr int kRounds = 1500;
  for (int round = 0; round < kRounds; ++round) {
    std::string bytes = calls;
    if (round % 10 == 9) {
      bytes.resize(random() % 400);
      for (char& c : bytes) c = char(random());
    }
    for (uint32_t i = random() % 6; i > 0 && !bytes.empty(); --i) {
      const size_t at = random() % bytes.size();
      switch (random() % 4) {
        case 0:
          bytes[at] = char(random());
          break;
        case 1:
          bytes[at] = char(bytes[at] ^ (1 << random() % 8));
          break;
        case 2:
          bytes.erase(at, random() % 20);
          break;
        default:
          bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 60));
      }
    }
    const int fd = RawConnection(preface + bytes);
    ::shutdown(fd, SHUT_WR);
    char answer[4096];
    while (::recv(fd, answer, sizeof answer, 0) > 0) {
    }
    ::close(fd);
  }
}

}  // namespace
}  // namespace dunlin::grpc
