// One call of a client, over gRPC's C core: what all kinds of calls need of it. Included by the
// files that handle calls alone.
//
// A batch of operations is in progress while its Event is in the completion queue; until then it
// keeps the call alive. A call object goes when nothing is in progress and no model has it.
#pragma once

#include <grpc/grpc.h>

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "grpc/infer_write.h"
#include "grpc/server.h"
#include "serve/service.h"

namespace dunlin::grpc {

// What comes out of the completion queue.
class Event {
 public:
  virtual ~Event() = default;
  virtual void Run(bool ok) = 0;
};

class Call;

// What calls share.
struct Core {
  const serve::Service& service;
  const ServerOptions options;
  grpc_completion_queue* queue = nullptr;
  std::atomic<bool> draining{false};
  std::atomic<int64_t> inflight_bytes{0};

  // Calls that exist. The destructor of the server waits until there are none.
  std::atomic<int> calls{0};
  std::mutex mutex;
  std::condition_variable none_left;
  // Calls that do not end by themselves, to be told when something changes. Under `mutex`.
  std::vector<std::weak_ptr<Call>> lasting;
  std::atomic<bool> watched{false};  // some of them wait for changes of the server's health

  void AddLasting(const std::shared_ptr<Call>& call);
  void NotifyLasting();
};

// A call as the server hands it over. Owns what is in it.
struct AcceptedCall {
  AcceptedCall();
  ~AcceptedCall();
  AcceptedCall(AcceptedCall&& other) noexcept;
  AcceptedCall& operator=(AcceptedCall&&) = delete;

  grpc_call* call = nullptr;
  grpc_metadata_array metadata{};
  gpr_timespec deadline{};
  grpc_byte_buffer* payload = nullptr;  // only of calls whose message was read already
};

// The bytes of one message of a client. Readers and tensors point into it.
class ReceivedMessage {
 public:
  // Takes the buffer. Decompresses it, up to the largest message allowed. Errors:
  // kResourceExhausted, kInvalidArgument, kUnimplemented.
  static Result<std::shared_ptr<ReceivedMessage>> Take(const Core& core, grpc_byte_buffer* buffer);
  ~ReceivedMessage();
  std::span<const std::string_view> pieces() const { return pieces_; }
  size_t bytes() const;
  // All of it in one piece; for small messages.
  std::string Flat() const;

 private:
  explicit ReceivedMessage(grpc_byte_buffer* buffer) : buffer_(buffer) {}
  Status Inflate(size_t most);

  grpc_byte_buffer* const buffer_;
  std::string inflated_;
  std::vector<std::string_view> pieces_;
};

// A request's share of the memory that all of them may take.
class Lease {
 public:
  Lease() = default;
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  ~Lease();
  Status Take(Core& core, size_t bytes);  // kResourceExhausted; once

 private:
  Core* core_ = nullptr;
  int64_t bytes_ = 0;
};

// An owned byte buffer of our own, whose slices refer to large tensors.
grpc_byte_buffer* ToByteBuffer(Message message);

class Call : public std::enable_shared_from_this<Call> {
 public:
  Call(Core& core, AcceptedCall accepted, std::string_view path);
  virtual ~Call();
  // Something changed for calls that last: the server drains, or its health is to be looked at.
  virtual void OnNotify() {}

  std::string_view Header(std::string_view name) const;  // "" when there is none
  void ForwardHeaders(serve::InferRequest& request) const;
  Status CheckAccess(serve::ApiGroup group) const;
  serve::TimePoint Deadline() const;
  // For the access log.
  void NoteRequest(size_t bytes, std::string_view model = {}, std::string_view id = {},
                   std::string trace_id = {});
  // For a request of this call.
  std::shared_ptr<std::atomic<bool>> CancelledFlag() { return {shared_from_this(), &cancelled_}; }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 protected:
  // A batch in progress; `step` runs when it is over.
  class Step : public Event {
   public:
    using Function = void (Call::*)(bool ok);
    void Run(bool ok) override {
      const std::shared_ptr<Call> call = std::move(call_);  // may be the last to hold us
      (call.get()->*step_)(ok);
    }

   private:
    friend class Call;
    std::shared_ptr<Call> call_;
    Function step_ = nullptr;
  };
  template <class C>
  void Begin(Step& step, std::span<const grpc_op> ops, void (C::*then)(bool)) {
    BeginBatch(step, ops, static_cast<Step::Function>(then));
  }

  // Watches for the end of the call, which sets the flag when the client cancels it.
  void WatchClose() { Begin(closed_, std::array{CloseOp()}, &Call::OnClosed); }
  grpc_op CloseOp();
  grpc_op InitialMetadataOp(Compression level) const;
  grpc_op StatusOp(const Status& status);
  grpc_op MessageOp(Message message);
  void ReleaseMessage();
  virtual void OnCancelled() {}
  void OnClosed(bool ok);

  Core& core_;
  AcceptedCall accepted_;

 private:
  void BeginBatch(Step& step, std::span<const grpc_op> ops, Step::Function then);
  void WriteAccessLog();

  // What the access log wants to know; kept only while it is on.
  struct Note {
    std::mutex mutex;  // requests of a stream come from several threads
    std::string path, model, id, trace_id;
    std::atomic<int64_t> bytes_in{0}, bytes_out{0};
    int status = GRPC_STATUS_CANCELLED;  // until one is sent
    serve::TimePoint begun = serve::Clock::now();
  };
  std::unique_ptr<Note> note_;

  std::atomic<bool> cancelled_{false};
  int close_cancelled_ = 0;
  Step closed_;
  grpc_byte_buffer* sending_ = nullptr;
  grpc_slice details_{};
};

// Each takes a call from here on.
void StartInfer(Core& core, AcceptedCall accepted);  // with payload
void StartUnary(Core& core, AcceptedCall accepted, std::string_view path);
void StartStream(Core& core, AcceptedCall accepted, std::string_view path);
void StartWatch(Core& core, AcceptedCall accepted, std::string_view path);

}  // namespace dunlin::grpc
