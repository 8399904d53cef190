// ReadWireRequest and MakeInferCall against the generated classes.
#include "grpc/infer_read.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <gtest/gtest.h>

#include <bit>
#include <random>

#include "grpc/wire_writer.h"
#include "inference.pb.h"

namespace dunlin::grpc {
namespace {

uint64_t Seed() {
  static const uint64_t seed = std::random_device()();
  return seed;
}

class Random {
 public:
  explicit Random(uint64_t salt) : engine_(Seed() + salt) {}
  uint64_t Below(uint64_t n) { return engine_() % n; }
  uint64_t Any() {
    // Numbers of all lengths, so that varints have all lengths.
    return engine_() >> Below(64);
  }
  std::string Text() {
    static const std::string kPieces[] = {"a", "input", "ü", "\xf0\x9f\x90\xa6", "", "x_1"};
    std::string text;
    for (uint64_t i = Below(4); i > 0; --i) text += kPieces[Below(6)];
    return text;
  }

 private:
  std::mt19937_64 engine_;
};

void Fill(Random& random, inference::InferParameter& p) {
  switch (random.Below(6)) {
    case 0:
      return p.set_bool_param(random.Below(2));
    case 1:
      return p.set_int64_param(int64_t(random.Any()));
    case 2:
      return p.set_string_param(random.Text());
    case 3:
      return p.set_double_param(double(random.Any()) / 3);
    case 4:
      return p.set_uint64_param(random.Any());
    default:
      return;  // without a value
  }
}

inference::ModelInferRequest Message(Random& random) {
  inference::ModelInferRequest m;
  m.set_model_name(random.Text());
  m.set_model_version(random.Text());
  m.set_id(random.Text());
  for (uint64_t i = random.Below(4); i > 0; --i)
    Fill(random, (*m.mutable_parameters())[random.Text()]);
  for (uint64_t i = random.Below(4); i > 0; --i) {
    auto* in = m.add_inputs();
    in->set_name(random.Text());
    in->set_datatype(random.Text());
    for (uint64_t d = random.Below(5); d > 0; --d) in->add_shape(int64_t(random.Any()));
    if (random.Below(2)) Fill(random, (*in->mutable_parameters())[random.Text()]);
    if (random.Below(2)) in->mutable_contents()->add_fp32_contents(1.5f);
  }
  for (uint64_t i = random.Below(3); i > 0; --i) {
    auto* out = m.add_outputs();
    out->set_name(random.Text());
    if (random.Below(2)) Fill(random, (*out->mutable_parameters())[random.Text()]);
  }
  for (uint64_t i = random.Below(3); i > 0; --i)
    m.add_raw_input_contents(std::string(random.Below(300), char(random.Below(256))));
  return m;
}

// The same bytes, cut into pieces at random places; some are empty.
std::vector<std::string_view> Cut(Random& random, std::string_view bytes) {
  std::vector<std::string_view> pieces;
  while (!bytes.empty()) {
    const size_t n = std::min<size_t>(bytes.size(), random.Below(random.Below(2) ? 4 : 200));
    pieces.push_back(bytes.substr(0, n));
    bytes.remove_prefix(n);
  }
  return pieces;
}

std::string Bytes(WireReader reader) {
  std::string bytes(reader.remaining(), '\0');
  reader.CopyTo(bytes.data(), bytes.size());
  return bytes;
}

void ExpectSame(const inference::InferParameter& expected, const Parameter& got) {
  using P = inference::InferParameter;
  switch (expected.parameter_choice_case()) {
    case P::kBoolParam:
      EXPECT_EQ(std::get<bool>(got.value()), expected.bool_param());
      break;
    case P::kInt64Param:
      EXPECT_EQ(std::get<int64_t>(got.value()), expected.int64_param());
      break;
    case P::kStringParam:
      EXPECT_EQ(std::get<std::string>(got.value()), expected.string_param());
      break;
    case P::kDoubleParam:
      // Bits, since a NaN equals nothing.
      EXPECT_EQ(std::bit_cast<uint64_t>(std::get<double>(got.value())),
                std::bit_cast<uint64_t>(expected.double_param()));
      break;
    case P::kUint64Param:
      EXPECT_EQ(std::get<uint64_t>(got.value()), expected.uint64_param());
      break;
    default:
      EXPECT_FALSE(got.has_value());
  }
}

template <class Map>
void ExpectSame(const Map& expected, const Parameters& got) {
  std::map<std::string, Parameter> last;
  for (const auto& [key, value] : got) last[key] = value;
  ASSERT_EQ(expected.size(), last.size());
  for (const auto& [key, value] : expected) ExpectSame(value, last.at(key));
}

void ExpectSame(const inference::ModelInferRequest& expected, const WireRequest& got) {
  EXPECT_EQ(expected.model_name(), got.model_name);
  EXPECT_EQ(expected.model_version(), got.model_version);
  EXPECT_EQ(expected.id(), got.id);
  ExpectSame(expected.parameters(), got.parameters);
  ASSERT_EQ(size_t(expected.inputs_size()), got.inputs.size());
  for (int i = 0; i < expected.inputs_size(); ++i) {
    const auto& e = expected.inputs(i);
    const WireTensor& g = got.inputs[size_t(i)];
    EXPECT_EQ(e.name(), g.name);
    EXPECT_EQ(e.datatype(), g.datatype);
    EXPECT_EQ(Dims(std::span(e.shape().data(), size_t(e.shape_size()))), g.shape);
    ExpectSame(e.parameters(), g.parameters);
    EXPECT_EQ(e.has_contents(), !g.contents.empty());
  }
  ASSERT_EQ(size_t(expected.outputs_size()), got.outputs.size());
  for (int i = 0; i < expected.outputs_size(); ++i) {
    EXPECT_EQ(expected.outputs(i).name(), got.outputs[size_t(i)].name);
    ExpectSame(expected.outputs(i).parameters(), got.outputs[size_t(i)].parameters);
  }
  ASSERT_EQ(size_t(expected.raw_input_contents_size()), got.raw.size());
  for (int i = 0; i < expected.raw_input_contents_size(); ++i)
    EXPECT_EQ(expected.raw_input_contents(i), Bytes(got.raw[size_t(i)]));
}

TEST(WireRequest, ReadsWhatTheGeneratedClassesWrite) {
  SCOPED_TRACE(testing::Message() << "seed " << Seed());
  Random random(1);
  for (int i = 0; i < 2000 && !testing::Test::HasFailure(); ++i) {
    const auto message = Message(random);
    const std::string bytes = message.SerializeAsString();
    const auto pieces = Cut(random, bytes);
    auto got = ReadWireRequest(WireReader(pieces));
    ASSERT_TRUE(got.has_value()) << got.error().message;
    ExpectSame(message, *got);
  }
}

// Two messages one after the other are one message: scalars of the second win, lists grow.
TEST(WireRequest, FieldsMayComeInAnyOrderAndRepeat) {
  SCOPED_TRACE(testing::Message() << "seed " << Seed());
  Random random(2);
  for (int i = 0; i < 500 && !testing::Test::HasFailure(); ++i) {
    const std::string bytes =
        Message(random).SerializeAsString() + Message(random).SerializeAsString();
    inference::ModelInferRequest merged;
    ASSERT_TRUE(merged.ParseFromString(bytes));
    const auto pieces = Cut(random, bytes);
    auto got = ReadWireRequest(WireReader(pieces));
    ASSERT_TRUE(got.has_value());
    ExpectSame(merged, *got);
  }
}

TEST(WireRequest, RefusesWhatTheGeneratedClassesRefuseWhenCutShort) {
  SCOPED_TRACE(testing::Message() << "seed " << Seed());
  Random random(3);
  for (int i = 0; i < 60 && !testing::Test::HasFailure(); ++i) {
    const std::string bytes = Message(random).SerializeAsString();
    for (size_t n = 0; n < bytes.size(); ++n) {
      inference::ModelInferRequest expected;
      const bool ok = expected.ParseFromArray(bytes.data(), int(n));
      const auto pieces = Cut(random, std::string_view(bytes).substr(0, n));
      auto got = ReadWireRequest(WireReader(pieces));
      ASSERT_EQ(ok, got.has_value()) << "at " << n << " of " << bytes.size();
      if (ok) ExpectSame(expected, *got);
    }
  }
}

TEST(WireRequest, SurvivesDamagedBytesAndAgreesWhereTheyStillParse) {
  SCOPED_TRACE(testing::Message() << "seed " << Seed());
  Random random(4);
  for (int i = 0; i < 20000 && !testing::Test::HasFailure(); ++i) {
    std::string bytes = Message(random).SerializeAsString();
    if (bytes.empty()) continue;
    for (uint64_t k = 1 + random.Below(3); k > 0; --k)
      bytes[random.Below(bytes.size())] = char(random.Below(256));
    inference::ModelInferRequest expected;
    const bool ok = expected.ParseFromString(bytes);
    const auto pieces = Cut(random, bytes);
    auto got = ReadWireRequest(WireReader(pieces));
    // Contents are read later, and a shape of unheard-of rank is refused.
    if (ok && got) ExpectSame(expected, *got);
  }
}

TEST(WireRequest, SkipsUnknownFieldsAndBoundsNesting) {
  inference::ModelInferRequest message;
  message.set_id("7");
  std::string bytes;
  PutVarintField(bytes, 99, 1);
  PutBytes(bytes, 100, "abc");
  for (const int depth : {3, 90, 101, 100000}) {
    std::string deep = bytes;
    for (int i = 0; i < depth; ++i) PutVarint(deep, 101 << 3 | 3);
    for (int i = 0; i < depth; ++i) PutVarint(deep, 101 << 3 | 4);
    deep += message.SerializeAsString();
    const std::string_view piece = deep;
    auto got = ReadWireRequest(WireReader({&piece, 1}));
    EXPECT_EQ(got.has_value(), depth <= 100) << depth;
    if (got) EXPECT_EQ(got->id, "7");
  }
}

TEST(WireRequest, RefusesMoreTensorsThanAnyModelHas) {
  std::string bytes;
  for (int i = 0; i < 100000; ++i) PutBytes(bytes, 5, "");
  const std::string_view piece = bytes;
  EXPECT_FALSE(ReadWireRequest(WireReader({&piece, 1})).has_value());
}

TEST(WireRequest, RefusesTextThatIsNotUtf8) {
  for (const std::string text : {"\x80", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "a\xc3"}) {
    std::string bytes;
    PutBytes(bytes, 3, text);
    const std::string_view piece = bytes;
    EXPECT_FALSE(ReadWireRequest(WireReader({&piece, 1})).has_value());
    EXPECT_FALSE(inference::ModelInferRequest().ParseFromString(bytes));
  }
}

// --- tensors ---

class Tensors : public testing::Test {
 protected:
  Result<InferCall> Make(const inference::ModelInferRequest& message) {
    bytes_ = message.SerializeAsString();
    Random random(5);
    pieces_ = Cut(random, bytes_);
    auto wire = ReadWireRequest(WireReader(pieces_));
    if (!wire) return Fail(wire.error());
    return MakeInferCall(model_, std::move(*wire), shared_memory_, nullptr);
  }
  inference::ModelInferRequest One(const std::string& datatype, std::vector<int64_t> shape) {
    inference::ModelInferRequest m;
    auto* in = m.add_inputs();
    in->set_name("x");
    in->set_datatype(datatype);
    for (const int64_t d : shape) in->add_shape(d);
    return m;
  }
  std::string ErrorOf(const inference::ModelInferRequest& message) {
    auto call = Make(message);
    return call ? "none" : call.error().message;
  }
  template <class T>
  void ExpectValues(const inference::ModelInferRequest& message, const std::vector<T>& expected) {
    auto call = Make(message);
    ASSERT_TRUE(call.has_value()) << call.error().message;
    const auto values = call->request.inputs.at(0).tensor.values<T>();
    EXPECT_EQ(std::vector<T>(values.begin(), values.end()), expected);
  }

  serve::ModelSpec model_{.name = "m", .inputs = {{.name = "x"}}};
  serve::SharedMemory shared_memory_{{}};
  std::string bytes_;
  std::vector<std::string_view> pieces_;
};

TEST_F(Tensors, ContentsOfEveryType) {
  auto m = One("FP32", {2});
  m.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1.5f);
  m.mutable_inputs(0)->mutable_contents()->add_fp32_contents(-2);
  ExpectValues<float>(m, {1.5f, -2});
  m = One("FP64", {1});
  m.mutable_inputs(0)->mutable_contents()->add_fp64_contents(0.1);
  ExpectValues<double>(m, {0.1});
  m = One("INT8", {2});
  m.mutable_inputs(0)->mutable_contents()->add_int_contents(-3);
  m.mutable_inputs(0)->mutable_contents()->add_int_contents(127);
  ExpectValues<int8_t>(m, {-3, 127});
  m = One("INT16", {1});
  m.mutable_inputs(0)->mutable_contents()->add_int_contents(-30000);
  ExpectValues<int16_t>(m, {-30000});
  m = One("INT32", {1});
  m.mutable_inputs(0)->mutable_contents()->add_int_contents(-2000000000);
  ExpectValues<int32_t>(m, {-2000000000});
  m = One("INT64", {1});
  m.mutable_inputs(0)->mutable_contents()->add_int64_contents(INT64_MIN);
  ExpectValues<int64_t>(m, {INT64_MIN});
  m = One("UINT8", {1});
  m.mutable_inputs(0)->mutable_contents()->add_uint_contents(200);
  ExpectValues<uint8_t>(m, {200});
  m = One("UINT16", {1});
  m.mutable_inputs(0)->mutable_contents()->add_uint_contents(60000);
  ExpectValues<uint16_t>(m, {60000});
  m = One("UINT32", {1});
  m.mutable_inputs(0)->mutable_contents()->add_uint_contents(4000000000);
  ExpectValues<uint32_t>(m, {4000000000});
  m = One("UINT64", {1});
  m.mutable_inputs(0)->mutable_contents()->add_uint64_contents(UINT64_MAX);
  ExpectValues<uint64_t>(m, {UINT64_MAX});
  m = One("BYTES", {2});
  m.mutable_inputs(0)->mutable_contents()->add_bytes_contents("a");
  m.mutable_inputs(0)->mutable_contents()->add_bytes_contents(std::string("\0\xff", 2));
  ExpectValues<std::string>(m, {"a", std::string("\0\xff", 2)});
  m = One("BOOL", {2});
  m.mutable_inputs(0)->mutable_contents()->add_bool_contents(true);
  m.mutable_inputs(0)->mutable_contents()->add_bool_contents(false);
  ExpectValues<bool>(m, {true, false});
}

TEST_F(Tensors, ContentsMayBeUnpackedAndInPieces) {
  std::string contents;
  PutVarintField(contents, 2, 5);
  PutBytes(contents, 2, "\x06\x07");
  std::string input;
  PutString(input, 1, "x");
  PutString(input, 2, "INT32");
  PutVarintField(input, 3, 4);
  PutBytes(input, 5, contents);
  contents.clear();
  PutVarintField(contents, 2, 8);
  PutBytes(input, 5, contents);
  std::string bytes;
  PutBytes(bytes, 5, input);
  inference::ModelInferRequest m;
  ASSERT_TRUE(m.ParseFromString(bytes));
  const std::string_view piece = bytes;
  auto wire = ReadWireRequest(WireReader({&piece, 1}));
  ASSERT_TRUE(wire.has_value());
  auto call = MakeInferCall(model_, std::move(*wire), shared_memory_, nullptr);
  ASSERT_TRUE(call.has_value()) << call.error().message;
  const auto values = call->request.inputs[0].tensor.values<int32_t>();
  EXPECT_EQ(std::vector<int32_t>(values.begin(), values.end()), (std::vector<int32_t>{5, 6, 7, 8}));
}

TEST_F(Tensors, RawBytesAreViewedOrGathered) {
  auto m = One("FP32", {4096});
  std::string raw(4096 * 4, '\0');
  for (size_t i = 0; i < 4096; ++i) {
    const auto v = float(i);
    std::memcpy(raw.data() + 4 * i, &v, 4);
  }
  m.add_raw_input_contents(raw);
  auto call = Make(m);
  ASSERT_TRUE(call.has_value()) << call.error().message;
  EXPECT_EQ(call->request.inputs[0].tensor.as<float>()[4095], 4095.f);
  // In one piece and aligned: a view.
  const std::string bytes = m.SerializeAsString();
  const size_t at = bytes.size() - raw.size();
  auto buffer = std::make_shared<std::vector<char>>(bytes.size() + 64);
  char* base = buffer->data();
  while ((reinterpret_cast<uintptr_t>(base) + at) % 64 != 0) ++base;
  std::memcpy(base, bytes.data(), bytes.size());
  const std::string_view piece(base, bytes.size());
  auto wire = ReadWireRequest(WireReader({&piece, 1}));
  call = MakeInferCall(model_, std::move(*wire), shared_memory_, buffer);
  ASSERT_TRUE(call.has_value());
  EXPECT_EQ(static_cast<const void*>(call->request.inputs[0].tensor.raw()), base + at);
}

TEST_F(Tensors, ErrorsInTheProtocolsWords) {
  auto m = One("FP32", {2});
  EXPECT_EQ(ErrorOf(m), "unable to find data for input tensor 'x' for model 'm' in request.");
  m.mutable_inputs(0)->mutable_contents()->add_fp64_contents(1);
  EXPECT_EQ(ErrorOf(m),
            "unexpected explicit tensor data for input tensor 'x' for model 'm' of type 'FP64', "
            "expected datatype 'FP32'");
  m.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  EXPECT_EQ(ErrorOf(m),
            "unexpected explicit tensor data for input tensor 'x' for model 'm', binary data was "
            "already supplied.");
  m.add_raw_input_contents("12345678");
  EXPECT_EQ(ErrorOf(m),
            "contents field must not be specified when using raw_input_contents for 'x' for model "
            "'m'");
  m = One("FP32", {2});
  m.add_raw_input_contents("1234567");
  EXPECT_EQ(ErrorOf(m),
            "[request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. "
            "Expected 8, got 7");
  m = One("FP16", {1});
  m.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  EXPECT_EQ(ErrorOf(m),
            "unexpected explicit tensor data for input tensor 'x' for model 'm' of type 'FP32', "
            "expected datatype 'FP16'");
  m = One("FP32", {int64_t{1} << 40});
  m.mutable_inputs(0)->mutable_contents()->add_fp32_contents(1);
  EXPECT_EQ(ErrorOf(m),
            "[request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. "
            "Expected 4398046511104, got 4");
  for (const int64_t extent : {int64_t{-1}, INT64_MAX, INT64_MIN}) {
    m = One("FP64", {extent, 3});
    m.add_raw_input_contents("12345678");
    EXPECT_NE(ErrorOf(m), "none");
    m.clear_raw_input_contents();
    m.mutable_inputs(0)->mutable_contents()->add_fp64_contents(1);
    EXPECT_NE(ErrorOf(m), "none");
  }
}

}  // namespace
}  // namespace dunlin::grpc
