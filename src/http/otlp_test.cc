#include "http/otlp.h"

#include <gtest/gtest.h>

namespace dunlin::http {
namespace {

using serve::TracePoint;
using serve::TraceRecord;

TEST(Otlp, SpansNestAndCarryTheirEvents) {
  TraceRecord r;
  r.id = 5;
  r.model = "m";
  r.version = 3;
  r.trace_id = {0x0a, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  r.parent_span = {0xb7, 1, 1, 1, 1, 1, 1, 1};
  r.request_span = {1, 2, 3, 4, 5, 6, 7, 8};
  const auto stamp = [&](TracePoint p, int64_t ns) { r.ns[size_t(p)] = ns; };
  stamp(TracePoint::kHttpRecvStart, 10);
  stamp(TracePoint::kRequestStart, 20);
  stamp(TracePoint::kComputeStart, 30);
  stamp(TracePoint::kComputeEnd, 40);
  stamp(TracePoint::kRequestEnd, 50);
  stamp(TracePoint::kHttpSendEnd, 60);
  const std::string json = OtlpJson({r}, {{"zone", "a"}}, 1000);
  const auto has = [&](const std::string& part) {
    EXPECT_NE(json.find(part), std::string::npos) << part << "\nin\n" << json;
  };
  has(R"({"key":"service.name","value":{"stringValue":"dunlin"}},{"key":"zone","value":{"stringValue":"a"}})");
  has(R"({"traceId":"0a0102030405060708090a0b0c0d0e0f","spanId":"0102030405060709","parentSpanId":"b701010101010101","name":"InferRequest","kind":2,"startTimeUnixNano":"1010","endTimeUnixNano":"1060","events":[{"timeUnixNano":"1010","name":"HTTP_RECV_START"},{"timeUnixNano":"1060","name":"HTTP_SEND_END"}]})");
  has(R"("spanId":"0102030405060708","parentSpanId":"0102030405060709","name":"m","kind":1,"startTimeUnixNano":"1020","endTimeUnixNano":"1050")");
  has(R"({"key":"triton.model_version","value":{"intValue":"3"}})");
  has(R"("parentSpanId":"0102030405060708","name":"compute")");
  EXPECT_EQ(json.find("\"status\""), std::string::npos);
}

TEST(Otlp, AFailedRequestHasAnErrorStatus) {
  TraceRecord r;
  r.ns[0] = 1;
  r.error = "no room";
  EXPECT_NE(OtlpJson({r}, {}, 0).find(R"("status":{"code":2,"message":"no room"})"),
            std::string::npos);
}

TEST(Otlp, StepsOfAnEnsembleHaveNoRequestSpanOfTheirOwn) {
  TraceRecord r;
  r.parent_id = 1;
  r.request_span = r.parent_span = {1};
  r.ns[size_t(TracePoint::kRequestStart)] = 5;
  EXPECT_EQ(OtlpJson({r}, {}, 0).find("InferRequest"), std::string::npos);
}

TEST(Otlp, BadUrlsAreRefused) {
  serve::TraceOptions o;
  for (const char* url : {"", "localhost:4318", "https://a/", "http://", "http://:80/",
                          "http://a:x/", "http://user@host/", "http://a b/", "http://a:123456/"}) {
    o.url = url;
    EXPECT_FALSE(MakeOtlpExporter(o)) << url;
  }
  for (const char* url : {"http://a", "http://a:1/v1/traces", "http://[::1]:4318/v1/traces"}) {
    o.url = url;
    EXPECT_TRUE(MakeOtlpExporter(o)) << url;
  }
}

TEST(Otlp, ACollectorThatIsNotThereCostsTheBatchAndIsCounted) {
  serve::TraceOptions o;
  o.url = "http://127.0.0.1:1/v1/traces";
  o.max_export_batch_size = 2;
  const auto sink = MakeOtlpExporter(o);
  ASSERT_TRUE(sink);
  std::vector<TraceRecord> records(5);
  (*sink)->Write(std::move(records));
  EXPECT_EQ((*sink)->dropped(), 5u);
}

}  // namespace
}  // namespace dunlin::http
