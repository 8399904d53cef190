#include "grpc/call.h"

#include <zlib.h>

#include <algorithm>

#include "base/check.h"
#include "grpc/h2_connection.h"

namespace dunlin::grpc {
namespace {

// A client that has its whole answer waiting and takes none of it for so long is cut off.
constexpr std::chrono::seconds kStalled{60};
// A message that has begun to arrive takes memory: it must come at this rate, after a while.
constexpr int64_t kMinBytesPerSecond = 8 << 10;

constexpr size_t kPrefixBytes = 5;

// The whole message, or nothing when that would not make it smaller.
std::string Deflate(const Message& message, size_t bytes, Encoding encoding, int level) {
  z_stream z{};
  DUNLIN_CHECK(::deflateInit2(&z, level, Z_DEFLATED, encoding == Encoding::kGzip ? 15 + 16 : 15, 8,
                              Z_DEFAULT_STRATEGY) == Z_OK,
               "zlib does not start");
  std::string packed(bytes, '\0');
  z.next_out = reinterpret_cast<Bytef*>(packed.data());
  z.avail_out = uInt(std::min<size_t>(bytes, UINT32_MAX));
  int state = Z_OK;
  const auto add = [&](const void* data, size_t n) {
    z.next_in = static_cast<Bytef*>(const_cast<void*>(data));
    z.avail_in = uInt(n);
    if (state == Z_OK && n > 0) state = ::deflate(&z, Z_NO_FLUSH);
    if (z.avail_in > 0) state = Z_BUF_ERROR;
  };
  for (const MessagePart& part : message) {
    add(part.text.data(), part.text.size());
    add(part.tensor.raw(), size_t(part.tensor.bytes()));
  }
  if (state == Z_OK) state = ::deflate(&z, Z_FINISH);
  packed.resize(state == Z_STREAM_END ? z.total_out : 0);
  ::deflateEnd(&z);
  return packed;
}

int ZlibLevel(Compression level) {
  return level == Compression::kLow ? 1 : level == Compression::kMedium ? 6 : 9;
}

}  // namespace

Result<Message> FrameMessage(Message message, Encoding encoding, const ServerOptions& options) {
  size_t bytes = MessageBytes(message);
  if (bytes > size_t(options.max_message_size))
    return Fail(Code::kResourceExhausted, "Sent message larger than max ({} vs. {})", bytes,
                options.max_message_size);
  bool compressed = false;
  if (encoding != Encoding::kIdentity) {
    std::string packed = Deflate(message, bytes, encoding, ZlibLevel(options.response_compression));
    if (!packed.empty()) {
      compressed = true;
      bytes = packed.size();
      message.assign(1, MessagePart{.text = std::move(packed), .tensor = {}});
    }
  }
  const char prefix[kPrefixBytes] = {char(compressed), char(bytes >> 24), char(bytes >> 16),
                                     char(bytes >> 8), char(bytes)};
  message[0].text.insert(0, prefix, sizeof prefix);
  return message;
}

Call::Call(Core& core, H2Connection& connection, int32_t stream_id, CallHead head,
           MessageReader::Form form)
    : core_(core),
      worker_(connection.worker()),
      connection_(&connection),
      stream_id_(stream_id),
      head_(std::move(head)),
      deadline_(head_.timeout ? worker_->loop->now() + *head_.timeout : serve::TimePoint::max()),
      reader_(core.budget, size_t(core.options.max_message_size), head_.encoding, form) {
  core_.calls.fetch_add(1);
  if (core_.service.access_log.enabled()) note_ = std::make_unique<Note>();
}

Call::~Call() {
  core_.budget->Return(int64_t(input_.size()));
  // Last, and under the lock: whoever waits may end the core at once.
  const std::lock_guard lock(core_.mutex);
  if (core_.calls.fetch_sub(1) == 1) core_.none_left.notify_all();
}

// --- Input -------------------------------------------------------------------------------------

void Call::OnData(std::string_view data) {
  if (over()) {
    if (connection_) connection_->Consume(stream_id_, data.size());
  } else if (input_.empty() && !Paused()) {
    Take(data);
  } else {
    input_ += data;
    if (!core_.budget->Take(int64_t(data.size())))
      Finish(Fail(Code::kResourceExhausted,
                  "too many request bytes are in progress, try again "
                  "later (--grpc-max-inflight-size)"));
  }
}

std::span<char> Call::InputPlace() const {
  return over() || Paused() || !input_.empty() ? std::span<char>() : reader_.Place();
}

void Call::Take(std::string_view data) {
  const size_t all = data.size();
  taking_ = true;
  while (!data.empty() && !over() && !Paused()) {
    auto message = reader_.Feed(data);
    if (!message)
      Finish(Fail(std::move(message).error()));
    else if (*message)
      OnMessage(std::move(*message));
  }
  taking_ = false;
  if (!reader_.partial()) {
    begun_ = {};
  } else if (begun_ == Clock::time_point{}) {
    begun_ = worker_->loop->now();
    begun_bytes_ = 0;
  }
  begun_bytes_ += int64_t(all);
  if (over()) data = {};
  if (connection_) connection_->Consume(stream_id_, all - data.size());
  if (data.empty()) return;
  input_ = data;
  core_.budget->Take(int64_t(data.size()));
}

void Call::ResumeInput() {
  if (taking_) return;  // a model answered at once
  if (!input_.empty() && !Paused()) {
    core_.budget->Return(int64_t(input_.size()));
    const std::string input = std::exchange(input_, {});
    Take(input);
  }
  if (half_closed_ && input_.empty() && !told_half_closed_ && !over()) {
    told_half_closed_ = true;
    if (reader_.partial())
      return Finish(Fail(Code::kInvalidArgument, "the call ended in the middle of a message"));
    OnHalfClosed();
  }
}

void Call::OnEndOfInput() {
  half_closed_ = true;
  ResumeInput();
}

void Call::OnClosed() {
  if (!connection_) return;
  if (note_) WriteAccessLog();
  connection_ = nullptr;
  const bool cut_off = !ended_ || waiting_ > 0;
  out_.clear();
  waiting_ = 0;
  if (cut_off) {
    cancelled_.store(true, std::memory_order_relaxed);
    OnCancelled();
  }
  OnSent();
}

bool Call::TooSlow(Clock::time_point now) const {
  if (begun_ == Clock::time_point{} || !input_.empty()) return false;
  return now > begun_ + core_.options.read_timeout +
                   std::chrono::seconds(begun_bytes_ / kMinBytesPerSecond);
}

void Call::CheckDeadline(Clock::time_point now) {
  if (!connection_) return;
  if (!ended_ && now >= deadline_) {
    cancelled_.store(true, std::memory_order_relaxed);
    OnCancelled();
    Finish(Fail(Code::kDeadlineExceeded, "Deadline Exceeded"));
  } else if (!ended_ && TooSlow(now)) {
    Finish(Fail(Code::kDeadlineExceeded, "the message did not arrive in time"));
  } else if (ended_ && waiting_ > 0 && now - progress_ > kStalled) {
    connection_->Reset(stream_id_);
  } else {
    OnTick();
  }
}

// --- Output ------------------------------------------------------------------------------------

bool Call::draining() const { return worker_->draining; }

void Call::AllowCompression() {
  if (core_.options.response_compression != Compression::kNone)
    reply_encoding_ = head_.reply_encoding;
}

void Call::SendHeaders() {
  has_headers_ = true;
  Wake();
}

void Call::Queue(Message framed) {
  if (note_) note_->bytes_out += int64_t(MessageBytes(framed) - kPrefixBytes);
  if (out_front_ == out_.size()) {
    out_ = std::move(framed);
    out_front_ = 0;
    waiting_ = MessageBytes(out_);
  } else {
    waiting_ += MessageBytes(framed);
    for (MessagePart& part : framed) out_.push_back(std::move(part));
  }
  has_headers_ = true;
}

void Call::Send(Message framed) {
  if (over()) return;
  Queue(std::move(framed));
  Wake();
}

void Call::Finish(Status status) {
  if (over()) return;
  ended_ = true;
  status_ = std::move(status);
  Wake();
}

void Call::Reply(Result<Message> framed) {
  if (over()) return;
  if (framed)
    Queue(std::move(*framed));
  else
    status_ = Fail(std::move(framed).error());
  ended_ = true;
  Wake();
}

void Call::Wake() {
  progress_ = worker_->loop->now();
  if (connection_) connection_->Submit(*this);
}

void Call::MoveTo(net::OutQueue& out, size_t bytes) {
  progress_ = worker_->loop->now();
  waiting_ -= bytes;
  while (bytes > 0) {
    const MessagePart& part = out_[out_front_];
    const size_t tensor_bytes = size_t(part.tensor.bytes());
    if (out_used_ < part.text.size()) {
      const size_t n = std::min(bytes, part.text.size() - out_used_);
      out.text().append(part.text, out_used_, n);
      out_used_ += n;
      bytes -= n;
    } else if (const size_t at = out_used_ - part.text.size(); at < tensor_bytes) {
      const size_t n = std::min(bytes, tensor_bytes - at);
      out.Append(part.tensor, {reinterpret_cast<const char*>(part.tensor.raw()) + at, n});
      out_used_ += n;
      bytes -= n;
    }
    if (out_used_ == part.text.size() + tensor_bytes) {
      out_[out_front_++] = {};
      out_used_ = 0;
    }
  }
  if (waiting_ == 0) {
    out_.clear();
    out_front_ = out_used_ = 0;
  }
}

// --- For requests ------------------------------------------------------------------------------

void Call::NoteRequest(size_t bytes, std::string_view model, std::string_view id,
                       std::string trace_id) {
  if (!note_) return;
  note_->bytes_in += int64_t(bytes);
  note_->model = model;
  note_->id = id;
  note_->trace_id = std::move(trace_id);
}

void Call::WriteAccessLog() {
  core_.service.access_log.Write({.peer = connection_->peer(),
                                  .method = note_->model,
                                  .path = head_.path,
                                  .status = !ended_   ? int(Code::kCancelled)
                                            : status_ ? 0
                                                      : int(status_.error().code),
                                  .bytes_in = note_->bytes_in,
                                  .bytes_out = note_->bytes_out,
                                  .duration = serve::Clock::now() - note_->begun,
                                  .request_id = note_->id,
                                  .trace_id = note_->trace_id});
}

void Call::ForwardHeaders(serve::InferRequest& request) const {
  if (!core_.options.header_forward.any()) return;
  head_.metadata.ForEach([&](std::string_view name, std::string_view value) {
    if (!name.ends_with("-bin")) core_.options.header_forward.Add(name, value, request);
  });
}

Status Call::CheckAccess(serve::ApiGroup group) const {
  return core_.service.access.Check(
      group, {.header = [this](std::string_view name) { return Header(name); },
              .peer_identity = connection_->PeerIdentity(),
              .grpc = true});
}

}  // namespace dunlin::grpc
