// Calls with one message each way.
#include <array>
#include <atomic>

#include "grpc/call.h"
#include "grpc/infer_call.h"
#include "grpc/methods.h"

namespace dunlin::grpc {
namespace {

class UnaryCall : public Call {
 public:
  using Call::Call;

 protected:
  enum class Close : bool { kWatched, kUnwatched };
  // The whole answer in one batch. `close`: whether WatchClose was called.
  void Finish(Result<Message> reply, Close close, Compression level = Compression::kNone) {
    std::array<grpc_op, 4> ops;
    size_t n = 0;
    ops[n++] = InitialMetadataOp(level);
    if (reply) ops[n++] = MessageOp(std::move(*reply));
    ops[n++] = StatusOp(reply ? Status() : Fail(std::move(reply).error()));
    if (close == Close::kUnwatched) ops[n++] = CloseOp();
    Begin(finished_, {ops.data(), n}, &UnaryCall::OnFinished);
  }
  virtual void OnFinished(bool) { ReleaseMessage(); }

 private:
  Step finished_;
};

class ModelInferCall : public UnaryCall {
 public:
  using UnaryCall::UnaryCall;

  void Start() {
    auto request = Prepare();
    if (!request) return Finish(Fail(std::move(request).error()), Close::kUnwatched);
    inference_.Submit(
        std::move(*request),
        [self = std::static_pointer_cast<ModelInferCall>(shared_from_this())](
            Result<serve::InferResponse> response) { self->Answered(std::move(response)); });
    // A model that ran in place has answered: then one batch does for everything, and nobody
    // watches whether the client goes.
    if (state_.exchange(State::kSubmitted) == State::kAnswered)
      FinishInfer(Close::kUnwatched);
    else
      WatchClose();
  }

 private:
  enum class State : uint8_t { kNew, kSubmitted, kAnswered };

  Result<serve::InferRequest> Prepare() {
    TRY(CheckAccess(serve::ApiGroup::kInference));
    return inference_.Prepare(core_, *this, std::exchange(accepted_.payload, nullptr));
  }
  void Answered(Result<serve::InferResponse> response) {
    reply_ = inference_.Write(std::move(response));
    if (state_.exchange(State::kAnswered) == State::kSubmitted) FinishInfer(Close::kWatched);
  }
  void FinishInfer(Close close) {
    Finish(std::move(reply_), close, core_.options.response_compression);
  }
  void OnFinished(bool ok) override {
    UnaryCall::OnFinished(ok);
    inference_.Sent();
  }

  Inference inference_{ReplyForm::kUnary};
  Result<Message> reply_;
  std::atomic<State> state_{State::kNew};
};

// A method of the table.
class MethodCall : public UnaryCall {
 public:
  MethodCall(Core& core, AcceptedCall accepted, const Method& method)
      : UnaryCall(core, std::move(accepted), method.path), method_(method) {}

  void Start() {
    if (const Status access = CheckAccess(method_.group); !access)
      return Finish(Fail(access.error()), Close::kUnwatched);
    WatchClose();
    grpc_op op{};
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &accepted_.payload;
    Begin(received_, {&op, 1}, &MethodCall::OnReceived);
  }

 private:
  void OnReceived(bool ok) {
    if (!ok || !accepted_.payload)
      return Finish(Fail(Code::kInvalidArgument, "the call ended before its message"),
                    Close::kWatched);
    auto message = ReceivedMessage::Take(core_, std::exchange(accepted_.payload, nullptr));
    if (!message) return Finish(Fail(std::move(message).error()), Close::kWatched);
    NoteRequest((*message)->bytes());
    method_.handle(core_.service, (*message)->Flat(),
                   [self = std::static_pointer_cast<MethodCall>(shared_from_this())](
                       Result<std::string> reply) { self->Answer(std::move(reply)); });
  }
  void Answer(Result<std::string> reply) {
    if (!reply) return Finish(Fail(std::move(reply).error()), Close::kWatched);
    Message message(1);
    message[0].text = std::move(*reply);
    Finish(std::move(message), Close::kWatched);
  }

  const Method& method_;
  Step received_;
};

// A call that is refused.
class RefusedCall : public UnaryCall {
 public:
  using UnaryCall::UnaryCall;
  void Start(Error error) { Finish(Fail(std::move(error)), Close::kUnwatched); }
};

void Refuse(Core& core, AcceptedCall accepted, std::string_view path, Error error) {
  std::make_shared<RefusedCall>(core, std::move(accepted), path)->Start(std::move(error));
}

// Health is told to the end.
bool IsHealth(std::string_view path) {
  const Method* const method = FindMethod(path);
  return method && method->group == serve::ApiGroup::kHealth;
}

bool Admit(Core& core, AcceptedCall& accepted, std::string_view path) {
  if (core.draining.load(std::memory_order_relaxed) && !IsHealth(path)) {
    Refuse(core, std::move(accepted), path, {Code::kUnavailable, "Server is stopping"});
    return false;
  }
  if (core.calls.load(std::memory_order_relaxed) >= core.options.max_inflight_calls) {
    Refuse(core, std::move(accepted), path,
           {Code::kResourceExhausted,
            fmt::format("more than {} calls are in progress: try again later",
                        core.options.max_inflight_calls)});
    return false;
  }
  return true;
}

}  // namespace

void StartInfer(Core& core, AcceptedCall accepted) {
  if (!Admit(core, accepted, kInferPath)) return;
  if (!accepted.payload)
    return Refuse(core, std::move(accepted), kInferPath,
                  {Code::kInvalidArgument, "the call ended before its message"});
  std::make_shared<ModelInferCall>(core, std::move(accepted), kInferPath)->Start();
}

void StartUnary(Core& core, AcceptedCall accepted, std::string_view path) {
  if (!Admit(core, accepted, path)) return;
  if (path == kStreamPath) return StartStream(core, std::move(accepted), path);
  if (path == kWatchPath) return StartWatch(core, std::move(accepted), path);
  if (const Method* method = FindMethod(path))
    return std::make_shared<MethodCall>(core, std::move(accepted), *method)->Start();
  Refuse(core, std::move(accepted), path,
         {Code::kUnimplemented, fmt::format("unknown method {}", path)});
}

}  // namespace dunlin::grpc
