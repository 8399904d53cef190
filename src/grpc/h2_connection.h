// H2Connection: one client's HTTP/2 connection: frames to calls and back. nghttp2 does the framing,
// header compression and flow control; sockets and threads are those of src/net. Private to the
// server; lives on its worker's thread.
//
// Nothing is sent from where it arises: who has something to send marks the connection, and at the
// end of the loop's round all of it leaves in as few writes as possible.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "grpc/call.h"
#include "net/out_queue.h"
#include "net/stream.h"
#include "net/worker.h"

struct nghttp2_session;
struct nghttp2_session_callbacks;
struct nghttp2_option;

namespace dunlin::grpc {

// Of a call's headers, as HTTP/2 counts them.
inline constexpr size_t kMaxMetadataBytes = 16 << 10;

class H2Connection;

struct H2Worker final : net::Worker {
  H2Worker(Place place, Core& c);
  ~H2Worker() override;
  bool Round() override;
  void FlushMarked();

  Core& core;
  // The same for all sessions.
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_option* session_options = nullptr;
  const std::unique_ptr<char[]> scratch;  // a socket is read into it
  std::vector<H2Connection*> marked;      // have something to send

 private:
  std::unique_ptr<net::Connection> Accept(int fd, bool refuse) override;
};

class H2Connection final : public net::Connection {
 public:
  H2Connection(H2Worker& worker, int fd, bool refuse);
  ~H2Connection() override;
  H2Connection(const H2Connection&) = delete;
  H2Connection& operator=(const H2Connection&) = delete;

  Status Start() override;
  void OnEvents(uint32_t events) override;
  void LeaveSoon(Clock::time_point now) override;
  void CheckDeadline(Clock::time_point now) override;
  void Close() override;
  void FlushMarked();

  // --- for calls ---
  std::shared_ptr<net::Worker> worker() const { return worker_.shared_from_this(); }
  // The call has something to send.
  void Submit(Call& call);
  // The client may send as many bytes more.
  void Consume(int32_t stream_id, size_t bytes);
  void Reset(int32_t stream_id);
  std::string_view peer() const { return peer_; }
  std::string_view PeerIdentity();

 private:
  friend struct H2Callbacks;  // what nghttp2 calls
  enum class Phase : uint8_t { kOpen, kLingering, kClosed };

  const ServerOptions& options() const { return worker_.core.options; }
  bool OpenSession();
  void ReadInput();
  std::span<char> InputPlace() const;
  bool Receive(const char* data, size_t bytes);
  void Discard();
  void Mark();
  void Flush();
  void HangUp(std::string_view why);
  void Interest(uint32_t events);
  void Linger();
  void CheckKeepalive(Clock::time_point now);
  void CheckAge(Clock::time_point now);
  void SubmitEnd(const Call& call);

  // --- from nghttp2 ---
  void OnHeadersDone(int32_t stream_id);
  void OnSettings();
  void OnPing();
  void OnSentFrame(bool is_headers_or_data);

  H2Worker& worker_;
  net::Stream stream_;
  nghttp2_session* session_ = nullptr;
  Phase phase_ = Phase::kOpen;
  const bool refuse_;
  bool blocked_ = false;  // the socket takes no more for now
  bool marked_ = false;
  bool greeted_ = false;       // its settings have come
  bool hangs_up_ = false;      // as soon as all is sent
  bool leaving_ = false;       // the client has been told to go
  bool said_goodbye_ = false;  // and which of its calls are the last
  uint32_t interest_ = 0;
  net::OutQueue out_;
  std::vector<std::shared_ptr<Call>> calls_;
  std::vector<std::shared_ptr<Call>> resumable_;  // had no room to read on, and may have it now
  CallHead head_;                                 // arrives
  // Of the frame that arrives; first comes the client's preface.
  size_t frame_left_ = 24;
  int32_t frame_stream_ = 0;
  bool in_data_ = false;     // a DATA frame without padding
  int32_t last_stream_ = 0;  // that the client began
  char carry_[12];           // the beginning of the next frame's head
  size_t carried_ = 0;
  std::string peer_;
  std::optional<std::string> identity_;  // of the client's certificate, once it was asked for

  const Clock::time_point accepted_;
  Clock::time_point deadline_;  // of the handshake, of a blocked write, of lingering
  Clock::time_point received_;  // last
  Clock::time_point leave_at_ = Clock::time_point::max();  // the last calls are named
  Clock::time_point end_at_ = Clock::time_point::max();    // whatever goes on
  // Our keep-alive.
  Clock::time_point ping_sent_{};  // waits for anything to come back; 0: none
  int pings_without_data_ = 0;
  // The client's.
  Clock::time_point last_ping_{};  // 0: none since we sent something
  int ping_strikes_ = 0;
};

}  // namespace dunlin::grpc
