#include "http/listener.h"

#include <fmt/format.h>
#include <pthread.h>

#include <atomic>
#include <boost/asio.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <condition_variable>
#include <mutex>
#include <optional>
#include <set>
#include <thread>
#include <vector>

#include "base/log.h"

namespace dunlin::http {
namespace {

namespace asio = boost::asio;
namespace bhttp = boost::beast::http;
using tcp = asio::ip::tcp;
using boost::system::error_code;
using SteadyClock = std::chrono::steady_clock;

// Asked of the socket at a time: most requests come in one piece, tensors in few.
constexpr size_t kReadBytes = 16 << 10;
constexpr size_t kBodyReadBytes = 128 << 10;
// Slower than this on average is taken for an attack rather than a slow line.
constexpr int64_t kMinBytesPerSecond = 8 << 10;
// How long a connection that has said nothing may stay once draining began: a client that sends
// requests back to back has its next one on the way.
constexpr std::chrono::milliseconds kDrainGrace{1000};
// After a refusal, how much of what the client still sends is read, so that it sees the answer
// rather than a reset.
constexpr size_t kLingerBytes = 16 << 20;
constexpr std::chrono::seconds kLingerTime{2};

// Bytes of all requests in progress, against one limit.
struct Budget {
  explicit Budget(int64_t l) : limit(l) {}
  const int64_t limit;
  std::atomic<int64_t> used{0};
};

// One request's part of the budget, given back at the end.
class Lease {
 public:
  explicit Lease(std::shared_ptr<Budget> budget) : budget_(std::move(budget)) {}
  ~Lease() { budget_->used.fetch_sub(taken_, std::memory_order_relaxed); }
  Lease(const Lease&) = delete;
  Lease& operator=(const Lease&) = delete;
  bool Take(int64_t bytes) {
    taken_ += bytes;
    return budget_->used.fetch_add(bytes, std::memory_order_relaxed) + bytes <= budget_->limit;
  }

 private:
  std::shared_ptr<Budget> budget_;
  int64_t taken_ = 0;
};

// A body in one string that grows with what has arrived, never with what was announced.
struct LeasedBody {
  struct value_type {  // NOLINT: the library's names
    std::string data;
    std::shared_ptr<Lease> lease;
  };
  class reader {  // NOLINT
   public:
    template <bool kIsRequest, class Fields>
    reader(bhttp::header<kIsRequest, Fields>&, value_type& body) : body_(body) {}
    void init(const boost::optional<uint64_t>& length, error_code& ec) {  // NOLINT
      announced_ = length ? size_t(*length) : 0;
      ec = {};
    }
    template <class Buffers>
    size_t put(const Buffers& buffers, error_code& ec) {  // NOLINT
      const size_t n = asio::buffer_size(buffers);
      std::string& data = body_.data;
      if (!body_.lease->Take(int64_t(n))) {
        ec = bhttp::error::buffer_overflow;
        return 0;
      }
      const size_t needed = data.size() + n + kBodyPadding;
      if (needed > data.capacity()) {
        size_t wanted = std::max(needed, 2 * data.capacity());
        if (announced_ > 0) wanted = std::max(needed, std::min(wanted, announced_ + kBodyPadding));
        data.reserve(wanted);
      }
      for (auto it = asio::buffer_sequence_begin(buffers); it != asio::buffer_sequence_end(buffers);
           ++it) {
        const asio::const_buffer part(*it);
        data.append(static_cast<const char*>(part.data()), part.size());
      }
      ec = {};
      return n;
    }
    void finish(error_code& ec) { ec = {}; }  // NOLINT

   private:
    value_type& body_;
    size_t announced_ = 0;
  };
};

std::string_view View(boost::string_view s) { return {s.data(), s.size()}; }

class Connection;

// How often deadlines are looked at: one timer per thread instead of one per connection.
constexpr std::chrono::milliseconds kTick{100};

// One thread with its own event loop; a connection lives on one of them.
struct Loop {
  std::set<Connection*>
      connections;  // touched on the loop's thread only; outlives the context's handlers
  asio::io_context context{1};
  asio::steady_timer tick{context};
  std::thread thread;

  void Tick();
};

}  // namespace

struct Listener::Impl : std::enable_shared_from_this<Listener::Impl> {
  Impl(ListenerOptions o, Handler h)
      : options(std::move(o)),
        handler(std::move(h)),
        budget(std::make_shared<Budget>(options.max_inflight_size)) {}

  void Accept();
  void AcceptPending();
  void Adopt(tcp::socket socket, Loop& loop);
  void Closed();
  // From any thread, also after the loops have ended: then the task is dropped.
  template <class F>
  void PostTo(Loop& loop, F task) {
    const std::lock_guard lock(post_mutex);
    if (!stopped) asio::post(loop.context, std::move(task));
  }
  Loop& NextLoop() { return *loops[next_loop++ % loops.size()]; }

  const ListenerOptions options;
  const Handler handler;
  const std::shared_ptr<Budget> budget;
  std::vector<std::unique_ptr<Loop>> loops;
  std::optional<tcp::acceptor> acceptor;
  std::optional<asio::steady_timer> retry;
  size_t next_loop = 0;
  int port = 0;
  std::atomic<bool> draining{false};
  bool accepting_done = false;  // under mutex
  std::atomic<int> open{0};
  std::mutex mutex;
  std::condition_variable all_closed;
  std::mutex post_mutex;
  bool stopped = false;  // under post_mutex
};

namespace {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(std::shared_ptr<Listener::Impl> server, Loop& loop, tcp::socket socket, bool refuse)
      : server_(std::move(server)), loop_(loop), socket_(std::move(socket)), refuse_(refuse) {
    if (loop_.connections.empty()) loop_.Tick();
    loop_.connections.insert(this);
  }
  ~Connection() {
    loop_.connections.erase(this);
    server_->Closed();
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  void Start() {
    error_code ec;
    socket_.set_option(tcp::no_delay(true), ec);
    NextRequest();
  }

  // Draining: whoever has not begun a request by then has none.
  void LeaveSoon(SteadyClock::time_point when) {
    if (phase_ == Phase::kIdle) deadline_ = std::min(deadline_, when);
  }
  void CheckDeadline(SteadyClock::time_point now) {
    if (now < deadline_) return;
    deadline_ = now + kTick;
    switch (phase_) {
      case Phase::kIdle:
        if (!BytesWaiting()) Close();
        return;
      case Phase::kHead:
      case Phase::kBody: {
        error_code ignored;
        socket_.cancel(ignored);
        return Refuse(408, "the request did not arrive in time");
      }
      default:
        return Close();
    }
  }
  void Close() {
    if (cancelled_) cancelled_->store(true, std::memory_order_relaxed);
    phase_ = Phase::kClosed;
    deadline_ = SteadyClock::time_point::max();
    error_code ec;
    socket_.shutdown(tcp::socket::shutdown_both, ec);
    socket_.close(ec);
    keep_ = nullptr;  // last: this may end here
  }

 private:
  enum class Phase : uint8_t { kIdle, kHead, kBody, kHandling, kWriting, kLingering, kClosed };
  using Parser = bhttp::request_parser<LeasedBody>;

  const ListenerOptions& options() const { return server_->options; }

  bool BytesWaiting() {
    char byte = 0;
    return ::recv(socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) > 0;
  }

  void NextRequest() {
    parser_.emplace();
    parser_->header_limit(uint32_t(options().max_header_size));
    parser_->body_limit(uint64_t(options().max_body_size));
    parser_->eager(false);
    parser_->get().body().lease = std::make_shared<Lease>(server_->budget);
    phase_ = Phase::kIdle;
    if (buffer_.size() == 0 && buffer_.capacity() > 2 * kBodyReadBytes) buffer_.shrink_to_fit();
    if (buffer_.size() > 0)
      Feed();
    else
      Read();
  }

  void Read() {
    const auto now = SteadyClock::now();
    if (phase_ == Phase::kIdle) {
      deadline_ = now + (server_->draining ? kDrainGrace : options().idle_timeout);
    } else if (phase_ == Phase::kHead) {
      deadline_ = request_start_ + options().read_timeout;
    } else {
      // The gap between two pieces is bounded, and so is the whole.
      deadline_ =
          std::min(now, request_start_ + std::chrono::seconds(received_ / kMinBytesPerSecond)) +
          options().read_timeout;
    }
    const size_t want = phase_ == Phase::kBody ? kBodyReadBytes : kReadBytes;
    socket_.async_read_some(
        buffer_.prepare(want),
        [self = shared_from_this()](error_code ec, size_t n) { self->OnRead(ec, n); });
  }

  void OnRead(error_code ec, size_t n) {
    if (phase_ != Phase::kIdle && phase_ != Phase::kHead && phase_ != Phase::kBody) return;
    if (ec) return Close();  // gone, perhaps in the middle of a request: nobody to answer
    buffer_.commit(n);
    Feed();
  }

  // Gives the parser what has arrived; handles the request or reads on.
  void Feed() {
    if (phase_ == Phase::kIdle) {
      phase_ = Phase::kHead;
      request_start_ = SteadyClock::now();
      received_ = 0;
    }
    for (;;) {
      error_code ec;
      const size_t used = parser_->put(buffer_.data(), ec);
      buffer_.consume(used);
      received_ += int64_t(used);
      if (ec && ec != bhttp::error::need_more) return RefuseParse(ec);
      if (phase_ == Phase::kHead && parser_->is_header_done()) {
        phase_ = Phase::kBody;
        if (!CheckHead()) return;
        parser_->eager(true);
        if (!parser_->is_done() && buffer_.size() > 0) continue;
      }
      if (parser_->is_done()) return HandleRequest();
      if (ec == bhttp::error::need_more || buffer_.size() == 0) return Read();
      if (used == 0) return Refuse(400, "malformed HTTP request");
    }
  }

  void RefuseParse(error_code ec) {
    if (ec == bhttp::error::header_limit || ec == bhttp::error::buffer_overflow) {
      if (phase_ == Phase::kHead)
        return Refuse(431,
                      fmt::format("request headers exceed the maximum allowed size of {} bytes",
                                  options().max_header_size));
      return Refuse(503, "too many request bytes are in progress, try again later");
    }
    if (ec == bhttp::error::body_limit)  // found while the headers are read, or in a chunk
      return RefuseSize(parser_->is_header_done() ? parser_->content_length() : boost::none);
    Refuse(400, fmt::format("malformed HTTP request: {}", ec.message()));
  }

  void RefuseSize(const boost::optional<uint64_t>& length) {
    Refuse(413, fmt::format("request body{} exceeds the maximum allowed size of {} bytes. Use "
                            "--http-max-body-size to increase the limit.",
                            length ? fmt::format(" of {} bytes", *length) : "",
                            options().max_body_size));
  }

  // What can be refused before the body is read. False: refused.
  bool CheckHead() {
    const auto& head = parser_->get();
    if (refuse_) {
      Refuse(503,
             fmt::format("too many connections, at most {} are served", options().max_connections));
      return false;
    }
    const boost::optional<uint64_t> length = parser_->content_length();
    if (length && *length > uint64_t(options().max_body_size)) {
      RefuseSize(length);
      return false;
    }
    const bool binary = head.count("Inference-Header-Content-Length") > 0;
    if (length && !binary && *length > uint64_t(options().max_json_size)) {
      Refuse(400,
             fmt::format("request JSON size of {} bytes exceeds the maximum allowed input size of "
                         "{} bytes. Use --http-max-input-size to increase the limit.",
                         *length, options().max_json_size));
      return false;
    }
    if (!binary) parser_->body_limit(uint64_t(options().max_json_size));
    if (!parser_->is_done() && EqualsIgnoreCase(View(head[bhttp::field::expect]), "100-continue")) {
      // Small enough for any socket's buffer, so it is written in place.
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      error_code ec;
      socket_.send(asio::buffer(kContinue.data(), kContinue.size()), 0, ec);
      if (ec) {
        Close();
        return false;
      }
    }
    return true;
  }

  void HandleRequest() {
    phase_ = Phase::kHandling;
    auto& message = parser_->get();
    keep_alive_ = message.keep_alive();
    Request request;
    request.method = std::string(View(message.method_string()));
    request.target = std::string(View(message.target()));
    for (const auto& field : message)
      request.headers.emplace_back(View(field.name_string()), View(field.value()));
    request.body = std::move(message.body().data);
    request.lease = std::move(message.body().lease);
    request.arrival = request_start_;
    request.cancelled = cancelled_ = std::make_shared<std::atomic<bool>>(false);
    deadline_ = SteadyClock::time_point::max();
    keep_ = shared_from_this();
    // Always by way of the loop, so that pipelined requests cannot pile up on the stack. A weak
    // pointer, so that a connection never ends on a thread of the handler's.
    server_->handler(std::move(request),
                     [server = server_, loop = &loop_, weak = weak_from_this()](Reply reply) {
                       server->PostTo(*loop, [weak, reply = std::move(reply)]() mutable {
                         if (auto self = weak.lock(); self && self->phase_ == Phase::kHandling)
                           self->Write(std::move(reply));
                       });
                     });
    WatchForHangUp();
  }

  // While a model runs nothing is read, so a client that goes would be noticed only when the answer
  // is written.
  void WatchForHangUp() {
    socket_.async_wait(tcp::socket::wait_read, [self = shared_from_this()](error_code ec) {
      if (ec || self->phase_ != Phase::kHandling) return;
      char byte = 0;
      if (::recv(self->socket_.native_handle(), &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0) return;
      self->cancelled_->store(true, std::memory_order_relaxed);
    });
  }

  void Write(Reply reply) {
    phase_ = Phase::kWriting;
    const auto self = shared_from_this();
    keep_ = nullptr;
    error_code ignored;
    socket_.cancel(ignored);  // the watch
    reply_ = std::move(reply);
    if (server_->draining) keep_alive_ = false;
    if (reply_.close) keep_alive_ = false;
    head_ = fmt::format("HTTP/1.1 {} {}\r\nContent-Length: {}\r\n", reply_.status,
                        ReasonPhrase(reply_.status), reply_.bytes());
    if (!reply_.content_type.empty())
      head_ += fmt::format("Content-Type: {}\r\n", reply_.content_type);
    for (const auto& [k, v] : reply_.headers) head_ += fmt::format("{}: {}\r\n", k, v);
    head_ += keep_alive_ ? "Connection: keep-alive\r\n\r\n" : "Connection: close\r\n\r\n";
    std::vector<asio::const_buffer> parts{asio::buffer(head_), asio::buffer(reply_.body)};
    for (const Tensor& t : reply_.tensors) parts.emplace_back(t.raw(), size_t(t.bytes()));
    deadline_ = SteadyClock::now() + options().read_timeout +
                std::chrono::seconds(int64_t(reply_.bytes()) / kMinBytesPerSecond);
    asio::async_write(socket_, std::move(parts),
                      [self](error_code ec, size_t) { self->OnWritten(ec); });
  }

  void OnWritten(error_code ec) {
    reply_ = {};
    cancelled_ = nullptr;
    if (phase_ != Phase::kWriting) return;
    if (ec) return Close();
    if (!keep_alive_) return Linger();
    NextRequest();
  }

  // An answer to a request that has not been read to its end; the connection goes after it.
  void Refuse(int status, std::string_view message) {
    keep_alive_ = false;
    parser_->get().body() = {};
    Reply reply = ErrorReply(status, message);
    reply.close = true;
    Write(std::move(reply));
  }

  // Closing with unread bytes resets the connection, and the reset may overtake the answer. So: no
  // more from us, and read until the client is done too, within bounds.
  void Linger() {
    phase_ = Phase::kLingering;
    error_code ec;
    socket_.shutdown(tcp::socket::shutdown_send, ec);
    linger_left_ = kLingerBytes;
    deadline_ = SteadyClock::now() + kLingerTime;
    Discard();
  }
  void Discard() {
    buffer_.clear();
    socket_.async_read_some(buffer_.prepare(kReadBytes),
                            [self = shared_from_this()](error_code ec, size_t n) {
                              if (ec || n >= self->linger_left_) return self->Close();
                              self->linger_left_ -= n;
                              self->Discard();
                            });
  }

  const std::shared_ptr<Listener::Impl> server_;
  Loop& loop_;
  tcp::socket socket_;
  boost::beast::flat_buffer buffer_;
  std::optional<Parser> parser_;
  Phase phase_ = Phase::kIdle;
  const bool refuse_;
  bool keep_alive_ = true;
  SteadyClock::time_point request_start_;
  SteadyClock::time_point deadline_ = SteadyClock::time_point::max();
  std::shared_ptr<Connection> keep_;  // while the handler has the request
  int64_t received_ = 0;
  size_t linger_left_ = 0;
  std::shared_ptr<std::atomic<bool>> cancelled_;
  Reply reply_;
  std::string head_;
};

void Loop::Tick() {
  tick.expires_after(kTick);
  tick.async_wait([this](error_code ec) {
    if (ec || connections.empty()) return;
    const auto now = SteadyClock::now();
    const std::set<Connection*> all = connections;  // closing takes them out
    for (Connection* c : all)
      if (connections.contains(c)) c->CheckDeadline(now);
    if (!connections.empty()) Tick();
  });
}

}  // namespace

void Listener::Impl::Accept() {
  Loop& loop = NextLoop();
  acceptor->async_accept(loop.context, [self = shared_from_this(), &loop](error_code ec,
                                                                          tcp::socket socket) {
    if (!self->acceptor->is_open()) return;
    if (ec) {
      // Out of file descriptors or memory: trying again at once would only burn a core.
      log::Warning("accept failed", {{"listener", self->options.name}, {"error", ec.message()}});
      self->retry->expires_after(std::chrono::milliseconds(100));
      self->retry->async_wait([self](error_code stop) {
        if (!stop && self->acceptor->is_open()) self->Accept();
      });
      return;
    }
    self->Adopt(std::move(socket), loop);
    self->Accept();
  });
}

void Listener::Impl::Adopt(tcp::socket socket, Loop& loop) {
  const int now_open = open.fetch_add(1) + 1;
  // A few more than are served get a word of refusal; a flood beyond that gets none.
  if (now_open > options.max_connections + std::max(16, options.max_connections / 8)) {
    socket.close();
    return Closed();
  }
  const bool refuse = now_open > options.max_connections;
  asio::post(loop.context,
             [self = shared_from_this(), &loop, refuse, s = std::move(socket)]() mutable {
               std::make_shared<Connection>(self, loop, std::move(s), refuse)->Start();
             });
}

// Takes what clients have been told is connected, then closes the door.
void Listener::Impl::AcceptPending() {
  error_code ec;
  acceptor->cancel(ec);
  acceptor->non_blocking(true, ec);
  for (;;) {
    Loop& loop = NextLoop();
    tcp::socket socket(loop.context);
    acceptor->accept(socket, ec);
    if (ec) break;
    Adopt(std::move(socket), loop);
  }
  acceptor->close(ec);
  retry->cancel();
  const std::lock_guard lock(mutex);
  accepting_done = true;
  all_closed.notify_all();
}

void Listener::Impl::Closed() {
  if (open.fetch_sub(1) != 1) return;
  const std::lock_guard lock(mutex);
  all_closed.notify_all();
}

Listener::Listener(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) {}

Result<std::unique_ptr<Listener>> Listener::Start(const ListenerOptions& options, Handler handler) {
  auto impl = std::make_shared<Impl>(options, std::move(handler));
  for (int i = 0; i < std::max(1, options.threads); ++i)
    impl->loops.push_back(std::make_unique<Loop>());
  error_code ec;
  const auto address = asio::ip::make_address(options.address, ec);
  if (ec)
    return Fail(Code::kInvalidArgument, "{} address '{}' is not an IP address", options.name,
                options.address);
  const tcp::endpoint endpoint(address, static_cast<unsigned short>(options.port));
  impl->acceptor.emplace(impl->loops[0]->context);
  impl->retry.emplace(impl->loops[0]->context);
  impl->acceptor->open(endpoint.protocol(), ec);
  if (!ec) impl->acceptor->set_option(tcp::acceptor::reuse_address(true), ec);
  if (!ec) impl->acceptor->bind(endpoint, ec);
  if (!ec) impl->acceptor->listen(tcp::acceptor::max_listen_connections, ec);
  if (ec)
    return Fail(Code::kUnavailable, "cannot listen on {}:{} for {}: {}", options.address,
                options.port, options.name, ec.message());
  impl->port = impl->acceptor->local_endpoint(ec).port();
  impl->Accept();
  for (auto& loop : impl->loops) {
    loop->thread = std::thread([&context = loop->context, name = "dunlin-" + options.name] {
      ::pthread_setname_np(::pthread_self(), name.substr(0, 15).c_str());
      const auto keep = asio::make_work_guard(context);
      for (;;) {
        try {
          context.run();
          return;
        } catch (const std::bad_alloc&) {
          // The handler's connection went with its frame; the others go on.
          log::Error("out of memory in an I/O thread");
        }
      }
    });
  }
  return std::unique_ptr<Listener>(new Listener(std::move(impl)));
}

Listener::~Listener() {
  for (auto& loop : impl_->loops) {
    asio::post(loop->context, [impl = impl_, l = loop.get()] {
      if (l == impl->loops[0].get()) {
        error_code ec;
        impl->acceptor->close(ec);
        impl->retry->cancel();
      }
      const std::set<Connection*> connections = l->connections;
      for (Connection* c : connections)
        if (l->connections.contains(c)) c->Close();
      l->context.stop();
    });
  }
  for (auto& loop : impl_->loops) loop->thread.join();
  {
    const std::lock_guard lock(impl_->post_mutex);
    impl_->stopped = true;
  }
  impl_->acceptor.reset();
  impl_->retry.reset();
  impl_->loops.clear();  // with the connections that handlers still held
}

int Listener::port() const { return impl_->port; }

void Listener::Drain() {
  impl_->draining = true;
  asio::post(impl_->loops[0]->context, [impl = impl_] { impl->AcceptPending(); });
  for (auto& loop : impl_->loops) {
    asio::post(loop->context, [l = loop.get()] {
      for (Connection* c : l->connections) c->LeaveSoon(SteadyClock::now() + kDrainGrace);
    });
  }
}

bool Listener::WaitUntilDrained(std::chrono::milliseconds timeout) {
  std::unique_lock lock(impl_->mutex);
  return impl_->all_closed.wait_for(
      lock, timeout, [this] { return impl_->accepting_done && impl_->open.load() == 0; });
}

}  // namespace dunlin::http
