// ModelStreamInfer: many requests and replies over one call, in any number at a time.
#include <array>
#include <deque>

#include "grpc/call.h"
#include "grpc/infer_call.h"
#include "grpc/methods.h"

namespace dunlin::grpc {
namespace {

// A stream is read on only while fewer requests than this are with the models or wait to be
// written, so that a client that does not read what it asked for takes no more memory.
constexpr size_t kMaxOnStream = 256;
constexpr size_t kMaxReplyBytes = size_t{16} << 20;

class StreamCall : public Call {
 public:
  using Call::Call;

  void Start() {
    WatchClose();
    Status access = CheckAccess(serve::ApiGroup::kInference);
    ends_on_error_ = Header("triton_grpc_error") == "true";
    std::unique_lock lock(mutex_);
    if (!access) {
      end_ = std::move(access);
      stopped_ = true;
    } else {
      core_.AddLasting(shared_from_this());
      Read();
    }
    writing_ = true;
    const grpc_op op = InitialMetadataOp(core_.options.response_compression);
    Begin(written_, {&op, 1}, &StreamCall::OnWritten);
  }

  void OnNotify() override {
    if (!core_.draining.load()) return;
    const std::lock_guard lock(mutex_);
    Stop({Code::kUnavailable, "Server is stopping"});
    Proceed();
  }

 private:
  struct Request {
    explicit Request(std::shared_ptr<StreamCall> c) : call(std::move(c)) {}
    std::shared_ptr<StreamCall> call;
    Inference inference{ReplyForm::kStream};
  };

  // --- under mutex_ ---

  void Stop(Error error) {
    if (stopped_) return;
    stopped_ = true;
    end_ = Fail(std::move(error));
  }
  void Read() {
    reading_ = true;
    grpc_op op{};
    op.op = GRPC_OP_RECV_MESSAGE;
    op.data.recv_message.recv_message = &received_;
    Begin(read_, {&op, 1}, &StreamCall::OnRead);
  }
  // Whatever can begin now.
  void Proceed() {
    if (ended_) return;
    if (!writing_ && !replies_.empty()) {
      writing_ = true;
      reply_bytes_ -= MessageBytes(replies_.front());
      grpc_op op = MessageOp(std::move(replies_.front()));
      replies_.pop_front();
      if (!replies_.empty()) op.flags = GRPC_WRITE_BUFFER_HINT;  // more follows at once
      Begin(written_, {&op, 1}, &StreamCall::OnWritten);
    }
    if (!reading_ && !stopped_ && running_ + replies_.size() < kMaxOnStream &&
        reply_bytes_ < kMaxReplyBytes)
      Read();
    if (stopped_ && running_ == 0 && replies_.empty() && !writing_) {
      ended_ = true;
      const grpc_op op = StatusOp(end_);
      Begin(end_step_, {&op, 1}, &StreamCall::OnEnded);
    }
  }

  // --- steps ---

  void OnRead(bool ok) {
    std::unique_lock lock(mutex_);
    reading_ = false;
    if (!ok || !received_) {  // the client has said all
      stopped_ = true;
      return Proceed();
    }
    grpc_byte_buffer* const buffer = std::exchange(received_, nullptr);
    if (stopped_) return grpc_byte_buffer_destroy(buffer);
    ++running_;
    lock.unlock();
    auto request =
        std::make_shared<Request>(std::static_pointer_cast<StreamCall>(shared_from_this()));
    auto infer = request->inference.Prepare(core_, *this, buffer);
    if (!infer) {
      Answer(*request, Fail(std::move(infer).error()));
    } else {
      request->inference.Submit(std::move(*infer),
                                [request](Result<serve::InferResponse> response) {
                                  request->call->Answer(*request, std::move(response));
                                });
    }
    lock.lock();
    Proceed();
  }
  void Answer(Request& request, Result<serve::InferResponse> response) {
    auto reply = request.inference.Write(std::move(response));
    const std::lock_guard lock(mutex_);
    --running_;
    if (!reply && ends_on_error_) {
      Stop(std::move(reply).error());
    } else if (!stopped_on_cancel_) {
      replies_.push_back(reply ? std::move(*reply)
                               : WriteStreamError(reply.error().message, request.inference.id()));
      reply_bytes_ += MessageBytes(replies_.back());
    }
    request.inference.Sent();
    Proceed();
  }
  void OnWritten(bool ok) {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    ReleaseMessage();
    if (!ok) Drop();
    Proceed();
  }
  void OnEnded(bool) {}
  void OnCancelled() override {
    const std::lock_guard lock(mutex_);
    Drop();
    Proceed();
  }
  // Nobody reads replies any more.
  void Drop() {
    Stop({Code::kCancelled, "cancelled by the client"});
    stopped_on_cancel_ = true;
    replies_.clear();
    reply_bytes_ = 0;
  }

  bool ends_on_error_ = false;
  std::mutex mutex_;
  grpc_byte_buffer* received_ = nullptr;
  bool reading_ = false;
  bool writing_ = false;
  bool stopped_ = false;  // nothing more is read; the call ends when all is answered
  bool stopped_on_cancel_ = false;
  bool ended_ = false;
  size_t running_ = 0;
  std::deque<Message> replies_;
  size_t reply_bytes_ = 0;
  Status end_;
  Step read_, written_, end_step_;
};

// The health service's Watch: the state now, and every change of it.
class WatchCall : public Call {
 public:
  using Call::Call;

  void Start() {
    WatchClose();
    const std::lock_guard lock(mutex_);
    std::array<grpc_op, 2> ops{InitialMetadataOp(Compression::kNone), {}};
    ops[1].op = GRPC_OP_RECV_MESSAGE;
    ops[1].data.recv_message.recv_message = &accepted_.payload;
    writing_ = true;
    Begin(step_, ops, &WatchCall::OnReceived);
  }
  void OnNotify() override {
    const std::lock_guard lock(mutex_);
    Proceed();
  }

 private:
  void OnReceived(bool ok) {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    Result<std::string> service;
    Status state = CheckAccess(serve::ApiGroup::kHealth);
    if (!ok || !accepted_.payload)
      state = Fail(Code::kInvalidArgument, "the call ended before its message");
    if (state) {
      auto message = ReceivedMessage::Take(core_, std::exchange(accepted_.payload, nullptr));
      auto name = message ? ParseHealthRequest((*message)->Flat())
                          : Result<std::string>(Fail(message.error()));
      if (name)
        service_ = *name;
      else
        state = Fail(name.error());
    }
    if (!state) return End(state);
    core_.AddLasting(shared_from_this());
    core_.watched.store(true);
    Proceed();
  }
  void Proceed() {
    if (writing_ || ended_) return;
    if (cancelled()) return End(Fail(Code::kCancelled, "cancelled by the client"));
    const auto serving = IsServing(core_.service, service_);
    const int state = serving ? int(*serving) : -1;
    if (state != sent_) {
      sent_ = state;
      writing_ = true;
      Message message(1);
      message[0].text = serving ? HealthReply(*serving) : UnknownServiceReply();
      const grpc_op op = MessageOp(std::move(message));
      Begin(step_, {&op, 1}, &WatchCall::OnWritten);
    } else if (core_.draining.load()) {
      End(Fail(Code::kUnavailable, "Server is stopping"));
    }
  }
  void OnWritten(bool) {
    const std::lock_guard lock(mutex_);
    writing_ = false;
    ReleaseMessage();
    Proceed();
  }
  void OnCancelled() override { OnNotify(); }
  void End(const Status& status) {
    ended_ = true;
    const grpc_op op = StatusOp(status);
    Begin(step_, {&op, 1}, &WatchCall::OnEnded);
  }
  void OnEnded(bool) {}

  std::mutex mutex_;
  std::string service_;
  int sent_ = -2;  // 0 not serving, 1 serving, -1 unknown
  bool writing_ = false;
  bool ended_ = false;
  Step step_;
};

}  // namespace

void StartStream(Core& core, AcceptedCall accepted, std::string_view path) {
  std::make_shared<StreamCall>(core, std::move(accepted), path)->Start();
}

void StartWatch(Core& core, AcceptedCall accepted, std::string_view path) {
  std::make_shared<WatchCall>(core, std::move(accepted), path)->Start();
}

}  // namespace dunlin::grpc
