#include "grpc/h2_connection.h"

#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <new>

#include "base/log.h"

namespace dunlin::grpc {
namespace {

// Read from a socket at a time, but for what goes straight to its place: so small that it is still
// in the cache when it is copied.
constexpr size_t kScratchBytes = 64 << 10;
// Less than this is not worth a system call's second buffer.
constexpr size_t kPlacedBytes = 4 << 10;
constexpr int kReadsPerTurn = 16;
// Beyond it, frames stay with their calls until the socket has taken what waits.
constexpr size_t kOutBytes = 1 << 20;
// A client's megabytes come without waiting for us: windows for a few messages of that size, and
// frames that need no reassembling.
constexpr int32_t kStreamWindow = 4 << 20;
constexpr int32_t kConnectionWindow = 16 << 20;
constexpr uint32_t kMaxFrame = 1 << 20;
// Calls that a client cancels, per second: each cost us work that nobody wants. Deadlines that pass
// under load are cancelled, too, so this is far from what a real client does.
constexpr uint64_t kResetBurst = 4000, kResetRate = 1000;
constexpr std::chrono::seconds kLingerTime{1};
constexpr std::chrono::seconds kWriteTimeout{30};
// Between the announcement that the connection ends and its last call: a round trip of the client,
// whose calls on their way are then still answered.
constexpr std::chrono::milliseconds kGoodbyeTime{100};
// Without calls a client may ping this often.
constexpr std::chrono::hours kIdlePingInterval{2};
// Clients take some 8 KB of metadata, and a byte may become three there.
constexpr size_t kMaxDetails = 2000;
constexpr size_t kFrameHeadBytes = 9, kResetBytes = 4;  // in HTTP/2

enum class Kept : uint8_t {
  kBoth = NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE,
  kName = NGHTTP2_NV_FLAG_NO_COPY_NAME,
};

// A header for nghttp2. `kept`: what is of static storage, so that it need not be copied.
nghttp2_nv Header(std::string_view name, std::string_view value, Kept kept = Kept::kBoth) {
  const auto bytes = [](std::string_view s) {
    return reinterpret_cast<uint8_t*>(const_cast<char*>(s.data()));
  };
  return {bytes(name), bytes(value), name.size(), value.size(), uint8_t(kept)};
}

// grpc-status and, with it, grpc-message.
class StatusHeaders {
 public:
  explicit StatusHeaders(const Status& status) : code_(status ? 0 : size_t(status.error().code)) {
    if (!status)
      message_ = PercentEncode(std::string_view(status.error().message).substr(0, kMaxDetails));
  }
  size_t Put(nghttp2_nv* out) const {
    static constexpr std::string_view kCodes[] = {"0", "1",  "2",  "3",  "4",  "5",  "6",  "7", "8",
                                                  "9", "10", "11", "12", "13", "14", "15", "16"};
    out[0] = Header("grpc-status", kCodes[std::min(code_, std::size(kCodes) - 1)]);
    if (message_.empty()) return 1;
    out[1] = Header("grpc-message", message_, Kept::kName);
    return 2;
  }

 private:
  const size_t code_;
  std::string message_;
};

}  // namespace

// --- What nghttp2 calls ------------------------------------------------------------------------

struct H2Callbacks {
  static H2Connection& Of(void* user) { return *static_cast<H2Connection*>(user); }
  static Call* CallOf(nghttp2_session* session, int32_t stream_id) {
    return static_cast<Call*>(nghttp2_session_get_stream_user_data(session, stream_id));
  }
  // No exception passes the library; without memory the connection ends.
  template <class F>
  static int Guard(F&& f) {
    try {
      f();
      return 0;
    } catch (const std::bad_alloc&) {
      log::Error("out of memory in an I/O thread");
      return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
  }

  static int OnBeginHeaders(nghttp2_session*, const nghttp2_frame* frame, void* user) {
    if (frame->headers.cat == NGHTTP2_HCAT_REQUEST) Of(user).head_ = {};
    return 0;
  }
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_bytes, const uint8_t* value, size_t value_bytes, uint8_t,
                      void* user) {
    if (frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;  // trailers say nothing to us
    return Guard([&] {
      H2Connection& c = Of(user);
      CallHead& head = c.head_;
      const auto text = [](const uint8_t* p, size_t n) {
        return std::string_view(reinterpret_cast<const char*>(p), n);
      };
      const std::string_view key = text(name, name_bytes);
      // Sent with every call, of interest to hardly any.
      if (key == "user-agent" && !c.options().header_forward.any()) return;
      if (head.bytes <= kMaxMetadataBytes) head.Add(key, text(value, value_bytes));
    });
  }
  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    H2Connection& c = Of(user);
    return Guard([&] {
      const uint8_t type = frame->hd.type;
      if (type == NGHTTP2_SETTINGS) return c.OnSettings();
      if (type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) return c.OnPing();
      if (type != NGHTTP2_HEADERS && type != NGHTTP2_DATA) return;
      if (type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST)
        c.OnHeadersDone(frame->hd.stream_id);
      if ((frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0) return;
      if (Call* call = CallOf(session, frame->hd.stream_id)) call->OnEndOfInput();
    });
  }
  static int OnData(nghttp2_session* session, uint8_t, int32_t stream_id, const uint8_t* data,
                    size_t bytes, void* user) {
    return Guard([&] {
      // The connection's window is for all calls: what one of them does not read holds up no other.
      nghttp2_session_consume_connection(session, bytes);
      if (Call* call = CallOf(session, stream_id))
        call->OnData({reinterpret_cast<const char*>(data), bytes});
      else
        Of(user).Consume(stream_id, bytes);
    });
  }
  static int OnStreamClose(nghttp2_session* session, int32_t stream_id, uint32_t, void* user) {
    H2Connection& c = Of(user);
    return Guard([&] {
      Call* const call = CallOf(session, stream_id);
      if (call == nullptr) return;
      const size_t i = call->index;
      const std::shared_ptr<Call> gone = std::move(c.calls_[i]);
      if (i + 1 < c.calls_.size()) {
        c.calls_[i] = std::move(c.calls_.back());
        c.calls_[i]->index = i;
      }
      c.calls_.pop_back();
      gone->OnClosed();
    });
  }
  static int OnSent(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    const bool is_headers = frame->hd.type == NGHTTP2_HEADERS;
    Of(user).OnSentFrame(is_headers || frame->hd.type == NGHTTP2_DATA);
    // The answer is complete: what the client would still send has no use.
    if (is_headers && (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) != 0 &&
        nghttp2_session_get_stream_remote_close(session, frame->hd.stream_id) == 0)
      nghttp2_submit_rst_stream(session, NGHTTP2_FLAG_NONE, frame->hd.stream_id, NGHTTP2_NO_ERROR);
    return 0;
  }
  // How much of a call's answer can go into a frame.
  static ssize_t Read(nghttp2_session*, int32_t, uint8_t*, size_t length, uint32_t* flags,
                      nghttp2_data_source* source, void* user) {
    Call& call = *static_cast<Call*>(source->ptr);
    const size_t n = std::min(length, call.waiting());
    if (n == 0 && !call.ended()) {
      call.deferred = true;
      return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (n == call.waiting() && call.ended()) {
      *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
      const int failed = Guard([&] { Of(user).SubmitEnd(call); });
      if (failed != 0) return failed;
    }
    return ssize_t(n);
  }
  static ssize_t MaxLength(nghttp2_session*, uint8_t, int32_t, int32_t, int32_t, uint32_t max_frame,
                           void*) {
    return ssize_t(std::min(max_frame, kMaxFrame));
  }
  static int SendData(nghttp2_session*, nghttp2_frame*, const uint8_t* head, size_t bytes,
                      nghttp2_data_source* source, void* user) {
    H2Connection& c = Of(user);
    if (c.out_.waiting() >= kOutBytes) return NGHTTP2_ERR_WOULDBLOCK;
    return Guard([&] {
      Call& call = *static_cast<Call*>(source->ptr);
      c.out_.text().append(reinterpret_cast<const char*>(head), kFrameHeadBytes);
      call.MoveTo(c.out_, bytes);
      if (call.has_input()) c.resumable_.push_back(call.shared_from_this());
    });
  }
};

H2Worker::H2Worker(Place place, Core& c)
    : net::Worker(std::move(place)), core(c), scratch(new char[kScratchBytes]) {
  if (nghttp2_session_callbacks_new(&callbacks) != 0 || nghttp2_option_new(&session_options) != 0)
    throw std::bad_alloc();
  nghttp2_session_callbacks* const b = callbacks;
  nghttp2_session_callbacks_set_on_begin_headers_callback(b, H2Callbacks::OnBeginHeaders);
  nghttp2_session_callbacks_set_on_header_callback(b, H2Callbacks::OnHeader);
  nghttp2_session_callbacks_set_on_frame_recv_callback(b, H2Callbacks::OnFrame);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(b, H2Callbacks::OnData);
  nghttp2_session_callbacks_set_on_stream_close_callback(b, H2Callbacks::OnStreamClose);
  nghttp2_session_callbacks_set_on_frame_send_callback(b, H2Callbacks::OnSent);
  nghttp2_session_callbacks_set_data_source_read_length_callback(b, H2Callbacks::MaxLength);
  nghttp2_session_callbacks_set_send_data_callback(b, H2Callbacks::SendData);
  nghttp2_option_set_no_auto_window_update(session_options, 1);
  nghttp2_option_set_no_closed_streams(session_options, 1);
  nghttp2_option_set_stream_reset_rate_limit(session_options, kResetBurst, kResetRate);
}

H2Worker::~H2Worker() {
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_option_del(session_options);
}

std::unique_ptr<net::Connection> H2Worker::Accept(int fd, bool refuse) {
  return std::make_unique<H2Connection>(*this, fd, refuse);
}

bool H2Worker::Round() {
  FlushMarked();
  const bool again = net::Worker::Round();
  FlushMarked();
  return again;
}

void H2Worker::FlushMarked() {
  // Flushing may let a call read on, which may mark again.
  while (!marked.empty()) {
    H2Connection* const connection = marked.back();
    marked.pop_back();
    connection->FlushMarked();
  }
}

// --- Life --------------------------------------------------------------------------------------

H2Connection::H2Connection(H2Worker& worker, int fd, bool refuse)
    : worker_(worker),
      stream_(fd, worker.core.options.tls ? worker.core.options.tls->context() : nullptr),
      refuse_(refuse),
      accepted_(worker.loop->now()),
      deadline_(accepted_ + options().read_timeout),
      received_(accepted_) {}

H2Connection::~H2Connection() { Close(); }

Status H2Connection::Start() {
  if (worker_.core.service.access_log.enabled()) peer_ = net::PeerAddress(stream_.fd());
  if (!OpenSession()) return Fail(Code::kResourceExhausted, "no memory for a connection");
  interest_ = EPOLLIN;
  Mark();  // our settings
  return worker_.loop->Watch(stream_.fd(), interest_, *this);
}

bool H2Connection::OpenSession() {
  if (nghttp2_session_server_new2(&session_, worker_.callbacks, this, worker_.session_options) != 0)
    return false;
  const nghttp2_settings_entry settings[] = {
      {NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, uint32_t(options().max_inflight_calls)},
      {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, uint32_t(kStreamWindow)},
      {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, kMaxFrame},
      {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, uint32_t(kMaxMetadataBytes)},
      {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
  };
  if (options().max_connection_age.count() > 0)
    leave_at_ = accepted_ + options().max_connection_age;
  return nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings, std::size(settings)) == 0 &&
         nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow) ==
             0;
}

void H2Connection::OnEvents(uint32_t events) {
  if (phase_ == Phase::kClosed) return;
  try {
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) return Close();
    if ((events & EPOLLOUT) != 0) {
      blocked_ = false;
      Flush();
      // What TLS has read already no event would tell of.
      if (phase_ == Phase::kOpen && !blocked_ && stream_.pending() > 0) return ReadInput();
    }
    if ((events & EPOLLIN) == 0) return;
    if (phase_ == Phase::kLingering) return Discard();
    if (phase_ == Phase::kOpen && !blocked_) ReadInput();
  } catch (const std::bad_alloc&) {
    log::Error("out of memory in an I/O thread");
    Close();
  }
}

void H2Connection::ReadInput() {
  for (int turn = 0; turn < kReadsPerTurn || stream_.pending() > 0; ++turn) {
    const std::span<char> place = InputPlace();
    char* const scratch = worker_.scratch.get();
    std::copy_n(carry_, carried_, scratch);
    const iovec parts[] = {{place.data(), place.size()},
                           {scratch + carried_, kScratchBytes - carried_}};
    const ssize_t n = place.empty() ? stream_.Read(parts + 1, 1) : stream_.Read(parts, 2);
    if (n == net::Stream::kWouldBlock) break;
    if (n <= 0) return Close();
    received_ = worker_.loop->now();
    ping_sent_ = {};
    const size_t placed = std::min(size_t(n), place.size());
    const bool all = size_t(n) < place.size() + parts[1].iov_len;
    const size_t rest = carried_ + size_t(n) - placed;
    if (!Receive(place.data(), placed) || !Receive(scratch, rest)) return Close();
    Mark();
    if (all && !options().tls) break;
    Flush();
    if (phase_ != Phase::kOpen || blocked_) return;
  }
  Mark();
}

// Passes on what arrived, frame heads as wholes, but for resets of streams that never began: gRPC's
// own client sends them for calls that it cancels early, and nghttp2 would end the connection.
bool H2Connection::Receive(const char* data, size_t bytes) {
  const auto pass_on = [this](const char* p, size_t n) {
    return n == 0 ||
           nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(p), n) >= 0;
  };
  size_t at = 0, passed = 0;
  while (at < bytes) {
    if (frame_left_ > 0) {
      const size_t n = std::min(frame_left_, bytes - at);
      frame_left_ -= n;
      at += n;
      continue;
    }
    if (bytes - at < kFrameHeadBytes) break;
    const auto* const head = reinterpret_cast<const uint8_t*>(data + at);
    const size_t length = size_t{head[0]} << 16 | size_t{head[1]} << 8 | head[2];
    frame_stream_ =
        int32_t(uint32_t{head[5]} & 0x7f) << 24 | head[6] << 16 | head[7] << 8 | head[8];
    const uint8_t type = head[3];
    if (type == NGHTTP2_HEADERS) last_stream_ = std::max(last_stream_, frame_stream_);
    if (type == NGHTTP2_RST_STREAM && length == kResetBytes && frame_stream_ > last_stream_) {
      if (bytes - at < kFrameHeadBytes + kResetBytes) break;
      if (!pass_on(data + passed, at - passed)) return false;
      at += kFrameHeadBytes + kResetBytes;
      passed = at;
      continue;
    }
    in_data_ = type == NGHTTP2_DATA && (head[4] & NGHTTP2_FLAG_PADDED) == 0;
    frame_left_ = kFrameHeadBytes + length;
  }
  if (!pass_on(data + passed, at - passed)) return false;
  carried_ = bytes - at;
  std::copy_n(data + at, carried_, carry_);
  return true;
}

// In the middle of a frame whose bytes go into a tensor: there, at once.
std::span<char> H2Connection::InputPlace() const {
  if (!in_data_ || frame_left_ < kPlacedBytes) return {};
  const Call* const call = H2Callbacks::CallOf(session_, frame_stream_);
  const std::span<char> place = call ? call->InputPlace() : std::span<char>();
  return place.first(std::min(place.size(), frame_left_));
}

void H2Connection::Mark() {
  if (marked_ || phase_ != Phase::kOpen) return;
  marked_ = true;
  worker_.marked.push_back(this);
}

void H2Connection::FlushMarked() {
  marked_ = false;
  try {
    Flush();
  } catch (const std::bad_alloc&) {
    log::Error("out of memory in an I/O thread");
    Close();
  }
}

void H2Connection::Flush() {
  if (phase_ != Phase::kOpen || blocked_ || !stream_.established()) return;
  for (;;) {
    while (out_.waiting() < kOutBytes) {
      const uint8_t* data = nullptr;
      const ssize_t n = nghttp2_session_mem_send(session_, &data);
      if (n < 0) return Close();
      if (n == 0) break;
      out_.text().append(reinterpret_cast<const char*>(data), size_t(n));
    }
    if (out_.empty()) break;
    const ssize_t n = out_.Flush(stream_);
    if (n == net::Stream::kFailed) return Close();
    if (n == net::Stream::kWouldBlock) {
      blocked_ = true;
      deadline_ = worker_.loop->now() + kWriteTimeout;
      return Interest(EPOLLOUT);
    }
  }
  Interest(EPOLLIN);
  for (const auto& call : std::exchange(resumable_, {})) call->ResumeInput();
  if (hangs_up_ ||
      (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0))
    Linger();
}

// Closing with unread bytes resets the connection, and the reset may overtake our last words.
void H2Connection::Linger() {
  phase_ = Phase::kLingering;
  stream_.End();
  deadline_ = worker_.loop->now() + kLingerTime;
  Interest(EPOLLIN);
}

void H2Connection::Discard() {
  for (int turn = 0; turn < kReadsPerTurn; ++turn) {
    const ssize_t n = stream_.Read(worker_.scratch.get(), kScratchBytes);
    if (n == net::Stream::kWouldBlock) return;
    if (n <= 0) return Close();
  }
}

void H2Connection::Close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  if (marked_) std::erase(worker_.marked, this);
  resumable_.clear();
  for (const auto& call : std::exchange(calls_, {})) call->OnClosed();
  nghttp2_session_del(session_);
  session_ = nullptr;
  stream_.Close();
  worker_.Retire(*this);
}

void H2Connection::Interest(uint32_t events) {
  if (interest_ == events) return;
  interest_ = events;
  worker_.loop->Change(stream_.fd(), events, *this);
}

// --- Time --------------------------------------------------------------------------------------

void H2Connection::LeaveSoon(Clock::time_point now) {
  if (phase_ != Phase::kOpen) return;
  leave_at_ = std::min(leave_at_, now);
  CheckDeadline(now);
}

void H2Connection::CheckDeadline(Clock::time_point now) {
  if (phase_ == Phase::kClosed) return;
  if ((phase_ == Phase::kLingering || blocked_ || !greeted_) && now >= deadline_) return Close();
  if (phase_ == Phase::kLingering) return;
  try {
    // In copies: a call that ends leaves the list.
    if (!calls_.empty())
      for (const auto& call : std::vector(calls_)) call->CheckDeadline(now);
    CheckKeepalive(now);
    if (phase_ == Phase::kClosed) return;
    CheckAge(now);
  } catch (const std::bad_alloc&) {
    log::Error("out of memory in an I/O thread");
    Close();
  }
}

void H2Connection::CheckKeepalive(Clock::time_point now) {
  if (ping_sent_ != Clock::time_point{}) {
    if (now - ping_sent_ >= options().keepalive_timeout) Close();
    return;
  }
  if (now - received_ < options().keepalive_time) return;
  if (calls_.empty() && !options().keepalive_permit_without_calls) return;
  const int most = options().http2_max_pings_without_data;
  if (most > 0 && pings_without_data_ >= most) return;
  ++pings_without_data_;
  ping_sent_ = now;
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
  Mark();
}

// First it is said that the end is near, then, a round trip later, which call was the last.
void H2Connection::CheckAge(Clock::time_point now) {
  if (now >= end_at_) return Close();
  if (now < leave_at_ || said_goodbye_) return;
  Mark();
  if (!leaving_) {
    leaving_ = true;
    nghttp2_submit_shutdown_notice(session_);
    leave_at_ = now + kGoodbyeTime;
    if (!worker_.draining && options().max_connection_age_grace.count() > 0)
      end_at_ = now + options().max_connection_age_grace;
  } else {
    said_goodbye_ = true;
    nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE,
                          nghttp2_session_get_last_proc_stream_id(session_), NGHTTP2_NO_ERROR,
                          nullptr, 0);
  }
}

// --- Calls -------------------------------------------------------------------------------------

void H2Connection::Submit(Call& call) {
  Mark();
  if (call.submitted) {
    if (std::exchange(call.deferred, false))
      nghttp2_session_resume_data(session_, call.stream_id());
    return;
  }
  call.submitted = true;
  nghttp2_nv headers[6] = {Header(":status", "200"), Header("content-type", "application/grpc")};
  size_t count = 2;
  if (call.only_status()) {
    const StatusHeaders status(call.status());
    count += status.Put(headers + count);
    if (!call.status() && call.status().error().code == Code::kUnimplemented)
      headers[count++] = Header("grpc-accept-encoding", kAcceptedEncodings);
    nghttp2_submit_response(session_, call.stream_id(), headers, count, nullptr);
    return;
  }
  if (call.reply_encoding() != Encoding::kIdentity)
    headers[count++] = Header("grpc-encoding", EncodingName(call.reply_encoding()));
  nghttp2_data_provider provider{.source = {.ptr = &call}, .read_callback = H2Callbacks::Read};
  nghttp2_submit_response(session_, call.stream_id(), headers, count, &provider);
}

void H2Connection::SubmitEnd(const Call& call) {
  nghttp2_nv trailers[2];
  const StatusHeaders status(call.status());
  nghttp2_submit_trailer(session_, call.stream_id(), trailers, status.Put(trailers));
}

void H2Connection::Consume(int32_t stream_id, size_t bytes) {
  nghttp2_session_consume_stream(session_, stream_id, bytes);
  Mark();
}

void H2Connection::Reset(int32_t stream_id) {
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream_id, NGHTTP2_CANCEL);
  Mark();
}

std::string_view H2Connection::PeerIdentity() {
  if (!options().tls) return {};
  if (!identity_) identity_ = stream_.PeerIdentity();
  return *identity_;
}

void H2Connection::OnHeadersDone(int32_t stream_id) {
  if (!head_.is_post || !head_.is_grpc) {
    const nghttp2_nv headers[] = {Header(":status", head_.is_post ? "415" : "405")};
    nghttp2_submit_response(session_, stream_id, headers, 1, nullptr);
    return;
  }
  auto call = MakeCall(worker_.core, *this, stream_id, std::exchange(head_, {}));
  nghttp2_session_set_stream_user_data(session_, stream_id, call.get());
  call->index = calls_.size();
  calls_.push_back(call);
  call->Start();
}

// The first frame of every client.
void H2Connection::OnSettings() {
  greeted_ = true;
  if (refuse_) HangUp("too many connections");
}

void H2Connection::OnSentFrame(bool is_headers_or_data) {
  if (!is_headers_or_data) return;
  pings_without_data_ = 0;
  ping_strikes_ = 0;
  last_ping_ = {};
}

void H2Connection::OnPing() {
  const Clock::time_point now = worker_.loop->now();
  const bool idle = calls_.empty() && !options().keepalive_permit_without_calls;
  const auto interval = idle ? std::chrono::milliseconds(kIdlePingInterval)
                             : options().http2_min_recv_ping_interval_without_data;
  if (last_ping_ != Clock::time_point{} && now - last_ping_ < interval) ++ping_strikes_;
  last_ping_ = now;
  const int most = options().http2_max_ping_strikes;
  if (most > 0 && ping_strikes_ > most) HangUp("too_many_pings");
}

void H2Connection::HangUp(std::string_view why) {
  if (std::exchange(hangs_up_, true)) return;
  nghttp2_submit_goaway(
      session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
      NGHTTP2_ENHANCE_YOUR_CALM, reinterpret_cast<const uint8_t*>(why.data()), why.size());
  Mark();
}

}  // namespace dunlin::grpc
