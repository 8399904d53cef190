// The routes that run a model.
#include <fmt/format.h>

#include <new>

#include "http/api.h"
#include "http/compress.h"
#include "http/generate.h"
#include "http/infer_parse.h"
#include "http/infer_write.h"
#include "http/predict.h"
#include "serve/trace.h"
#include "serve/wire.h"

namespace dunlin::http {
namespace {

// Compresses the reply when the client asks for it.
void CompressReply(Encoding encoding, Reply& reply) {
  if (encoding == Encoding::kIdentity || reply.bytes() == 0) return;
  std::string whole = std::move(reply.body);
  for (const Tensor& t : reply.tensors)
    whole.append(reinterpret_cast<const char*>(t.raw()), size_t(t.bytes()));
  auto compressed = Compress(whole, encoding);
  reply.tensors.clear();
  if (compressed) {
    reply.body = std::move(*compressed);
    reply.headers.emplace_back("Content-Encoding", EncodingName(encoding));
  } else {
    reply.body = std::move(whole);
  }
}

// An ORCA load report, as the client's endpoint-load-metrics-format asks; "" for any other value.
std::string LoadReport(serve::Machine& machine, std::string_view format) {
  const bool json = EqualsIgnoreCase(format, "json");
  if (!json && !EqualsIgnoreCase(format, "text")) return {};
  const double cpu = machine.CpuUtilization(std::chrono::seconds(1));
  const serve::Machine::Memory memory = serve::Machine::ReadMemory();
  const double used = memory.total_bytes > 0 ? memory.used_bytes / memory.total_bytes : 0;
  if (json)
    return fmt::format(R"(JSON {{"cpu_utilization":{:.4f},"mem_utilization":{:.4f}}})", cpu, used);
  return fmt::format("TEXT cpu_utilization={:.4f}, mem_utilization={:.4f}", cpu, used);
}

}  // namespace

// What the answer needs of the request, kept while the model runs.
struct Api::Call {
  Endpoint endpoint;
  std::shared_ptr<serve::ModelVersion> model;
  ParsedInfer parsed;
  PredictForm form = PredictForm::kRows;    // of kV1Predict
  Encoding encoding = Encoding::kIdentity;  // of the reply
  std::shared_ptr<serve::Trace> trace;
  std::string id;           // for the access log
  std::string load_format;  // of the load report, "" none
  serve::Machine* machine;
  ReplyFn done;

  Result<Reply> Write(Result<serve::InferResponse> response) const {
    if (!response) return Fail(std::move(response).error());
    switch (endpoint) {
      case Endpoint::kGenerate:
        return JsonReply(TRY(WriteGenerate(*response)));
      case Endpoint::kGenerateStream:
        return EventReply(TRY(WriteGenerate(*response)));
      case Endpoint::kV1Predict:
        return JsonReply(TRY(WritePredict(form, *response)));
      default:
        return WriteInfer(model->spec(), parsed, std::move(*response));
    }
  }
  void Answer(Result<serve::InferResponse> response) const {
    if (trace) trace->Stamp(serve::TracePoint::kInferResponseComplete);
    auto written = Write(std::move(response));
    Reply reply = written ? std::move(*written) : ErrorReply(written.error());
    if (written) CompressReply(encoding, reply);
    reply.trace = trace;
    reply.request_id = id;
    if (std::string report = LoadReport(*machine, load_format); !report.empty())
      reply.headers.emplace_back("endpoint-load-metrics", std::move(report));
    done(std::move(reply));
  }
};

Status Api::ParseCall(const Request& request, Call& call) const {
  const serve::ModelSpec& model = call.model->spec();
  const Encoding encoding = TRY(ParseContentEncoding(request.Header("Content-Encoding")));
  if (encoding != Encoding::kIdentity && call.endpoint != Endpoint::kInfer)
    return Fail(Code::kInvalidArgument,
                "Unsupported content-encoding, only 'identity' is supported.");
  if (call.endpoint == Endpoint::kInfer) {
    call.encoding = ChooseEncoding(request.Header("Accept-Encoding"));
    InferBody body{request.body, request.body_owner,
                   request.Header("Inference-Header-Content-Length")};
    if (encoding != Encoding::kIdentity) {
      const auto whole = std::make_shared<const std::string>(
          TRY(Decompress(request.body, encoding, options_.max_input_size)));
      body.bytes = *whole;
      body.owner = whole;
    }
    call.parsed = TRY(ParseInfer(model, body, service_.shared_memory, options_.max_input_size));
  } else if (call.endpoint == Endpoint::kV1Predict) {
    ParsedPredict parsed = TRY(ParsePredict(model, request.body));
    call.parsed.request = std::move(parsed.request);
    call.form = parsed.form;
  } else {
    call.parsed.request = TRY(ParseGenerate(model, request.body));
  }
  return {};
}

void Api::Infer(const Route& route, const Request& request, ReplyFn done) {
  auto call = std::make_shared<Call>();
  call->endpoint = route.endpoint;
  call->load_format = request.Header("endpoint-load-metrics-format");
  call->machine = &machine_;
  const auto prepare = [&]() -> Status {
    call->model = TRY(FindModel(route));
    return ParseCall(request, *call);
  };
  if (const Status status = prepare(); !status) {
    Reply reply = ErrorReply(status.error());
    if (status.error().message == "Unsupported compression type")
      reply.headers.emplace_back("Accept-Encoding", "gzip, deflate");
    return done(std::move(reply));
  }
  call->done = std::move(done);
  serve::InferRequest infer = std::move(call->parsed.request);
  infer.arrival = request.arrival;
  infer.cancelled = request.cancelled;
  if (options_.forwarded.any())
    for (const auto& [name, value] : request.headers) options_.forwarded.Add(name, value, infer);
  serve::ModelVersion& model = *call->model;
  call->id = infer.id;
  call->trace = service_.tracer.Begin({.model = model.spec().name,
                                       .version = model.spec().version,
                                       .id = infer.id,
                                       .traceparent = request.Header("traceparent")});
  if (call->trace) {
    call->trace->Stamp(serve::TracePoint::kHttpRecvStart, request.arrival);
    call->trace->Stamp(serve::TracePoint::kHttpRecvEnd);
  }
  infer.trace = call->trace;
  model.Submit(std::move(infer), [call = std::move(call)](Result<serve::InferResponse> response) {
    try {
      call->Answer(std::move(response));
    } catch (const std::bad_alloc&) {
      call->done(ErrorReply(503, "not enough memory for the reply"));
    }
  });
}

}  // namespace dunlin::http
