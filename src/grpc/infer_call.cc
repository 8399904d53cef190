#include "grpc/infer_call.h"

#include <atomic>
#include <new>

#include "serve/wire.h"

namespace dunlin::grpc {
namespace {

// A library below may throw when there is no memory.
template <class F>
auto GuardMemory(F&& f) -> decltype(f()) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    return Fail(Code::kResourceExhausted, "not enough memory for the request");
  }
}

}  // namespace

Result<serve::InferRequest> Inference::Prepare(Core& core, Call& call,
                                               std::shared_ptr<ReceivedMessage> message) {
  return GuardMemory([&] { return Read(core, call, std::move(message)); });
}

Result<serve::InferRequest> Inference::Read(Core& core, Call& call,
                                            std::shared_ptr<ReceivedMessage> message) {
  const serve::TimePoint arrival = serve::Clock::now();
  WireRequest wire = TRY(ReadWireRequest(WireReader(message->pieces())));
  id_ = wire.id;
  const int64_t version = TRY(serve::ParseVersion(wire.model_version));
  model_ = TRY(core.service.repository.Find(wire.model_name, version));
  InferCall parsed =
      TRY(MakeInferCall(model_->spec(), std::move(wire), core.service.shared_memory, message));
  forms_ = std::move(parsed.forms);
  serve::InferRequest& request = parsed.request;
  request.arrival = arrival;
  request.deadline = call.Deadline();
  request.cancelled = call.CancelledFlag();
  call.ForwardHeaders(request);
  trace_ = core.service.tracer.Begin({.model = model_->spec().name,
                                      .version = model_->spec().version,
                                      .id = id_,
                                      .traceparent = call.Header("traceparent")});
  if (trace_) {
    trace_->Stamp(serve::TracePoint::kGrpcWaitreadStart, arrival);
    trace_->Stamp(serve::TracePoint::kGrpcWaitreadEnd);
    request.trace = trace_;
  }
  call.NoteRequest(message->bytes(), model_->spec().name, id_,
                   trace_ ? trace_->trace_id() : std::string());
  return std::move(request);
}

Result<Message> Inference::Write(const Core& core, Result<serve::InferResponse> response,
                                 Encoding encoding) {
  if (trace_) trace_->Stamp(serve::TracePoint::kGrpcSendStart);
  if (!response) return Fail(std::move(response).error());
  return GuardMemory([&]() -> Result<Message> {
    return FrameMessage(TRY(WriteInferReply(model_->spec(), forms_, std::move(*response), form_)),
                        encoding, core.options);
  });
}

void Inference::Sent() {
  if (!trace_) return;
  trace_->Stamp(serve::TracePoint::kGrpcSendEnd);
  trace_.reset();
}

}  // namespace dunlin::grpc
