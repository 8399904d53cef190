// One call of a client: what all kinds of calls need of it. Everything happens on the thread of the
// connection's loop, but for the answers of models, which come from anywhere. A call object goes
// when neither its connection nor a model has it.
#pragma once

#include <atomic>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "grpc/infer_write.h"
#include "grpc/metadata.h"
#include "grpc/received_message.h"
#include "grpc/server.h"
#include "net/out_queue.h"
#include "net/worker.h"
#include "serve/service.h"

namespace dunlin::grpc {

class H2Connection;

// What calls share.
struct Core {
  Core(const serve::Service& s, const ServerOptions& o)
      : service(s), options(o), budget(std::make_shared<net::Budget>(o.max_inflight_size)) {}

  const serve::Service& service;
  const ServerOptions options;
  const std::shared_ptr<net::Budget> budget;  // of messages received

  // Calls that exist. The destructor of the server waits until there are none.
  std::atomic<int> calls{0};
  std::mutex mutex;
  std::condition_variable none_left;
};

// A message as it goes on the wire: length prefix, compressed if that is wanted and makes it
// smaller. kResourceExhausted beyond the limit.
Result<Message> FrameMessage(Message message, Encoding encoding, const ServerOptions& options);

class Call : public std::enable_shared_from_this<Call> {
 public:
  using Clock = net::EventLoop::Clock;
  Call(Core& core, H2Connection& connection, int32_t stream_id, CallHead head,
       MessageReader::Form form);
  virtual ~Call();
  Call(const Call&) = delete;
  Call& operator=(const Call&) = delete;

  // --- from the connection ---
  virtual void Start() {}
  // Bytes of the client's messages. The call gives them back to flow control.
  void OnData(std::string_view data);
  // Where the next of them may be put beforehand; empty: nowhere.
  std::span<char> InputPlace() const;
  // The client has said all.
  void OnEndOfInput();
  // The stream is closed, by either side or with its connection; nothing more can be sent.
  void OnClosed();
  // Perhaps it is not paused any more.
  void ResumeInput();
  bool has_input() const { return !input_.empty(); }
  // Comes ten times a second, and when draining begins.
  void CheckDeadline(Clock::time_point now);

  int32_t stream_id() const { return stream_id_; }
  size_t index = 0;        // in the connection's list
  bool submitted = false;  // its answer has begun
  bool deferred = false;   // the transport waits for more of it
  // What is to be sent: bytes that wait, then, once `ended`, the status.
  size_t waiting() const { return waiting_; }
  bool ended() const { return ended_; }
  const Status& status() const { return status_; }
  Encoding reply_encoding() const { return reply_encoding_; }
  bool only_status() const { return ended_ && !has_headers_ && waiting_ == 0; }
  void MoveTo(net::OutQueue& out, size_t bytes);

  // --- for a request of this call ---
  std::string_view Header(std::string_view name) const { return head_.metadata.Get(name); }
  void ForwardHeaders(serve::InferRequest& request) const;
  Status CheckAccess(serve::ApiGroup group) const;
  serve::TimePoint Deadline() const { return deadline_; }
  // For the access log.
  void NoteRequest(size_t bytes, std::string_view model = {}, std::string_view id = {},
                   std::string trace_id = {});
  std::shared_ptr<std::atomic<bool>> CancelledFlag() { return {shared_from_this(), &cancelled_}; }
  bool cancelled() const { return cancelled_.load(std::memory_order_relaxed); }

 protected:
  virtual void OnMessage(std::shared_ptr<ReceivedMessage> message) = 0;
  virtual void OnHalfClosed() {}
  virtual void OnCancelled() {}
  virtual void OnSent() {}  // all of the answer has left, or never will
  virtual void OnTick() {}
  // Input waits while this is true.
  virtual bool Paused() const { return false; }

  // The answer's headers at once, as clients of streams expect; may be compressed.
  void SendHeaders();
  // A framed message; the status, after it. Nothing happens once the call is over.
  void Send(Message framed);
  void Finish(Status status);
  // Both, for calls with one answer.
  void Reply(Result<Message> framed);
  // Messages may be compressed from here on, as the client accepts it.
  void AllowCompression();
  bool over() const { return ended_ || !connection_; }
  bool draining() const;
  // Runs `f` on the loop's thread: now, if this is it.
  template <class F>
  void OnLoop(F&& f) {
    if (worker_->loop->IsLoopThread()) return f();
    worker_->loop->Post([self = shared_from_this(), g = std::forward<F>(f)]() mutable { g(); });
  }

  Core& core_;

 private:
  void Take(std::string_view data);  // as OnData, short of flow control
  bool TooSlow(Clock::time_point now) const;
  void Queue(Message framed);
  void Wake();
  void WriteAccessLog();

  const std::shared_ptr<net::Worker> worker_;
  H2Connection* connection_;  // null once the stream is closed
  const int32_t stream_id_;
  CallHead head_;
  const serve::TimePoint deadline_;
  MessageReader reader_;
  std::string input_;          // arrived while paused; counts against the budget
  Clock::time_point begun_{};  // a message that is not complete
  int64_t begun_bytes_ = 0;    // of it, arrived
  bool taking_ = false;        // messages are being handed out
  bool half_closed_ = false;   // the client has said all; told once input_ is empty
  bool told_half_closed_ = false;

  Encoding reply_encoding_ = Encoding::kIdentity;
  bool has_headers_ = false;
  Message out_;
  size_t out_front_ = 0, out_used_ = 0;  // parts that are gone; bytes of the next that are
  size_t waiting_ = 0;
  bool ended_ = false;
  Status status_;
  Clock::time_point progress_;  // of sending

  std::atomic<bool> cancelled_{false};

  // What the access log wants to know; kept only while it is on.
  struct Note {
    std::string model, id, trace_id;
    int64_t bytes_in = 0, bytes_out = 0;
    serve::TimePoint begun = serve::Clock::now();
  };
  std::unique_ptr<Note> note_;
};

// The call for a request's head; also of one that is refused.
std::shared_ptr<Call> MakeCall(Core& core, H2Connection& connection, int32_t stream_id,
                               CallHead head);
std::shared_ptr<Call> MakeStreamCall(Core& core, H2Connection& connection, int32_t stream_id,
                                     CallHead head);
std::shared_ptr<Call> MakeWatchCall(Core& core, H2Connection& connection, int32_t stream_id,
                                    CallHead head);

}  // namespace dunlin::grpc
