// Calls with one message each way.
#include <fmt/format.h>

#include "grpc/call.h"
#include "grpc/h2_connection.h"
#include "grpc/infer_call.h"
#include "grpc/methods.h"

namespace dunlin::grpc {
namespace {

// What the client says after its one message is of no interest.
class UnaryCall : public Call {
 public:
  using Call::Call;

 protected:
  virtual void OnRequest(std::shared_ptr<ReceivedMessage> message) = 0;

 private:
  void OnMessage(std::shared_ptr<ReceivedMessage> message) final {
    if (!std::exchange(asked_, true)) OnRequest(std::move(message));
  }
  void OnHalfClosed() final {
    if (!asked_) Finish(Fail(Code::kInvalidArgument, "the call ended before its message"));
  }
  bool asked_ = false;
};

class ModelInferCall final : public UnaryCall {
 public:
  using UnaryCall::UnaryCall;

  void Start() override {
    if (Status access = CheckAccess(serve::ApiGroup::kInference); !access)
      return Finish(std::move(access));
    AllowCompression();
  }

 private:
  void OnRequest(std::shared_ptr<ReceivedMessage> message) override {
    auto request = inference_.Prepare(core_, *this, std::move(message));
    if (!request) return Finish(Fail(std::move(request).error()));
    inference_.Submit(
        std::move(*request),
        [self = std::static_pointer_cast<ModelInferCall>(shared_from_this())](
            Result<serve::InferResponse> response) { self->OnAnswer(std::move(response)); });
  }
  // On any thread.
  void OnAnswer(Result<serve::InferResponse> response) {
    OnLoop(
        [this, reply = inference_.Write(core_, std::move(response), reply_encoding())]() mutable {
          Reply(std::move(reply));
        });
  }
  void OnSent() override { inference_.Sent(); }

  Inference inference_{ReplyForm::kUnary};
};

// A method of the table.
class MethodCall final : public UnaryCall {
 public:
  MethodCall(Core& core, H2Connection& connection, int32_t stream_id, CallHead head,
             const Method& method)
      : UnaryCall(core, connection, stream_id, std::move(head), MessageReader::Form::kSmall),
        method_(method) {}

  void Start() override {
    if (Status access = CheckAccess(method_.group); !access) Finish(std::move(access));
  }

 private:
  void OnRequest(std::shared_ptr<ReceivedMessage> message) override {
    NoteRequest(message->bytes());
    method_.handle(core_.service, message->Flat(),
                   [self = std::static_pointer_cast<MethodCall>(shared_from_this())](
                       Result<std::string> reply) { self->OnAnswer(std::move(reply)); });
  }
  // On any thread.
  void OnAnswer(Result<std::string> reply) {
    OnLoop([this, framed = Frame(std::move(reply))]() mutable { Reply(std::move(framed)); });
  }
  Result<Message> Frame(Result<std::string> reply) {
    Message message(1);
    message[0].text = TRY(std::move(reply));
    return FrameMessage(std::move(message), Encoding::kIdentity, core_.options);
  }

  const Method& method_;
};

// A call that is refused.
class RefusedCall final : public UnaryCall {
 public:
  RefusedCall(Core& core, H2Connection& connection, int32_t stream_id, CallHead head, Error error)
      : UnaryCall(core, connection, stream_id, std::move(head), MessageReader::Form::kSmall),
        error_(std::move(error)) {}
  void Start() override { Finish(Fail(std::move(error_))); }

 private:
  void OnRequest(std::shared_ptr<ReceivedMessage>) override {}
  Error error_;
};

// Health is told to the end.
bool IsHealth(std::string_view path) {
  const Method* const method = FindMethod(path);
  return method && method->group == serve::ApiGroup::kHealth;
}

Status Admit(const Core& core, const H2Connection& connection, const CallHead& head) {
  if (head.bytes > kMaxMetadataBytes)
    return Fail(Code::kResourceExhausted, "received metadata size exceeds limit ({} vs. {})",
                head.bytes, kMaxMetadataBytes);
  if (head.bad_timeout) return Fail(Code::kInternal, "cannot read grpc-timeout");
  if (head.encoding == Encoding::kUnknown)
    return Fail(Code::kUnimplemented, "Unsupported compression type; supported are {}",
                kAcceptedEncodings);
  if (connection.worker()->draining && !IsHealth(head.path))
    return Fail(Code::kUnavailable, "Server is stopping");
  if (core.calls.load(std::memory_order_relaxed) >= core.options.max_inflight_calls)
    return Fail(Code::kResourceExhausted, "more than {} calls are in progress: try again later",
                core.options.max_inflight_calls);
  return {};
}

}  // namespace

std::shared_ptr<Call> MakeCall(Core& core, H2Connection& connection, int32_t stream_id,
                               CallHead head) {
  if (Status admitted = Admit(core, connection, head); !admitted)
    return std::make_shared<RefusedCall>(core, connection, stream_id, std::move(head),
                                         std::move(admitted).error());
  if (head.path == kInferPath)
    return std::make_shared<ModelInferCall>(core, connection, stream_id, std::move(head),
                                            MessageReader::Form::kInfer);
  if (head.path == kStreamPath) return MakeStreamCall(core, connection, stream_id, std::move(head));
  if (head.path == kWatchPath) return MakeWatchCall(core, connection, stream_id, std::move(head));
  if (const Method* method = FindMethod(head.path))
    return std::make_shared<MethodCall>(core, connection, stream_id, std::move(head), *method);
  Error unknown{Code::kUnimplemented, fmt::format("unknown method {}", head.path)};
  return std::make_shared<RefusedCall>(core, connection, stream_id, std::move(head),
                                       std::move(unknown));
}

}  // namespace dunlin::grpc
