#include "http/otlp.h"

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <chrono>
#include <span>

#include "base/json_writer.h"
#include "base/log.h"

namespace dunlin::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace wire = boost::beast::http;
using serve::TracePoint;
using serve::TraceRecord;
using SpanId = std::array<uint8_t, 8>;

constexpr std::chrono::seconds kTimeout{5};

std::string Hex(std::span<const uint8_t> bytes) {
  std::string out;
  for (const uint8_t b : bytes) out += fmt::format("{:02x}", b);
  return out;
}

// Other spans of a record have ids of their own made from the request's, which is random.
SpanId Derived(SpanId id, uint8_t which) {
  id[7] ^= which;
  return id;
}

void Attribute(JsonWriter& json, std::string_view key, std::string_view value) {
  json.BeginObject().Key("key").String(key).Key("value").BeginObject();
  json.Key("stringValue").String(value).End().End();
}
void Attribute(JsonWriter& json, std::string_view key, int64_t value) {
  json.BeginObject().Key("key").String(key).Key("value").BeginObject();
  // 64-bit integers are strings in protobuf's JSON.
  json.Key("intValue").String(std::to_string(value)).End().End();
}

class SpanWriter {
 public:
  SpanWriter(JsonWriter& json, const TraceRecord& r, int64_t offset)
      : json_(json), r_(r), offset_(offset) {}

  int64_t At(TracePoint p) const { return r_.ns[size_t(p)]; }

  // Left open for attributes. `begin` and `end` are on the steady clock.
  void Begin(std::string_view name, int kind, const SpanId& id, const SpanId& parent, int64_t begin,
             int64_t end) {
    json_.BeginObject().Key("traceId").String(Hex(r_.trace_id)).Key("spanId").String(Hex(id));
    if (parent != SpanId{}) json_.Key("parentSpanId").String(Hex(parent));
    json_.Key("name").String(name).Key("kind").Int(kind);
    json_.Key("startTimeUnixNano").String(Unix(begin));
    json_.Key("endTimeUnixNano").String(Unix(std::max(begin, end)));
  }
  void Events(std::initializer_list<TracePoint> points) {
    json_.Key("events").BeginArray();
    for (const TracePoint p : points) {
      if (At(p) == 0) continue;
      json_.BeginObject().Key("timeUnixNano").String(Unix(At(p)));
      json_.Key("name").String(serve::TracePointName(p)).End();
    }
    json_.End();
  }
  void End() {
    if (!r_.error.empty())
      json_.Key("status").BeginObject().Key("code").Int(2).Key("message").String(r_.error).End();
    json_.End();
  }

 private:
  std::string Unix(int64_t ns) const { return std::to_string(ns + offset_); }
  JsonWriter& json_;
  const TraceRecord& r_;
  const int64_t offset_;
};

constexpr int kInternal = 1, kServer = 2;  // SpanKind

void WriteSpans(JsonWriter& json, const TraceRecord& r, int64_t offset) {
  using enum TracePoint;
  SpanWriter out(json, r, offset);
  int64_t first = INT64_MAX, last = 0;
  for (const int64_t t : r.ns) {
    if (t != 0) first = std::min(first, t);
    last = std::max(last, t);
  }
  if (last == 0) return;
  SpanId parent = r.parent_span;
  if (r.parent_id == 0) {
    const SpanId root = Derived(r.request_span, 1);
    out.Begin("InferRequest", kServer, root, parent, first, last);
    out.Events({kHttpRecvStart, kHttpRecvEnd, kGrpcWaitreadStart, kGrpcWaitreadEnd,
                kInferResponseComplete, kHttpSendStart, kHttpSendEnd, kGrpcSendStart,
                kGrpcSendEnd});
    out.End();
    parent = root;
  }
  if (out.At(kRequestStart) == 0) return;
  const auto end_or_last = [&](TracePoint p) { return out.At(p) != 0 ? out.At(p) : last; };
  out.Begin(r.model, kInternal, r.request_span, parent, out.At(kRequestStart),
            end_or_last(kRequestEnd));
  json.Key("attributes").BeginArray();
  Attribute(json, "triton.model_name", r.model);
  Attribute(json, "triton.model_version", r.version);
  Attribute(json, "triton.trace_id", int64_t(r.id));
  Attribute(json, "triton.trace_parent_id", int64_t(r.parent_id));
  if (!r.request_id.empty()) Attribute(json, "triton.trace_request_id", r.request_id);
  json.End();
  out.Events({kRequestStart, kQueueStart, kRequestEnd});
  out.End();
  if (out.At(kComputeStart) == 0) return;
  out.Begin("compute", kInternal, Derived(r.request_span, 2), r.request_span, out.At(kComputeStart),
            end_or_last(kComputeEnd));
  out.Events({kComputeStart, kComputeInputEnd, kComputeOutputStart, kComputeEnd});
  out.End();
}

struct Target {
  std::string host, port = "80", path = "/";
  std::string authority;  // as the Host header wants it
};

Result<Target> ParseUrl(const std::string& url) {
  constexpr std::string_view kScheme = "http://";
  const std::string_view view = url;
  const auto bad = [&] {
    return Fail(Code::kInvalidArgument,
                "--trace-config: opentelemetry,url must be http://HOST[:PORT][/PATH], got '{}'",
                url);
  };
  if (!view.starts_with(kScheme) || view.find_first_of(" \r\n@#") != view.npos) return bad();
  const std::string_view rest = view.substr(kScheme.size());
  Target t;
  t.authority = rest.substr(0, rest.find('/'));
  if (t.authority.size() < rest.size()) t.path = rest.substr(t.authority.size());
  t.host = t.authority;
  const size_t colon = t.authority.rfind(':');
  if (colon != t.authority.npos && t.authority.find(']', colon) == t.authority.npos) {
    t.host = t.authority.substr(0, colon);
    t.port = t.authority.substr(colon + 1);
  }
  if (t.host.starts_with('[') && t.host.ends_with(']'))
    t.host = t.host.substr(1, t.host.size() - 2);
  if (t.host.empty() || t.port.empty() ||
      t.port.find_first_not_of("0123456789") != std::string::npos || t.port.size() > 5)
    return bad();
  return t;
}

class OtlpExporter : public serve::TraceSink {
 public:
  OtlpExporter(const serve::TraceOptions& o, Target target)
      : resource_(o.resource), batch_(o.max_export_batch_size), target_(std::move(target)) {}

  void Write(std::vector<TraceRecord> records) override {
    bool reachable = true;
    for (size_t i = 0; i < records.size(); i += batch_) {
      const size_t n = std::min(batch_, records.size() - i);
      std::vector<TraceRecord> batch(std::make_move_iterator(records.begin() + long(i)),
                                     std::make_move_iterator(records.begin() + long(i + n)));
      // Whoever did not take one batch is not asked to take the rest: this must end.
      if (reachable) {
        const Status status = Post(OtlpJson(batch, resource_, SteadyToUnix()));
        reachable = status.has_value();
        if (!reachable) Complain(status.error().message);
      }
      if (!reachable) dropped_.fetch_add(n, std::memory_order_relaxed);
    }
  }
  uint64_t dropped() const override { return dropped_.load(std::memory_order_relaxed); }

 private:
  static int64_t SteadyToUnix() {
    using std::chrono::nanoseconds;
    const auto unix = std::chrono::system_clock::now().time_since_epoch();
    const auto steady = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::duration_cast<nanoseconds>(unix).count() -
           std::chrono::duration_cast<nanoseconds>(steady).count();
  }

  // Once a minute, with what has been lost so far.
  void Complain(const std::string& reason) {
    const auto now = std::chrono::steady_clock::now();
    if (complained_ && now - *complained_ < std::chrono::minutes(1)) return;
    complained_ = now;
    log::Warning("traces could not be exported", {{"reason", reason}, {"lost", dropped()}});
  }

  Status Post(std::string body) {
    asio::io_context io;
    beast::tcp_stream stream(io);
    beast::error_code ec;
    const auto done = [&ec](beast::error_code e, auto&&...) { ec = e; };
    const auto failed = [&](const char* what) {
      io.restart();
      io.run();
      return bool(ec) ? Status(Fail(Code::kUnavailable, "cannot {} {}: {}", what, target_.authority,
                                    ec.message()))
                      : Status();
    };
    asio::ip::tcp::resolver resolver(io);
    asio::ip::tcp::resolver::results_type addresses;
    resolver.async_resolve(target_.host, target_.port, [&](beast::error_code e, auto results) {
      ec = e;
      addresses = results;
    });
    TRY(failed("find"));
    stream.expires_after(kTimeout);
    stream.async_connect(addresses, done);
    TRY(failed("connect to"));
    wire::request<wire::string_body> request{wire::verb::post, target_.path, 11};
    request.set(wire::field::host, target_.authority);
    request.set(wire::field::content_type, "application/json");
    request.keep_alive(false);
    request.body() = std::move(body);
    request.prepare_payload();
    wire::async_write(stream, request, done);
    TRY(failed("send to"));
    beast::flat_buffer buffer;
    wire::response_parser<wire::string_body> response;
    response.body_limit(1 << 20);
    wire::async_read(stream, buffer, response, done);
    TRY(failed("hear from"));
    const unsigned status = response.get().result_int();
    if (status >= 200 && status < 300) return {};
    return Fail(Code::kUnavailable, "{} answered {}", target_.authority, status);
  }

  const std::vector<std::pair<std::string, std::string>> resource_;
  const size_t batch_;
  const Target target_;
  std::optional<std::chrono::steady_clock::time_point> complained_;
  std::atomic<uint64_t> dropped_{0};
};

}  // namespace

std::string OtlpJson(const std::vector<TraceRecord>& records,
                     const std::vector<std::pair<std::string, std::string>>& resource,
                     int64_t steady_to_unix_ns) {
  JsonWriter json;
  json.BeginObject().Key("resourceSpans").BeginArray().BeginObject();
  json.Key("resource").BeginObject().Key("attributes").BeginArray();
  const bool named = std::any_of(resource.begin(), resource.end(),
                                 [](const auto& a) { return a.first == "service.name"; });
  if (!named) Attribute(json, "service.name", "dunlin");
  for (const auto& [key, value] : resource) Attribute(json, key, value);
  json.End().End();
  json.Key("scopeSpans").BeginArray().BeginObject();
  json.Key("scope").BeginObject().Key("name").String("dunlin").End();
  json.Key("spans").BeginArray();
  for (const TraceRecord& r : records) WriteSpans(json, r, steady_to_unix_ns);
  json.End().End().End().End().End().End();
  return json.Take();
}

Result<std::unique_ptr<serve::TraceSink>> MakeOtlpExporter(const serve::TraceOptions& options) {
  Target target = TRY(ParseUrl(options.url));
  return std::unique_ptr<serve::TraceSink>(new OtlpExporter(options, std::move(target)));
}

}  // namespace dunlin::http
