// Connection: one client's HTTP/1.1 connection, from bytes to Request and from Reply to bytes.
// Private to the listener; lives on its worker's thread.
//
// One request at a time is with the handler; what the client sends meanwhile waits, first in our
// buffer, then in the socket's. A reply that comes during the handler's call is written from here,
// and replies to requests that arrived together leave together.
#pragma once

#include <atomic>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "http/message.h"
#include "http/worker.h"
#include "net/body.h"
#include "net/out_queue.h"
#include "net/stream.h"

namespace dunlin::http {

using net::EventLoop, net::Stream;

class Connection;

// A request on its way through the handler: where its reply goes, from whatever thread. Used again
// for the connection's next request once nobody else holds it.
class Exchange : public std::enable_shared_from_this<Exchange> {
 public:
  explicit Exchange(std::shared_ptr<Worker> worker) : worker_(std::move(worker)) {}
  void Send(Reply reply);

  std::atomic<bool> cancelled{false};
  // On the loop's thread only.
  Connection* connection = nullptr;  // null once it has gone or the reply has come
  std::optional<Reply> at_once;      // came while the handler ran

 private:
  const std::shared_ptr<Worker> worker_;
};

class Connection final : public net::Connection {
 public:
  Connection(Worker& worker, int fd, bool refuse);
  ~Connection() override;
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Status Start() override;
  void OnEvents(uint32_t events) override;
  // Whoever does not begin a request soon has none.
  void LeaveSoon(Clock::time_point now) override;
  void CheckDeadline(Clock::time_point now) override;
  void Close() override;
  void OnReply(Reply reply);

 private:
  // Up to kBody: a request is being read.
  enum class Phase : uint8_t { kIdle, kHead, kBody, kHandling, kLingering, kClosed };
  class Parser;

  const ListenerOptions& options() const { return worker_.options; }
  bool Logging() const;
  bool Reading() const { return phase_ <= Phase::kBody && !blocked_ && !ending_; }
  void ReadInput();
  void ReadBody();
  // Each returns what of `data` it has used; 0: more is needed.
  size_t Consume(std::string_view data);
  size_t ConsumeHead(std::string_view data);
  size_t ConsumeBody(std::string_view data);
  void KeepHead(const Parser& parsed, std::string_view bytes);
  size_t BeginRequest(std::string_view data);
  bool CheckHead(const Head& head);
  Status BeginBody(const Head& head);
  void FinishBody();
  void Handle();
  // What waits in pending_, and then the socket.
  void Resume();
  void OnInputWhileHandling(uint32_t events);

  void QueueReply(const Reply& reply);
  void LogAccess(const Reply& reply);
  void Refuse(int status, std::string_view message);
  void Refuse(const Error& error);
  void RefuseParse(const Parser& parser);
  void RefuseSize(std::optional<uint64_t> length);
  void Flush();
  void Linger();
  void Discard();
  void Interest(uint32_t events);
  void SetDeadline();

  Worker& worker_;
  Stream stream_;
  Phase phase_ = Phase::kIdle;
  const bool refuse_;
  const Clock::time_point accepted_;
  std::optional<std::string> identity_;  // of the client's certificate, once it was asked for
  bool keep_alive_ = true;
  bool old_client_ = false;   // HTTP/1.0
  bool head_only_ = false;    // HEAD
  bool blocked_ = false;      // the socket takes no more for now
  bool ending_ = false;       // the last reply is queued
  bool after_large_ = false;  // the last request had a large body
  uint32_t interest_ = 0;
  std::string pending_;              // received, not used yet
  size_t searched_ = 0, tried_ = 0;  // of a head in pieces: see ConsumeHead
  std::string head_;                 // while its body arrives
  std::shared_ptr<net::Body> body_;  // while it arrives
  size_t body_left_ = 0;             // of a body of known length
  std::unique_ptr<Parser> chunks_;   // of a body in chunks
  std::shared_ptr<Exchange> exchange_;
  int64_t leased_ = 0;  // for a body without memory of its own, while it is handled
  net::OutQueue out_;
  std::vector<std::shared_ptr<serve::Trace>> sending_;  // of replies that are in out_
  // For the access log, empty without one.
  std::string peer_, method_, path_;
  int64_t body_bytes_ = 0;
  Clock::time_point request_start_{};
  Clock::time_point deadline_ = Clock::time_point::max();
  int64_t received_ = 0;  // of this request
  size_t linger_left_ = 0;
};

}  // namespace dunlin::http
