#include "http/connection.h"

#include <fmt/format.h>

#include <boost/beast/http/basic_parser.hpp>
#include <charconv>
#include <cstring>
#include <new>

#include "base/log.h"
#include "base/tls.h"
#include "serve/access_log.h"
#include "serve/trace.h"

namespace dunlin::http {

namespace bhttp = boost::beast::http;

namespace {

using boost::beast::error_code;
using boost::beast::string_view;

// Slower than this on average is taken for an attack rather than a slow line.
constexpr int64_t kMinBytesPerSecond = 8 << 10;
// How long a connection that has said nothing may stay once draining began: a client that sends
// requests back to back has its next one on the way.
constexpr std::chrono::milliseconds kDrainGrace{1000};
// After a refusal, how much of what the client still sends is read, so that it sees the answer
// rather than a reset.
constexpr size_t kLingerBytes = 16 << 20;
constexpr std::chrono::seconds kLingerTime{2};
// Turns of one connection before the others have theirs.
constexpr int kReadsPerTurn = 16;
// Replies to requests that came together are gathered up to this.
constexpr size_t kGatheredBytes = 256 << 10;
// A tensor that is smaller is copied behind the text: cheaper than another part of a write.
constexpr size_t kCopiedBytes = 4 << 10;
// Read first of a request where the one before was large: a head and its JSON. The rest is then not
// copied to the body but read to it.
constexpr size_t kHeadBytes = 4 << 10;
// Of an idle connection's buffers.
constexpr size_t kKeptBytes = 4 << 10;
// More chunks than this are an attack on our patience; the protocol's servers draw the line here.
constexpr size_t kMaxChunks = 65536;
// What is waited for while requests are read.
constexpr uint32_t kReading = EPOLLIN | EPOLLRDHUP;

std::string_view View(string_view s) { return {s.data(), s.size()}; }

void AppendNumber(std::string& text, size_t number) {
  char digits[20];
  text.append(digits, size_t(std::to_chars(digits, digits + sizeof digits, number).ptr - digits));
}

}  // namespace

// --- Requests as bytes -------------------------------------------------------------------------

// Beast's parser without its containers: fields are views of what was fed, chunks go to the body.
class Connection::Parser final : public bhttp::basic_parser<true> {
 public:
  // `request` gets the head; null: nobody wants it.
  explicit Parser(Request* request) : request_(request) {
    body_limit(boost::none);
    eager(false);
    if (request != nullptr) request->headers.clear();
  }
  size_t Feed(std::string_view data) {
    fed_ = data;
    return put({data.data(), data.size()}, error_);
  }
  error_code error() const { return error_; }
  bool needs_more() const { return error_ == bhttp::error::need_more; }
  // What our side had against the body.
  const std::optional<Error>& refusal() const { return refusal_; }
  void FeedChunksTo(net::Body* body) {
    body_ = body;
    eager(true);
  }
  bool old_client() const { return version_ < 11; }

 private:
  void on_request_impl(bhttp::verb, string_view method, string_view target, int version,
                       error_code&) override {
    version_ = version;
    if (request_ == nullptr) return;
    request_->method = View(method);
    request_->target = View(target);
  }
  void on_response_impl(int, string_view, int, error_code&) override {}
  void on_field_impl(bhttp::field, string_view name, string_view value, error_code& ec) override {
    if (request_ == nullptr) return;
    // A value over several lines, which HTTP no longer allows, is put together in a place that
    // goes.
    if (!value.empty() && (value.data() < fed_.data() || value.data() > fed_.data() + fed_.size()))
      ec = bhttp::error::bad_obs_fold;
    request_->headers.push_back({View(name), View(value)});
  }
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<uint64_t>&, error_code&) override {}
  size_t on_body_impl(string_view body, error_code&) override { return body.size(); }
  void on_chunk_header_impl(uint64_t size, string_view, error_code& ec) override {
    if (size == 0 || ++count_ <= kMaxChunks) return;
    refusal_ = {Code::kInvalidArgument,
                fmt::format("request body has more than {} chunks", kMaxChunks)};
    ec = bhttp::error::bad_chunk;
  }
  size_t on_chunk_body_impl(uint64_t, string_view data, error_code& ec) override {
    if (Status s = body_->Append(View(data)); !s) {
      refusal_ = std::move(s).error();
      ec = bhttp::error::buffer_overflow;
    }
    return data.size();
  }
  void on_finish_impl(error_code&) override {}

  Request* const request_;
  net::Body* body_ = nullptr;
  std::string_view fed_;
  error_code error_;
  std::optional<Error> refusal_;
  int version_ = 11;
  size_t count_ = 0;
};

void Exchange::Send(Reply reply) {
  if (worker_->loop->IsLoopThread() && worker_->handling == this) {
    if (!at_once) at_once = std::move(reply);
    return;
  }
  // By way of the loop: the connection may have gone, and only its thread knows.
  worker_->loop->Post([self = shared_from_this(), r = std::move(reply)]() mutable {
    if (self->connection != nullptr) self->connection->OnReply(std::move(r));
  });
}

// --- Life --------------------------------------------------------------------------------------

Connection::Connection(Worker& worker, int fd, bool refuse)
    : worker_(worker),
      stream_(fd, worker.options.tls ? worker.options.tls->context() : nullptr),
      refuse_(refuse),
      accepted_(worker.loop->now()) {}

Connection::~Connection() { Close(); }

Status Connection::Start() {
  SetDeadline();
  if (Logging()) peer_ = net::PeerAddress(stream_.fd());
  interest_ = kReading;
  return worker_.loop->Watch(stream_.fd(), interest_, *this);
}

bool Connection::Logging() const {
  return options().access_log != nullptr && options().access_log->enabled();
}

void Connection::OnEvents(uint32_t events) {
  if (phase_ == Phase::kClosed) return;
  try {
    if ((events & (EPOLLERR | EPOLLHUP)) != 0) return Close();
    if ((events & EPOLLOUT) != 0 && blocked_) {
      blocked_ = false;
      Flush();
      if (!blocked_) Resume();
    }
    if ((events & kReading) == 0) return;
    if (phase_ == Phase::kHandling) return OnInputWhileHandling(events);
    if (phase_ == Phase::kLingering) return Discard();
    if (Reading()) ReadInput();
  } catch (const std::bad_alloc&) {
    log::Error("out of memory in an I/O thread");
    Close();
  }
}

void Connection::LeaveSoon(Clock::time_point now) {
  if (phase_ == Phase::kIdle && !blocked_) deadline_ = std::min(deadline_, now + kDrainGrace);
}

void Connection::CheckDeadline(Clock::time_point now) {
  if (now < deadline_ || phase_ == Phase::kClosed) return;
  deadline_ = now + EventLoop::kTick;
  if (blocked_ || phase_ == Phase::kLingering || !stream_.established()) return Close();
  if (phase_ == Phase::kIdle) {
    if (!stream_.HasInput()) Close();
    return;
  }
  Refuse(408, "the request did not arrive in time");
  Flush();
}

void Connection::Close() {
  if (phase_ == Phase::kClosed) return;
  phase_ = Phase::kClosed;
  if (exchange_) {
    exchange_->cancelled.store(true, std::memory_order_relaxed);
    exchange_->connection = nullptr;
  }
  worker_.budget->Return(std::exchange(leased_, 0));
  stream_.Close();
  worker_.Retire(*this);
}

void Connection::SetDeadline() {
  const Clock::time_point now = worker_.loop->now();
  if (!stream_.established()) {
    deadline_ = accepted_ + options().read_timeout;
  } else if (phase_ == Phase::kIdle) {
    deadline_ = now + (worker_.draining ? kDrainGrace : options().idle_timeout);
  } else if (phase_ == Phase::kHead) {
    deadline_ = request_start_ + options().read_timeout;
  } else if (phase_ == Phase::kBody) {
    // The gap between two pieces is bounded, and so is the whole.
    deadline_ =
        std::min(now, request_start_ + std::chrono::seconds(received_ / kMinBytesPerSecond)) +
        options().read_timeout;
  } else if (phase_ == Phase::kHandling) {
    deadline_ = Clock::time_point::max();
  }
}

void Connection::Interest(uint32_t events) {
  if (interest_ == events) return;
  interest_ = events;
  worker_.loop->Change(stream_.fd(), events, *this);
}

// While a model runs nothing is read, so a client that goes would be noticed only when the answer
// is written.
void Connection::OnInputWhileHandling(uint32_t events) {
  if ((events & EPOLLRDHUP) == 0) return Interest(EPOLLRDHUP);  // its next request, which waits
  exchange_->cancelled.store(true, std::memory_order_relaxed);
  Interest(0);
}

// --- Reading -----------------------------------------------------------------------------------

void Connection::ReadInput() {
  for (int turn = 0; Reading() && (turn < kReadsPerTurn || stream_.pending() > 0); ++turn) {
    if (body_ && !chunks_) {
      ReadBody();
      if (stream_.pending() == 0) break;
      continue;
    }
    const bool fresh = pending_.empty();
    const size_t old = pending_.size();
    const size_t most = after_large_ && !body_ ? kHeadBytes : kScratchBytes;
    if (!fresh) pending_.resize(old + most);
    const ssize_t n = stream_.Read(fresh ? worker_.scratch.get() : pending_.data() + old, most);
    if (!fresh) pending_.resize(old + size_t(std::max<ssize_t>(n, 0)));
    if (n == Stream::kWouldBlock) break;
    if (n <= 0) return Close();  // gone, perhaps in the middle of a request: nobody to answer
    if (fresh) {
      const std::string_view data(worker_.scratch.get(), size_t(n));
      const size_t used = Consume(data);
      if (phase_ == Phase::kClosed) return;
      if (used < data.size()) {
        pending_.reserve(data.size() - used + kBodyPadding);
        pending_ = data.substr(used);
      }
    } else {
      pending_.reserve(pending_.size() + kBodyPadding);
      const size_t used = Consume(pending_);
      pending_.erase(0, used);
    }
    if (size_t(n) < most && stream_.pending() == 0) break;  // that was all
  }
  Flush();
}

// Straight from the socket to where the body stays: all that is there, or all that is missing.
void Connection::ReadBody() {
  const ssize_t n = stream_.Read(body_->end(), body_left_);
  if (n == Stream::kWouldBlock) return;
  if (n <= 0) return Close();
  received_ += n;
  body_left_ -= size_t(n);
  if (const Status s = body_->Arrived(size_t(n)); !s) return Refuse(s.error());
  if (body_left_ == 0) FinishBody();
}

size_t Connection::Consume(std::string_view data) {
  size_t used = 0;
  while (Reading() && used < data.size()) {
    const std::string_view rest = data.substr(used);
    const size_t n = phase_ == Phase::kBody ? ConsumeBody(rest) : ConsumeHead(rest);
    if (n == 0) break;
    used += n;
  }
  if (pending_.empty() && pending_.capacity() > kKeptBytes) pending_.shrink_to_fit();
  return used;
}

size_t Connection::ConsumeHead(std::string_view data) {
  if (phase_ == Phase::kIdle) {
    // Some clients end a body with a line break that is not part of it.
    if (data.starts_with("\r\n")) return 2;
    if (data == "\r") return 0;
    phase_ = Phase::kHead;
    request_start_ = worker_.loop->now();
    received_ = 0;
    searched_ = tried_ = 0;
  }
  Head& head = worker_.head;
  if (tried_ == 0 && !head.bytes.empty() && data.starts_with(head.bytes)) return BeginRequest(data);
  // A head that comes in pieces is parsed when its end is there, and whenever it has doubled, so
  // that what is no HTTP is refused early. That keeps the work linear.
  if (tried_ > 0 && data.size() < 2 * tried_) {
    const size_t from = searched_ > 3 ? searched_ - 3 : 0;
    searched_ = data.size();
    if (data.find("\r\n\r\n", from) == std::string_view::npos) return 0;
  }
  head.bytes.clear();
  Parser parser(&worker_.request);
  parser.header_limit(uint32_t(options().max_header_size));
  const size_t used = parser.Feed(data);
  if (parser.needs_more() && int64_t(data.size()) < options().max_header_size) {
    searched_ = tried_ = data.size();
    return 0;
  }
  if (parser.error() || !parser.is_header_done()) {
    RefuseParse(parser);
    return 0;
  }
  KeepHead(parser, data.substr(0, used));
  return BeginRequest(data);
}

// Makes what was parsed from `bytes` the worker's: facts, and views of a copy.
void Connection::KeepHead(const Parser& parsed, std::string_view bytes) {
  Head& head = worker_.head;
  head.bytes = bytes;
  head.keep_alive = parsed.keep_alive();
  head.old_client = parsed.old_client();
  head.chunked = parsed.chunked();
  head.length = std::nullopt;
  if (const auto length = parsed.content_length()) head.length = *length;
  const auto move = [&](std::string_view& view) {
    if (!view.empty()) view = {head.bytes.data() + (view.data() - bytes.data()), view.size()};
  };
  move(worker_.request.method);
  move(worker_.request.target);
  for (HeaderField& field : worker_.request.headers) {
    move(field.name);
    move(field.value);
  }
}

// The head is complete, and the worker's: the request is handled if its body is there too.
size_t Connection::BeginRequest(std::string_view data) {
  const Head& head = worker_.head;
  const size_t head_bytes = head.bytes.size();
  keep_alive_ = head.keep_alive;
  old_client_ = head.old_client;
  head_only_ = worker_.request.method == "HEAD";
  if (!CheckHead(head)) return head_bytes;
  const uint64_t length = head.length.value_or(0);
  if (!head.chunked && data.size() - head_bytes >= length) {
    worker_.request.body = data.substr(head_bytes, length);
    worker_.request.body_owner = nullptr;
    after_large_ = false;
    leased_ = int64_t(length);
    if (worker_.budget->Take(leased_))
      Handle();
    else
      Refuse(503, "too many request bytes are in progress, try again later");
    return head_bytes + length;
  }
  if (const Status s = BeginBody(head); !s) Refuse(s.error());
  return head_bytes;
}

// What can be refused before the body is read. False: refused.
bool Connection::CheckHead(const Head& head) {
  const Request& request = worker_.request;
  if (refuse_) {
    Refuse(503,
           fmt::format("too many connections, at most {} are served", options().max_connections));
    return false;
  }
  // What we do not undo must not be taken for the body, nor the body for the next request.
  if (const auto coding = request.Header("Transfer-Encoding");
      !coding.empty() && !EqualsIgnoreCase(coding, "chunked")) {
    Refuse(501, fmt::format("transfer encoding '{}' is not supported", coding));
    return false;
  }
  const std::optional<uint64_t>& length = head.length;
  if (length && *length > uint64_t(options().max_body_size)) {
    RefuseSize(*length);
    return false;
  }
  const bool binary = !request.Header("Inference-Header-Content-Length").empty();
  if (length && !binary && *length > uint64_t(options().max_json_size)) {
    Refuse(400,
           fmt::format("request JSON size of {} bytes exceeds the maximum allowed input size of "
                       "{} bytes. Use --http-max-input-size to increase the limit.",
                       *length, options().max_json_size));
    return false;
  }
  return true;
}

// The body is not there yet, or not whole.
Status Connection::BeginBody(const Head& head) {
  const Request& request = worker_.request;
  // Tensors follow the JSON: they are read to where they can stay.
  const std::string_view text = request.Header("Inference-Header-Content-Length");
  size_t json_bytes = 0;
  std::from_chars(text.data(), text.data() + text.size(), json_bytes);
  if (head.chunked) {
    const auto limit = size_t(text.empty() ? options().max_json_size : options().max_body_size);
    body_ = TRY(net::Body::Growing(worker_.budget, limit, json_bytes));
    chunks_ = std::make_unique<Parser>(nullptr);
    chunks_->header_limit(uint32_t(options().max_header_size));
    chunks_->Feed(head.bytes);
    chunks_->body_limit(limit);
    chunks_->FeedChunksTo(body_.get());
  } else {
    body_left_ = size_t(*head.length);
    body_ = TRY(net::Body::OfLength(worker_.budget, body_left_, json_bytes));
  }
  phase_ = Phase::kBody;
  if (EqualsIgnoreCase(request.Header("Expect"), "100-continue"))
    out_.text() += "HTTP/1.1 100 Continue\r\n\r\n";
  head_ = head.bytes;
  return {};
}

size_t Connection::ConsumeBody(std::string_view data) {
  size_t used = 0;
  if (!chunks_) {
    used = std::min(data.size(), body_left_);
    std::memcpy(body_->end(), data.data(), used);
    body_left_ -= used;
    if (const Status s = body_->Arrived(used); !s) {
      Refuse(s.error());
      return used;
    }
  } else {
    used = chunks_->Feed(data);
    if (chunks_->needs_more()) {
      // A chunk's header or the trailer, which nothing else bounds.
      if (used == 0 && int64_t(data.size()) >= options().max_header_size)
        Refuse(400, "a chunk of the request body has too long a header");
      received_ += int64_t(used);
      return used;
    }
    if (chunks_->error()) {
      RefuseParse(*chunks_);
      return used;
    }
  }
  received_ += int64_t(used);
  if (chunks_ ? chunks_->is_done() : body_left_ == 0) FinishBody();
  return used;
}

void Connection::FinishBody() {
  if (head_ != worker_.head.bytes) {  // other requests came in between
    worker_.head.bytes.clear();
    Parser parser(&worker_.request);
    parser.header_limit(uint32_t(options().max_header_size));
    parser.Feed(head_);
    KeepHead(parser, head_);
  }
  after_large_ = body_->view().size() > kScratchBytes;
  worker_.request.body = body_->view();
  worker_.request.body_owner = std::move(body_);
  chunks_ = nullptr;
  Handle();
  head_.clear();
  head_.shrink_to_fit();
}

// --- Handling ----------------------------------------------------------------------------------

void Connection::Handle() {
  phase_ = Phase::kHandling;
  SetDeadline();
  if (!exchange_ || exchange_.use_count() > 1)
    exchange_ =
        std::make_shared<Exchange>(std::static_pointer_cast<Worker>(worker_.shared_from_this()));
  exchange_->cancelled.store(false, std::memory_order_relaxed);
  exchange_->connection = this;
  Request& request = worker_.request;
  request.arrival = request_start_;
  if (options().tls && !identity_) identity_ = stream_.PeerIdentity();
  request.peer_identity = identity_ ? std::string_view(*identity_) : std::string_view();
  request.cancelled = std::shared_ptr<std::atomic<bool>>(exchange_, &exchange_->cancelled);
  if (Logging()) {
    method_ = request.method;
    path_ = request.target.substr(0, request.target.find('?'));
    body_bytes_ = int64_t(request.body.size());
  }
  worker_.handling = exchange_.get();
  try {
    worker_.handler(request,
                    [exchange = exchange_](Reply reply) { exchange->Send(std::move(reply)); });
  } catch (const std::bad_alloc&) {
    // What a library throws for want of memory ends this request, not the process.
    if (!exchange_->at_once)
      exchange_->at_once = ErrorReply(503, "not enough memory for the request");
  }
  worker_.handling = nullptr;
  request.body_owner = nullptr;
  request.cancelled = nullptr;
  if (!exchange_->at_once) return;
  const Reply reply = *std::exchange(exchange_->at_once, std::nullopt);
  QueueReply(reply);
  if (out_.waiting() > kGatheredBytes) Flush();
}

void Connection::OnReply(Reply reply) {
  try {
    QueueReply(reply);
    if (!blocked_) Interest(kReading);
    Resume();
  } catch (const std::bad_alloc&) {
    log::Error("out of memory in an I/O thread");
    Close();
  }
}

void Connection::Resume() {
  if (!pending_.empty() && Reading()) pending_.erase(0, Consume(pending_));
  if (Reading() && stream_.pending() > 0) return ReadInput();  // which no event would tell of
  Flush();
}

void Connection::QueueReply(const Reply& reply) {
  if (exchange_) exchange_->connection = nullptr;
  worker_.budget->Return(std::exchange(leased_, 0));
  if (Logging()) LogAccess(reply);
  if (reply.trace) {
    reply.trace->Stamp(serve::TracePoint::kHttpSendStart);
    sending_.push_back(reply.trace);
  }
  phase_ = Phase::kIdle;
  if (worker_.draining || reply.close) keep_alive_ = false;
  if (!keep_alive_) ending_ = true;
  std::string& text = out_.text();
  text += "HTTP/1.1 ";
  AppendNumber(text, size_t(reply.status));
  text += ' ';
  text += ReasonPhrase(reply.status);
  text += "\r\nContent-Length: ";
  AppendNumber(text, reply.bytes());
  if (!reply.content_type.empty()) {
    text += "\r\nContent-Type: ";
    text += reply.content_type;
  }
  for (const auto& [name, value] : reply.headers) {
    text += "\r\n";
    text += name;
    text += ": ";
    text += value;
  }
  if (!keep_alive_)
    text += "\r\nConnection: close";
  else if (old_client_)
    text += "\r\nConnection: keep-alive";
  text += "\r\n\r\n";
  if (head_only_) return;
  text += reply.body;
  for (const Tensor& t : reply.tensors) {
    if (size_t(t.bytes()) > kCopiedBytes)
      out_.Append(t);
    else
      text.append(reinterpret_cast<const char*>(t.raw()), size_t(t.bytes()));
  }
}

void Connection::LogAccess(const Reply& reply) {
  options().access_log->Write({.peer = peer_,
                               .method = method_,
                               .path = path_,
                               .status = reply.status,
                               .bytes_in = body_bytes_,
                               .bytes_out = int64_t(reply.bytes()),
                               .duration = Clock::now() - request_start_,
                               .request_id = reply.request_id,
                               .trace_id = reply.trace ? reply.trace->trace_id() : ""});
  method_.clear();
  path_.clear();
  body_bytes_ = 0;
}

// --- Refusing and ending -----------------------------------------------------------------------

// An answer to a request that has not been read to its end; the connection goes after it.
void Connection::Refuse(int status, std::string_view message) {
  Reply reply = ErrorReply(status, message);  // first: the message may be the parser's
  body_ = nullptr;
  chunks_ = nullptr;
  reply.close = true;
  QueueReply(reply);
}

void Connection::Refuse(const Error& error) { Refuse(HttpStatus(error.code), error.message); }

void Connection::RefuseParse(const Parser& parser) {
  const error_code ec = parser.error();
  if (ec == bhttp::error::body_limit || ec == bhttp::error::buffer_overflow) {
    if (!parser.refusal() || parser.refusal()->code == Code::kInvalidArgument)
      return RefuseSize(std::nullopt);
    return Refuse(*parser.refusal());
  }
  if (parser.refusal()) return Refuse(*parser.refusal());
  if (ec == bhttp::error::header_limit || parser.needs_more())
    return Refuse(431, fmt::format("request headers exceed the maximum allowed size of {} bytes",
                                   options().max_header_size));
  Refuse(400, fmt::format("malformed HTTP request: {}", ec.message()));
}

void Connection::RefuseSize(std::optional<uint64_t> length) {
  Refuse(413,
         fmt::format("request body{} exceeds the maximum allowed size of {} bytes. Use "
                     "--http-max-body-size to increase the limit.",
                     length ? fmt::format(" of {} bytes", *length) : "", options().max_body_size));
}

void Connection::Flush() {
  if (phase_ == Phase::kClosed || phase_ == Phase::kLingering || blocked_) return;
  const ssize_t n = out_.empty() ? 0 : out_.Flush(stream_);
  if (n == Stream::kFailed) return Close();
  if (n == Stream::kWouldBlock) {
    blocked_ = true;
    deadline_ = worker_.loop->now() + options().read_timeout +
                std::chrono::seconds(int64_t(out_.waiting()) / kMinBytesPerSecond);
    return Interest(EPOLLOUT);
  }
  for (const auto& trace : sending_) trace->Stamp(serve::TracePoint::kHttpSendEnd);
  sending_.clear();
  if (ending_) return Linger();
  if (phase_ != Phase::kHandling) Interest(kReading);
  SetDeadline();
}

// Closing with unread bytes resets the connection, and the reset may overtake the answer. So: no
// more from us, and read until the client is done too, within bounds.
void Connection::Linger() {
  phase_ = Phase::kLingering;
  stream_.End();
  linger_left_ = kLingerBytes;
  deadline_ = worker_.loop->now() + kLingerTime;
  pending_.clear();
  Interest(kReading);
}

void Connection::Discard() {
  for (int turn = 0; turn < kReadsPerTurn; ++turn) {
    const ssize_t n = stream_.Read(worker_.scratch.get(), kScratchBytes);
    if (n == Stream::kWouldBlock) return;
    if (n <= 0 || size_t(n) >= linger_left_) return Close();
    linger_left_ -= size_t(n);
  }
}

}  // namespace dunlin::http
