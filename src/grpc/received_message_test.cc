#include "grpc/received_message.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include <random>

#include "grpc/h2_client_fixture.h"
#include "grpc/wire_reader.h"
#include "grpc/wire_writer.h"

namespace dunlin::grpc {
namespace {

constexpr size_t kMost = size_t{64} << 20;
using Form = MessageReader::Form;

std::string Packed(const std::string& text, int window_bits) {
  z_stream z{};
  EXPECT_EQ(deflateInit2(&z, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY), Z_OK);
  std::string out(text.size() + 100, '\0');
  z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  z.avail_in = uInt(text.size());
  z.next_out = reinterpret_cast<Bytef*>(out.data());
  z.avail_out = uInt(out.size());
  EXPECT_EQ(deflate(&z, Z_FINISH), Z_STREAM_END);
  out.resize(z.total_out);
  deflateEnd(&z);
  return out;
}

std::shared_ptr<net::Budget> Unlimited() { return std::make_shared<net::Budget>(INT64_MAX); }

// All messages of a stream that arrives in pieces of random lengths.
std::vector<std::shared_ptr<ReceivedMessage>> ReadAll(MessageReader reader, std::string_view stream,
                                                      std::mt19937& random, size_t longest) {
  std::vector<std::shared_ptr<ReceivedMessage>> messages;
  while (!stream.empty()) {
    std::string_view piece = stream.substr(0, 1 + random() % longest);
    stream.remove_prefix(piece.size());
    while (!piece.empty()) {
      auto message = reader.Feed(piece);
      if (!message) {
        ADD_FAILURE() << message.error().message;
        return messages;
      }
      if (*message) messages.push_back(std::move(*message));
    }
  }
  EXPECT_FALSE(reader.partial());
  return messages;
}

Error ErrorOf(MessageReader reader, std::string_view stream) {
  while (!stream.empty())
    if (auto message = reader.Feed(stream); !message) return message.error();
  ADD_FAILURE() << "no error";
  return {};
}

std::string Request(const std::vector<std::string>& tensors) {
  std::string message;
  PutString(message, 1, "model");
  PutVarintField(message, 99, 123456);
  for (size_t i = 0; i < tensors.size(); ++i) PutBytes(message, 5, std::string(10 + i, 'i'));
  for (const std::string& t : tensors) PutBytes(message, 7, t);
  PutString(message, 3, "after the tensors");
  return message;
}

TEST(ReceivedMessage, TensorsHaveAlignedMemoryOfTheirOwnHoweverTheBytesArrive) {
  std::mt19937 random(1);
  const std::vector<std::string> tensors = {std::string(5000, 'a'), std::string(3, 'b'),
                                            std::string(100'001, 'c'), std::string(4096, 'd')};
  const std::string message = Request(tensors);
  const std::string stream = Framed(message) + Framed("") + Framed(message);
  for (const size_t longest : {1, 3, 50, 5000, 1'000'000}) {
    const auto messages =
        ReadAll({Unlimited(), kMost, Encoding::kIdentity, Form::kInfer}, stream, random, longest);
    ASSERT_EQ(messages.size(), 3u);
    EXPECT_EQ(messages[0]->Flat(), message);
    EXPECT_EQ(messages[1]->bytes(), 0u);
    EXPECT_EQ(messages[2]->Flat(), message);
    std::vector<std::string_view> raw;
    WireReader reader(messages[0]->pieces());
    while (reader.Next()) {
      if (reader.Is(7, WireType::kBytes))
        raw.push_back(reader.Bytes().Contiguous());
      else
        reader.Skip();
    }
    EXPECT_TRUE(reader.ok());
    ASSERT_EQ(raw.size(), tensors.size());
    for (size_t i = 0; i < raw.size(); ++i) {
      EXPECT_EQ(raw[i], tensors[i]);
      if (raw[i].size() >= 4096) {
        EXPECT_EQ(reinterpret_cast<uintptr_t>(raw[i].data()) % 64, 0u);
      }
    }
  }
}

TEST(ReceivedMessage, WhatIsNoRequestArrivesAsItIs) {
  std::mt19937 random(2);
  for (int round = 0; round < 300; ++round) {
    std::string message = round % 3 == 0 ? std::string() : Request({std::string(6000, 'x')});
    if (message.empty()) {
      message.resize(4096 + random() % 5000);
      for (char& c : message) c = char(random());
    } else {
      message.resize(4096 + random() % (message.size() - 4096));
      for (int i = 0; i < 3; ++i) message[random() % 64] = char(random());
    }
    const auto messages = ReadAll({Unlimited(), kMost, Encoding::kIdentity, Form::kInfer},
                                  Framed(message), random, 1 + random() % 4000);
    ASSERT_EQ(messages.size(), 1u);
    ASSERT_EQ(messages[0]->Flat(), message);
  }
}

TEST(ReceivedMessage, CompressedMessages) {
  std::mt19937 random(3);
  const std::string message = Request({std::string(300'000, 'z')});
  for (const bool gzip : {true, false}) {
    const auto messages =
        ReadAll({Unlimited(), kMost, gzip ? Encoding::kGzip : Encoding::kDeflate, Form::kInfer},
                Framed(Packed(message, gzip ? 31 : 15), true) + Framed(message), random, 1000);
    ASSERT_EQ(messages.size(), 2u);
    EXPECT_EQ(messages[0]->Flat(), message);
    EXPECT_EQ(messages[1]->Flat(), message);
  }
}

TEST(ReceivedMessage, Refused) {
  const auto reader = [](Encoding encoding, size_t most = 1000) {
    return MessageReader(Unlimited(), most, encoding, Form::kSmall);
  };
  Error error = ErrorOf(reader(Encoding::kIdentity), Framed(std::string(1001, 'x')));
  EXPECT_EQ(error.code, Code::kResourceExhausted);
  EXPECT_EQ(error.message, "Received message larger than max (1001 vs. 1000)");
  EXPECT_EQ(ErrorOf(reader(Encoding::kIdentity), Framed("x", true)).code, Code::kInternal);
  EXPECT_EQ(ErrorOf(reader(Encoding::kGzip), std::string("\x02\0\0\0\x01x", 6)).code,
            Code::kInternal);
  EXPECT_EQ(ErrorOf(reader(Encoding::kGzip), Framed("no gzip at all", true)).code,
            Code::kInvalidArgument);
  const std::string packed = Packed(std::string(100'000, 'x'), 31);
  EXPECT_EQ(ErrorOf(reader(Encoding::kGzip), Framed(packed, true)).code, Code::kResourceExhausted);
  EXPECT_EQ(ErrorOf(reader(Encoding::kGzip, kMost), Framed(packed.substr(0, 90), true)).code,
            Code::kInvalidArgument);
  EXPECT_EQ(ErrorOf(reader(Encoding::kGzip, kMost), Framed(packed + "more", true)).code,
            Code::kInvalidArgument);
}

TEST(ReceivedMessage, TheBudgetIsKeptAndGivenBack) {
  const auto budget = std::make_shared<net::Budget>(10'000);
  const std::string large = Framed(Request({std::string(20'000, 'x')}));
  EXPECT_EQ(ErrorOf({budget, kMost, Encoding::kIdentity, Form::kInfer}, large).code,
            Code::kResourceExhausted);
  EXPECT_EQ(ErrorOf({budget, kMost, Encoding::kIdentity, Form::kSmall}, large).code,
            Code::kResourceExhausted);
  EXPECT_EQ(ErrorOf({budget, kMost, Encoding::kGzip, Form::kSmall},
                    Framed(Packed(std::string(200'000, 'x'), 31), true))
                .code,
            Code::kResourceExhausted);
  EXPECT_TRUE(budget->Take(10'000));  // nothing is held any more
}

}  // namespace
}  // namespace dunlin::grpc
