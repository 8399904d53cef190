// ModelStreamInfer: many requests and replies over one call, in any number at a time. And the
// health service's Watch.
#include "grpc/call.h"
#include "grpc/infer_call.h"
#include "grpc/methods.h"

namespace dunlin::grpc {
namespace {

// A stream is read on only while fewer requests than this are with the models, and fewer bytes wait
// to be sent, so that a client that does not read what it asked for takes no more memory.
constexpr size_t kMaxOnStream = 256;
constexpr size_t kMaxReplyBytes = size_t{16} << 20;

class StreamCall final : public Call {
 public:
  StreamCall(Core& core, H2Connection& connection, int32_t stream_id, CallHead head)
      : Call(core, connection, stream_id, std::move(head), MessageReader::Form::kInfer) {}

  void Start() override {
    if (Status access = CheckAccess(serve::ApiGroup::kInference); !access)
      return Finish(std::move(access));
    ends_on_error_ = Header("triton_grpc_error") == "true";
    AllowCompression();
    SendHeaders();
  }

 private:
  struct Request {
    explicit Request(std::shared_ptr<StreamCall> c) : call(std::move(c)) {}
    std::shared_ptr<StreamCall> call;
    Inference inference{ReplyForm::kStream};
  };

  bool Paused() const override { return running_ >= kMaxOnStream || waiting() >= kMaxReplyBytes; }
  void OnMessage(std::shared_ptr<ReceivedMessage> message) override {
    if (stopped_) return;
    ++running_;
    const auto request =
        std::make_shared<Request>(std::static_pointer_cast<StreamCall>(shared_from_this()));
    auto infer = request->inference.Prepare(core_, *this, std::move(message));
    if (!infer) return OnAnswer(request, Fail(std::move(infer).error()));
    request->inference.Submit(std::move(*infer), [request](Result<serve::InferResponse> response) {
      request->call->OnAnswer(request, std::move(response));
    });
  }
  // On any thread.
  void OnAnswer(const std::shared_ptr<Request>& request, Result<serve::InferResponse> response) {
    auto reply = request->inference.Write(core_, std::move(response), reply_encoding());
    Status failed;
    if (!reply && ends_on_error_) {
      failed = Fail(std::move(reply).error());
    } else if (!reply) {
      reply = FrameMessage(WriteStreamError(reply.error().message, request->inference.id()),
                           Encoding::kIdentity, core_.options);
    }
    request->inference.Sent();
    OnLoop([this, failed = std::move(failed), r = std::move(reply)]() mutable {
      --running_;
      if (!failed)
        Stop(std::move(failed));
      else if (r)
        Send(std::move(*r));
      Proceed();
    });
  }
  void OnHalfClosed() override {
    Stop({});
    Proceed();
  }
  void OnCancelled() override { stopped_ = true; }
  void OnTick() override {
    if (draining()) Stop(Fail(Code::kUnavailable, "Server is stopping"));
    Proceed();
  }

  // Nothing more is read; the call ends when all is answered.
  void Stop(Status status) {
    if (std::exchange(stopped_, true)) return;
    end_ = std::move(status);
  }
  void Proceed() {
    if (stopped_ && running_ == 0) return Finish(end_);
    ResumeInput();
  }

  bool ends_on_error_ = false;
  bool stopped_ = false;
  size_t running_ = 0;  // requests with the models
  Status end_;
};

// The state now, and every change of it.
class WatchCall final : public Call {
 public:
  WatchCall(Core& core, H2Connection& connection, int32_t stream_id, CallHead head)
      : Call(core, connection, stream_id, std::move(head), MessageReader::Form::kSmall) {}

  void Start() override {
    if (Status access = CheckAccess(serve::ApiGroup::kHealth); !access) Finish(std::move(access));
  }

 private:
  void OnMessage(std::shared_ptr<ReceivedMessage> message) override {
    if (std::exchange(asked_, true)) return;
    auto name = ParseHealthRequest(message->Flat());
    if (!name) return Finish(Fail(std::move(name).error()));
    service_ = std::move(*name);
    OnTick();
  }
  void OnHalfClosed() override {
    if (!asked_) Finish(Fail(Code::kInvalidArgument, "the call ended before its message"));
  }
  void OnTick() override {
    if (!asked_ || waiting() > 0) return;
    const auto serving = IsServing(core_.service, service_);
    const int state = serving ? int(*serving) : -1;
    if (state != std::exchange(sent_, state)) {
      Message message(1);
      message[0].text = serving ? HealthReply(*serving) : UnknownServiceReply();
      if (auto framed = FrameMessage(std::move(message), Encoding::kIdentity, core_.options))
        Send(std::move(*framed));
    } else if (draining()) {
      Finish(Fail(Code::kUnavailable, "Server is stopping"));
    }
  }

  bool asked_ = false;
  std::string service_;
  int sent_ = -2;  // 0 not serving, 1 serving, -1 unknown
};

}  // namespace

std::shared_ptr<Call> MakeStreamCall(Core& core, H2Connection& connection, int32_t stream_id,
                                     CallHead head) {
  return std::make_shared<StreamCall>(core, connection, stream_id, std::move(head));
}

std::shared_ptr<Call> MakeWatchCall(Core& core, H2Connection& connection, int32_t stream_id,
                                    CallHead head) {
  return std::make_shared<WatchCall>(core, connection, stream_id, std::move(head));
}

}  // namespace dunlin::grpc
