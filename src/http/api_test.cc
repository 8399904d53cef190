#include "http/api.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <future>
#include <limits>
#include <random>

#include "http/compress.h"
#include "serve/classify.h"
#include "serve/fake_backend.h"

namespace dunlin::http {
namespace {

using serve::ControlMode;

struct Answer {
  int status = 0;
  std::string type, body, header_length, encoding, accept;
};

template <class T>
std::string Bytes(std::initializer_list<T> values) {
  return {reinterpret_cast<const char*>(values.begin()), values.size() * sizeof(T)};
}

class ApiTest : public testing::Test {
 protected:
  void SetUp() override {
    disk_.Write("m/1/model.onnx", "in x f32 -1,2\nout y f32 -1,2\nadd 1\n");
    disk_.Write("two/1/model.onnx", "in a i32 2\nin b f32 *\nout c i32 2\nout d f32 *\n");
    disk_.Write("s/1/model.onnx", "in x string 1,-1\nout y string 1,-1\n");
    disk_.Write("h/1/model.onnx", "in x f16 2\nout y f16 2\n");
    disk_.Write(
        "types/1/model.onnx",
        "in u8 u8 2\nin i8 i8 2\nin u16 u16 1\nin i16 i16 1\nin u32 u32 1\nin i64 i64 2\nin u64 "
        "u64 2\nin f64 f64 2\nin b bool 2\n"
        "out ou8 u8 2\nout oi8 i8 2\nout ou16 u16 1\nout oi16 i16 1\nout ou32 u32 1\nout oi64 "
        "i64 2\nout ou64 u64 2\nout of64 f64 2\nout ob bool 2\n");
    disk_.Write("labels/1/model.onnx", "in x f32 -1,3\nout y f32 -1,3\n");
    disk_.Write("labels/config.pbtxt",
                "max_batch_size: 2 output { name: 'y' data_type: TYPE_FP32 dims: 3 label_filename: "
                "'labels.txt' }");
    disk_.Write("labels/labels.txt", "cat\ndog\nbird\n");
    disk_.Write("wrong/1/model.onnx", "in x f32 2\nout y f32 2\nerror boom\n");
    repository_ = std::make_unique<serve::Repository>(
        serve::RepositoryOptions{
            .repositories = {disk_.path()}, .mode = ControlMode::kExplicit, .load_models = {"*"}},
        std::make_unique<serve::FakeBackend>(), metrics_);
    ASSERT_TRUE(repository_->Start());
    api_ = std::make_unique<Api>(serve::Service{.repository = *repository_,
                                                .shared_memory = shared_memory_,
                                                .metrics = metrics_,
                                                .tracer = tracer_,
                                                .access = access_,
                                                .access_log = access_log_,
                                                .stopping = stopping_},
                                 Api::Options{.max_input_size = 1 << 20});
  }

  Answer Call(const std::string& method, const std::string& target, const std::string& body = "",
              std::vector<std::pair<std::string, std::string>> headers = {}) {
    Request request;
    request.method = method;
    request.target = target;
    std::string padded;
    padded.reserve(body.size() + kBodyPadding);
    padded = body;
    request.body = padded;
    for (const auto& [name, value] : headers) request.headers.push_back({name, value});
    std::promise<Reply> promise;
    api_->Handle(request, [&](Reply r) { promise.set_value(std::move(r)); });
    const Reply reply = promise.get_future().get();
    Answer a{.status = reply.status, .type = std::string(reply.content_type), .body = reply.body};
    for (const Tensor& t : reply.tensors)
      a.body.append(reinterpret_cast<const char*>(t.raw()), size_t(t.bytes()));
    for (const auto& [k, v] : reply.headers) {
      if (k == "Inference-Header-Content-Length") a.header_length = v;
      if (k == "Content-Encoding") a.encoding = v;
      if (k == "Accept-Encoding") a.accept = v;
    }
    return a;
  }
  Answer Infer(const std::string& model, const std::string& body,
               std::vector<std::pair<std::string, std::string>> headers = {}) {
    return Call("POST", "/v2/models/" + model + "/infer", body, std::move(headers));
  }
  // Status and message of a request that must fail.
  std::string ErrorOf(const std::string& model, const std::string& body,
                      std::vector<std::pair<std::string, std::string>> headers = {}) {
    const Answer a = Infer(model, body, std::move(headers));
    EXPECT_EQ(a.type, "application/json");
    const std::string prefix = "{\"error\":\"";
    if (a.body.rfind(prefix, 0) != 0) return "not an error: " + a.body;
    return std::to_string(a.status) + " " +
           a.body.substr(prefix.size(), a.body.size() - prefix.size() - 2);
  }

  serve::TempRepository disk_;
  serve::Metrics metrics_;
  serve::Tracer tracer_;
  serve::AccessPolicy access_;
  serve::AccessLog access_log_;
  serve::SharedMemory shared_memory_{{.allow = true}};
  std::atomic<bool> stopping_{false};
  std::unique_ptr<serve::Repository> repository_;
  std::unique_ptr<Api> api_;
};

constexpr const char* kGood =
    R"({"id":"7","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1.5,2]}]})";

TEST_F(ApiTest, AnswersInJson) {
  const Answer a = Infer("m", kGood);
  EXPECT_EQ(a.status, 200);
  EXPECT_EQ(a.body,
            R"({"id":"7","model_name":"m","model_version":"1","outputs":[{"name":"y","datatype":)"
            R"("FP32","shape":[1,2],"data":[2.5,3.0]}]})");
  EXPECT_EQ(a.header_length, "");
  EXPECT_EQ(Call("POST", "/v2/models/m/versions/1/infer", kGood).status, 200);
}

TEST_F(ApiTest, NestedAndFlatDataAreTheSame) {
  const std::string nested =
      R"({"inputs":[{"data":[[1,2],[3,4]],"datatype":"FP32","shape":[2,2],"name":"x"}]})";
  EXPECT_NE(Infer("m", nested).body.find("\"shape\":[2,2],\"data\":[2.0,3.0,4.0,5.0]"),
            std::string::npos)
      << "also when data comes before shape";
}

TEST_F(ApiTest, CarriesEveryType) {
  const Answer a = Infer("types", R"({"inputs":[
    {"name":"u8","shape":[2],"datatype":"UINT8","data":[0,255]},
    {"name":"i8","shape":[2],"datatype":"INT8","data":[-128,127]},
    {"name":"u16","shape":[1],"datatype":"UINT16","data":[65535]},
    {"name":"i16","shape":[1],"datatype":"INT16","data":[-32768]},
    {"name":"u32","shape":[1],"datatype":"UINT32","data":[4294967295]},
    {"name":"i64","shape":[2],"datatype":"INT64","data":[-9223372036854775808,9223372036854775807]},
    {"name":"u64","shape":[2],"datatype":"UINT64","data":[0,18446744073709551615]},
    {"name":"f64","shape":[2],"datatype":"FP64","data":[0.1,1e-300]},
    {"name":"b","shape":[2],"datatype":"BOOL","data":[true,false]}]})");
  ASSERT_EQ(a.status, 200) << a.body;
  for (const char* part : {"[0,255]", "[-128,127]", "[65535]", "[-32768]", "[4294967295]",
                           "[-9223372036854775808,9223372036854775807]", "[0,18446744073709551615]",
                           "[0.1,1e-300]", "[true,false]"})
    EXPECT_NE(a.body.find(std::string("\"data\":") + part), std::string::npos) << part << a.body;
}

TEST_F(ApiTest, BinaryTensorsGoBothWays) {
  const std::string json =
      R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],)"
      R"("outputs":[{"name":"y","parameters":{"binary_data":true}}]})";
  const Answer a = Infer("m", json + Bytes({1.f, 2.f}),
                         {{"inference-header-content-length", std::to_string(json.size())}});
  ASSERT_EQ(a.status, 200) << a.body;
  EXPECT_EQ(a.type, "application/octet-stream");
  const size_t n = std::stoul(a.header_length);
  EXPECT_NE(a.body.substr(0, n).find("\"parameters\":{\"binary_data_size\":8}"), std::string::npos);
  EXPECT_EQ(a.body.substr(n), Bytes({2.f, 3.f}));
}

TEST_F(ApiTest, TheSameJsonAgainTakesItsOwnBytes) {
  const auto json = [](const std::string& outputs) {
    return R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}],)" +
           outputs + "}";
  };
  const auto ask = [&](const std::string& text, const std::string& tail) {
    return Infer("m", text + tail,
                 {{"Inference-Header-Content-Length", std::to_string(text.size())}});
  };
  const std::string binary = json(R"("parameters":{"binary_data_output":true})");
  const std::string listed = json(R"("outputs":[{"name":"y"}])");
  for (float f = 0; f < 3; ++f) {
    const Answer a = ask(binary, Bytes({f, 2 * f}));
    EXPECT_EQ(a.body.substr(std::stoul(a.header_length)), Bytes({f + 1, 2 * f + 1}));
    EXPECT_EQ(ask(binary, Bytes({f})).status, 400);
    EXPECT_EQ(ask(binary, Bytes({f, f, f})).status, 400);
    for (const float g : {f, 7.f})
      EXPECT_NE(
          ask(listed, Bytes({g, g})).body.find(R"("data":[)" + std::to_string(int(g) + 1) + ".0,"),
          std::string::npos);
    // What names no bytes is not taken for what did.
    EXPECT_EQ(Infer("m", binary).status, 400);
  }
}

TEST_F(ApiTest, ListedOutputsIgnoreTheDefaultForm) {
  const std::string input =
      R"("inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[1,2]}])";
  const Answer binary = Infer("m", R"({"parameters":{"binary_data_output":true},)" + input + "}");
  EXPECT_EQ(binary.type, "application/octet-stream");
  const Answer listed = Infer(
      "m", R"({"parameters":{"binary_data_output":true},"outputs":[{"name":"y"}],)" + input + "}");
  EXPECT_EQ(listed.type, "application/json");
}

TEST_F(ApiTest, RawRequestsAreTheOneInput) {
  const Answer a = Infer("m", Bytes({1.f, 2.f}), {{"Inference-Header-Content-Length", "0"}});
  ASSERT_EQ(a.status, 200) << a.body;
  EXPECT_EQ(a.body.substr(std::stoul(a.header_length)), Bytes({2.f, 3.f}));
  EXPECT_EQ(ErrorOf("m", "123456789", {{"Inference-Header-Content-Length", "0"}}),
            "400 [request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. "
            "Expected 8, got 9");
  EXPECT_EQ(ErrorOf("two", "", {{"Inference-Header-Content-Length", "0"}}),
            "400 [request id: <id_unknown>] Raw request must only have 1 input (found 1) to be "
            "deduced but got 2 inputs in 'two' model configuration");
}

TEST_F(ApiTest, StringsInBothForms) {
  const Answer json = Infer(
      "s", R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"BYTES","data":["a\"b","ü"]}]})");
  EXPECT_NE(json.body.find(R"("datatype":"BYTES","shape":[1,2],"data":["a\"b","ü"])"),
            std::string::npos)
      << json.body;
  const std::string head =
      R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"BYTES","parameters":{"binary_data_size":11}}],)"
      R"("parameters":{"binary_data_output":true}})";
  const std::string tail("\x01\0\0\0a\x02\0\0\0\xff\0", 11);
  const Answer binary =
      Infer("s", head + tail, {{"Inference-Header-Content-Length", std::to_string(head.size())}});
  ASSERT_EQ(binary.status, 200) << binary.body;
  EXPECT_EQ(binary.body.substr(std::stoul(binary.header_length)), tail);
  const std::string to_json =
      R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"BYTES","parameters":)"
      R"({"binary_data_size":11}}]})";
  EXPECT_NE(ErrorOf("s", to_json + tail,
                    {{"Inference-Header-Content-Length", std::to_string(to_json.size())}})
                .find("400 output 'y' holds bytes that are not UTF-8"),
            std::string::npos);
  std::string bad = tail;
  bad[5] = 9;
  EXPECT_NE(
      ErrorOf("s", head + bad, {{"Inference-Header-Content-Length", std::to_string(head.size())}})
          .find("points outside"),
      std::string::npos);
}

TEST_F(ApiTest, HalfFloatsOnlyInBinary) {
  EXPECT_EQ(
      ErrorOf("h", R"({"inputs":[{"name":"x","shape":[2],"datatype":"FP16","data":[1,2]}]})"),
      "400 sending FP16 data via JSON is not supported. Please use the binary data format for "
      "input 'x'");
  const Answer a =
      Infer("h", std::string("\0\x3c\0\x40", 4), {{"Inference-Header-Content-Length", "0"}});
  EXPECT_EQ(a.status, 200) << a.body;
}

TEST_F(ApiTest, NumbersJsonDoesNotHaveBecomeNull) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::string head =
      R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]})";
  const Answer a = Infer("m", head + Bytes({std::nanf(""), -inf}),
                         {{"Inference-Header-Content-Length", std::to_string(head.size())}});
  EXPECT_NE(a.body.find("\"data\":[null,null]"), std::string::npos) << a.body;
}

TEST_F(ApiTest, Classification) {
  const Answer a =
      Infer("labels",
            R"({"inputs":[{"name":"x","shape":[2,3],"datatype":"FP32","data":[0.5,3.3,1, 9,8,7]}],)"
            R"("outputs":[{"name":"y","parameters":{"classification":2}}]})");
  EXPECT_NE(
      a.body.find(R"("datatype":"BYTES","shape":[2,2],"data":["3.300000:1:dog","1.000000:2:bird",)"
                  R"("9.000000:0:cat","8.000000:1:dog"])"),
      std::string::npos)
      << a.body;
  const Tensor t = Tensor::Of<float>({4}, {std::nanf(""), 1, std::nanf(""), 2});
  const Tensor best = serve::Classify(t, 99, false, {}).value();
  EXPECT_EQ(best.as<std::string>()[0], "2.000000:3");
  EXPECT_EQ(best.count(), 4);
  EXPECT_FALSE(serve::Classify(Tensor::Zeros(DType::kBool, {2}).value(), 1, false, {}));
}

TEST_F(ApiTest, CompressedRequestsAndReplies) {
  const std::string packed = *Compress(kGood, Encoding::kGzip);
  const Answer a =
      Infer("m", packed, {{"Content-Encoding", "gzip"}, {"Accept-Encoding", "deflate"}});
  ASSERT_EQ(a.status, 200) << a.body;
  EXPECT_EQ(a.encoding, "deflate");
  EXPECT_NE(Decompress(a.body, Encoding::kDeflate, 1 << 20)->find("[2.5,3.0]"), std::string::npos);
  const Answer unknown = Infer("m", kGood, {{"Content-Encoding", "br"}});
  EXPECT_EQ(unknown.status, 501);
  EXPECT_EQ(unknown.body, R"({"error":"Unsupported compression type"})");
  EXPECT_EQ(unknown.accept, "gzip, deflate");
  const std::string bomb = *Compress(std::string(8 << 20, ' '), Encoding::kGzip);
  EXPECT_NE(ErrorOf("m", bomb, {{"Content-Encoding", "gzip"}}).find("--http-max-input-size"),
            std::string::npos);
}

// What a client may get wrong, and how the words begin that it gets back.
struct ErrorRow {
  const char* model;
  const char* body;
  const char* expected;
};

TEST_F(ApiTest, WhatCannotBeReadIsRefusedInTheProtocolsWords) {
  const std::string big = R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[)" +
                          std::string(2 << 20, ' ') + "1,2]}]}";
  const ErrorRow rows[] = {
      {"nope", kGood, "404 Request for unknown model: 'nope' is not found"},
      {"m", "", "400 failed to parse the request JSON buffer: "},
      {"m", "{\"inputs\":[", "400 failed to parse the request JSON buffer: "},
      {"m", "{\"inputs\":NaN}", "400 failed to parse the request JSON buffer: "},
      {"m", "{}",
       "400 Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"},
      {"m", "[]",
       "400 Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"},
      {"m", R"({"inputs":3})",
       "400 Unable to parse 'inputs': attempt to access JSON non-array as array"},
      {"m", R"({"id":3,"inputs":[]})",
       "400 Unable to parse 'id': attempt to access JSON non-string as string"},
      {"m", R"({"inputs":[{}]})", "400 Unable to parse 'name': "},
      {"m", R"({"inputs":[{"name":"x"}]})", "400 Unable to parse 'datatype': "},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP99"}]})", "400 Unable to parse 'datatype': "},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32"}]})", "400 Unable to parse 'shape': "},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[-1,2],"data":[1]}]})",
       "400 Unable to parse 'shape': attempt to access JSON non-unsigned-integer as "
       "unsigned-integer"},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1.5],"data":[1]}]})",
       "400 Unable to parse 'shape': "},
      {"m",
       R"({"inputs":[{"name":"x","datatype":"FP32","shape":[4294967296,4294967296],"data":[1]}]})",
       "400 Unable to parse 'shape': "},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1000000,1000000],"data":[1]}]})",
       "400 Unable to parse 'data': Shape does not match true shape of 'data' field"},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2]}]})",
       "400 Unable to parse 'data': "},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1]}]})",
       "400 Unable to parse 'data': Shape does not match true shape of 'data' field"},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2,3]}]})",
       "400 Unable to parse 'data': Shape does not match true shape of 'data' field"},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,"2"]}]})",
       "400 Unable to parse 'data': attempt to access JSON non-number as double"},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,null]}]})",
       "400 Unable to parse 'data': "},
      {"types", R"({"inputs":[{"name":"u8","datatype":"UINT8","shape":[2],"data":[1,256]}]})",
       "400 Unable to parse 'data': 256 is out of range"},
      {"m",
       R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"binary_data_size":8}}]})",
       "400 must specify valid 'Infer-Header-Content-Length' in request header and "
       "'binary_data_size' when passing inputs in binary data format"},
      {"m",
       R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"parameters":{"shared_memory_region":"r"}}]})",
       "400 Unable to parse 'shared_memory_byte_size': "},
      {"m", R"({"parameters":{"triton_x":1},"inputs":[]})",
       "400 parameter keys starting with 'triton_' are reserved for Triton usage and should not be "
       "specified."},
      {"m", R"({"parameters":{"x":[1]},"inputs":[]})", "400 parameter 'x' has invalid type."},
      {"m", big.c_str(),
       "400 request JSON size of 2097222 bytes exceeds the maximum allowed input size of 1048576 "
       "bytes. "
       "Use --http-max-input-size to increase the limit."},
  };
  for (const ErrorRow& row : rows) {
    const std::string error = ErrorOf(row.model, row.body);
    EXPECT_EQ(error.substr(0, std::strlen(row.expected)), row.expected)
        << std::string_view(row.body).substr(0, 200);
  }
}

TEST_F(ApiTest, WhatDoesNotFitTheModelIsRefusedInTheProtocolsWords) {
  const ErrorRow rows[] = {
      {"m", R"({"id":"7","inputs":[{"name":"x","datatype":"INT32","shape":[1,2],"data":[1,2]}]})",
       "400 [request id: 7] inference input 'x' data-type is 'INT32', but model 'm' expects "
       "'FP32'"},
      {"m", R"({"inputs":[]})",
       "400 [request id: <id_unknown>] expected 1 inputs but got 0 inputs for model 'm'. Got "
       "input(s) "
       "[], but missing required input(s) ['x']. Please provide all required input(s)."},
      {"m", R"({"inputs":[{"name":"z","datatype":"FP32","shape":[1,2],"data":[1,2]}]})",
       "400 [request id: <id_unknown>] expected 1 inputs but got 1 inputs for model 'm'. Got "
       "input(s) "
       "['z'], but missing required input(s) ['x']. Please provide all required input(s)."},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,3],"data":[1,2,3]}]})",
       "400 [request id: <id_unknown>] unexpected shape for input 'x' for model 'm'. Expected "
       "[-1,2], "
       "got [1,3]. NOTE: Setting a non-zero max_batch_size"},
      {"wrong", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[3],"data":[1,2,3]}]})",
       "400 [request id: <id_unknown>] unexpected shape for input 'x' for model 'wrong'. Expected "
       "[2], "
       "got [3]. "},
      {"m",
       R"({"inputs":[{"name":"x","datatype":"FP32","shape":[5,2],"data":[1,2,3,4,5,6,7,8,9,0]}]})",
       "400 [request id: <id_unknown>] inference request batch-size must be <= 4 for 'm'"},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[],"data":[1]}]})",
       "400 [request id: <id_unknown>] input 'x' has no shape but model requires batch dimension "
       "for 'm'"},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[0,2],"data":[]}]})",
       "400 [request id: <id_unknown>] inference request batch-size must be >= 1 for 'm'"},
      {"m",
       R"({"outputs":[{"name":"q"}],"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]})",
       "400 [request id: <id_unknown>] unexpected inference output 'q' for model 'm'"},
      {"m", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]},
                          {"name":"x","datatype":"FP32","shape":[1,2],"data":[1,2]}]})",
       "400 [request id: <id_unknown>] input 'x' already exists in request"},
      {"wrong", R"({"inputs":[{"name":"x","datatype":"FP32","shape":[2],"data":[1,2]}]})",
       "400 [request id: <id_unknown>] boom"},
  };
  for (const ErrorRow& row : rows) {
    const std::string error = ErrorOf(row.model, row.body);
    EXPECT_EQ(error.substr(0, std::strlen(row.expected)), row.expected) << row.body;
  }
  EXPECT_EQ(ErrorOf("m/versions/3", kGood),
            "404 Request for unknown model: 'm' version 3 is not found");
  EXPECT_EQ(ErrorOf("m/versions/99999999999999999999", kGood),
            "400 failed to get model version from specified version string '99999999999999999999' "
            "(details: stol), version should be an integral value > 0");
}

TEST_F(ApiTest, BinaryLengthsAreChecked) {
  const std::string json =
      R"({"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]})";
  const std::string n = std::to_string(json.size());
  const auto error = [&](const std::string& tail, const std::string& length) {
    return ErrorOf("m", json + tail, {{"Inference-Header-Content-Length", length}});
  };
  EXPECT_EQ(error("1234", n),
            "400 unexpected size for input 'x', expecting 4 additional bytes for model 'm'");
  EXPECT_EQ(error("1234567890", n), "400 unexpected additional input data for model 'm'");
  EXPECT_EQ(error("12345678", "x"), "400 Unable to parse Inference-Header-Content-Length, got: x");
  EXPECT_EQ(error("12345678", "-1"), "400 inference header size should be in range (0, " +
                                         std::to_string(json.size() + 8) + "), got: -1");
  EXPECT_EQ(error("", "1073741824"),
            "400 inference header size should be in range (0, " + n + "), got: 1073741824");
  EXPECT_EQ(error("", "99999999999999999999"), "400 inference header size should be in range (0, " +
                                                   n + "), got: 99999999999999999999");
  std::string odd = json;
  odd.replace(odd.find("size\":8"), 7, "size\":7");
  EXPECT_EQ(ErrorOf("m", odd + "1234567", {{"Inference-Header-Content-Length", n}}),
            "400 [request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. "
            "Expected 8, got 7");
}

TEST_F(ApiTest, DeepNestingIsRefused) {
  const std::string deep = R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":)" +
                           std::string(100000, '[') + std::string(100000, ']') + "}]}";
  EXPECT_NE(ErrorOf("m", deep).find("failed to parse the request JSON buffer"), std::string::npos);
}

TEST_F(ApiTest, MetadataConfigAndStatistics) {
  EXPECT_EQ(
      Call("GET", "/v2/models/m").body,
      R"({"name":"m","versions":["1"],"platform":"onnxruntime_onnx","inputs":[{"name":"x",)"
      R"("datatype":"FP32","shape":[-1,2]}],"outputs":[{"name":"y","datatype":"FP32","shape":)"
      R"([-1,2]}]})");
  EXPECT_NE(Call("GET", "/v2/models/m/config").body.find("\"max_batch_size\":4"),
            std::string::npos);
  Infer("m", kGood);
  const Answer stats = Call("GET", "/v2/models/m/versions/1/stats");
  EXPECT_NE(stats.body.find("\"inference_count\":1,\"execution_count\":1"), std::string::npos)
      << stats.body;
  EXPECT_EQ(Call("GET", "/v2/models/none/stats").status, 404);
  EXPECT_NE(Call("GET", "/v2/models/stats").body.find("\"name\":\"types\""), std::string::npos);
  EXPECT_NE(Call("GET", "/v2").body.find("\"name\":\"dunlin\""), std::string::npos);
  EXPECT_NE(metrics_.Text().find("nv_inference_request_success{model=\"m\",version=\"1\"} 1"),
            std::string::npos);
  EXPECT_NE(
      metrics_.Text().find("dunlin_request_duration_seconds_bucket{model=\"m\",version=\"1\""),
      std::string::npos);
}

TEST_F(ApiTest, HealthAndRepository) {
  EXPECT_EQ(Call("GET", "/v2/health/live").status, 200);
  EXPECT_EQ(Call("GET", "/v2/health/ready").status, 200);
  EXPECT_EQ(Call("GET", "/v2/models/m/ready").status, 200);
  EXPECT_EQ(Call("GET", "/v2/models/none/ready").status, 404);
  EXPECT_EQ(Call("POST", "/v2/repository/models/m/unload").status, 200);
  const Answer ready = Call("GET", "/v2/models/m/ready");
  EXPECT_EQ(ready.status, 400);
  EXPECT_EQ(ready.body, R"({"error":"Model version not ready"})");
  EXPECT_NE(
      Call("POST", "/v2/repository/index").body.find(R"({"name":"m","version":"1","state":"UN)"),
      std::string::npos);
  EXPECT_EQ(Call("POST", "/v2/repository/index", R"({"ready":true})").body.find("\"m\""),
            std::string::npos);
  EXPECT_EQ(Call("POST", "/v2/repository/models/m/load").status, 200);
  EXPECT_EQ(Call("POST", "/v2/repository/models/m/load",
                 R"({"parameters":{"config":"{\"max_batch_size\":2}"}})")
                .status,
            200);
  EXPECT_NE(Call("GET", "/v2/models/m/config").body.find("\"max_batch_size\":2"),
            std::string::npos);
  EXPECT_EQ(Call("POST", "/v2/repository/models/none/load").body,
            R"({"error":"failed to load 'none', failed to poll from model repository"})");
  EXPECT_EQ(Call("POST", "/v2/repository/models/m/load",
                 R"({"parameters":{"config":"{}","file:1/model.onnx":"AA="}})")
                .body,
            R"({"error":"Unable to parse 'file:1/model.onnx': malformed base64"})");
  // in x f32 -1,2\nout y f32 -1,2\n
  EXPECT_EQ(Call("POST", "/v2/repository/models/m/load",
                 R"({"parameters":{"config":"{}","file:4/model.onnx":)"
                 R"("aW4geCBmMzIgLTEsMgpvdXQgeSBmMzIgLTEsMgo="}})")
                .status,
            200);
  EXPECT_EQ(Call("GET", "/v2/models/m/versions/4").status, 200);
  EXPECT_EQ(Call("POST", "/v2/repository/models/m/load").status, 200);
  EXPECT_EQ(Call("POST", "/v2/repository/r/models/m/load").body,
            R"({"error":"'repository_name' specification is not supported"})");
  EXPECT_EQ(Call("POST", "/v2/repository/models/m/load", "{").status, 400);
  EXPECT_EQ(Call("GET", "/v2/nothing").body, R"({"error":"Not Found"})");
  EXPECT_EQ(Call("DELETE", "/v2").body, R"({"error":"Method Not Allowed"})");
  stopping_ = true;
  EXPECT_EQ(Call("GET", "/v2/health/ready").status, 503);
  EXPECT_EQ(Call("GET", "/v2/health/live").status, 200);
}

TEST_F(ApiTest, SurvivesRandomDamage) {
  const std::string json =
      R"({"id":"7","parameters":{"timeout":1000000,"k":1.5},"inputs":[{"name":"x","shape":[1,2],)"
      R"("datatype":"FP32","parameters":{"binary_data_size":8}}],"outputs":[{"name":"y","parameters":)"
      R"({"classification":2,"binary_data":true}}]})";
  const std::string good = json + Bytes({1.f, 2.f});
  std::mt19937 random(11);
  int fine = 0;
  for (int i = 0; i < 20000; ++i) {
    std::string body = i % 2 ? good : std::string(kGood);
    for (size_t k = random() % 3; k > 0; --k) {
      const size_t at = random() % body.size();
      switch (random() % 4) {
        case 0:
          body[at] = char(random());
          break;
        case 1:
          body.erase(at, 1 + random() % 9);
          break;
        case 2:
          body.insert(at, std::to_string(int64_t(random()) << (random() % 33)));
          break;
        default:
          body.insert(at, body.substr(random() % body.size(), random() % 20));
      }
      if (body.empty()) body = "{";
    }
    std::vector<std::pair<std::string, std::string>> headers;
    if (i % 2)
      headers.emplace_back("Inference-Header-Content-Length", random() % 8
                                                                  ? std::to_string(json.size())
                                                                  : std::to_string(random() % 400));
    fine += Infer("m", body, headers).status == 200;
  }
  EXPECT_GT(fine, 1000) << "most of this was not damaged enough to test anything but errors";
  EXPECT_EQ(Infer("m", kGood).status, 200);
}

}  // namespace
}  // namespace dunlin::http
