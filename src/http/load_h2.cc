#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>

#include "http/channel.h"
#include "http/load_client.h"

namespace dunlin::http {
namespace {

using Time = LoadClient::Time;
// As many calls share a connection; servers often allow 100, and one connection has one thread
// there.
constexpr size_t kStreams = 16;
constexpr std::chrono::milliseconds kSweep{50};  // how late a timeout may be noticed
constexpr size_t kPrefix = 5;                    // before each message: compressed?, length
constexpr int kUnknownStatus = 2;                // gRPC's UNKNOWN

struct Stream {
  bool busy = false;
  int32_t id = -1;
  std::string_view out;  // what is left of the message
  std::string in;        // prefix and message
  int http_status = 0, grpc_status = -1;
  std::string grpc_message;
  Time deadline;
};

class GrpcLoadClient;

struct SessionFree {
  void operator()(nghttp2_session* s) const { nghttp2_session_del(s); }
};

struct Connection {
  GrpcLoadClient* client = nullptr;
  uint32_t number = 0;
  Channel channel;
  std::unique_ptr<nghttp2_session, SessionFree> session;
  const uint8_t* out = nullptr;  // of nghttp2's, not sent yet
  size_t out_bytes = 0;
};

// "%C3%BC" → "ü", as gRPC encodes messages in headers.
std::string Unescaped(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    int code = 0;
    if (text[i] == '%' && i + 2 < text.size() &&
        std::from_chars(text.data() + i + 1, text.data() + i + 3, code, 16).ptr ==
            text.data() + i + 3) {
      out += char(code);
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::string_view View(const uint8_t* data, size_t bytes) {
  return {reinterpret_cast<const char*>(data), bytes};
}

class GrpcLoadClient final : public LoadClient {
 public:
  GrpcLoadClient(Peer peer, const LoadOptions& options, Headers headers, int epoll)
      : peer_(std::move(peer)),
        options_(options),
        headers_(std::move(headers)),
        epoll_(epoll),
        streams_(options.slots),
        connections_((options.slots + kStreams - 1) / kStreams) {
    for (size_t i = 0; i < connections_.size(); ++i) {
      connections_[i].client = this;
      connections_[i].number = uint32_t(i);
    }
    scheme_ = peer_.url.tls() ? "https" : "http";
    authority_ = peer_.url.authority();
    nghttp2_session_callbacks_new(&callbacks_);
    nghttp2_session_callbacks_set_on_header_callback(callbacks_, OnHeader);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks_, OnData);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks_, OnClose);
  }
  ~GrpcLoadClient() override {
    connections_.clear();
    nghttp2_session_callbacks_del(callbacks_);
    ::close(epoll_);
  }

  void Send(uint32_t slot, std::string_view request) override {
    Connection& c = ConnectionOf(slot);
    Stream& s = streams_[slot];
    const size_t path_end = request.find('\n');
    path_ = request.substr(0, path_end);
    s.busy = true;
    s.out = request.substr(path_end + 1);
    s.in.clear();
    s.http_status = 0;
    s.grpc_status = -1;
    s.grpc_message.clear();
    s.deadline = Now() + options_.timeout;
    next_sweep_ = std::min(next_sweep_, s.deadline);
    if (c.channel.state() == Channel::State::kClosed) {
      if (const Status opened = Open(c); !opened) return FailLater(slot, opened.error());
    }
    nghttp2_data_provider body{};
    body.read_callback = ReadBody;
    s.id = nghttp2_submit_request(c.session.get(), nullptr, Fields().data(), fields_.size(), &body,
                                  &s);
    if (s.id < 0)
      return FailLater(slot, {Code::kInternal, fmt::format("sending: {}", nghttp2_strerror(s.id))});
    // Calls that are begun while answers are read go out together after that.
    if (!reading_ && c.channel.state() == Channel::State::kOpen)
      if (const Status written = Write(c); !written) Break(c, written.error());
  }

  void Wait(Time until, const OnAnswer& on_answer) override {
    on_answer_ = &on_answer;
    for (auto& [slot, error] : std::exchange(failed_, {})) End(streams_[slot], &error);
    const auto wait = std::min(until, next_sweep_) - Now();
    const auto ns =
        failed_.empty() ? std::max<int64_t>(0, std::chrono::nanoseconds(wait).count()) : 0;
    const timespec timeout{time_t(ns / 1'000'000'000), long(ns % 1'000'000'000)};  // NOLINT
    const int n = ::epoll_pwait2(epoll_, events_.data(), int(events_.size()), &timeout, nullptr);
    for (int i = 0; i < n; ++i)
      OnEvent(connections_[events_[size_t(i)].data.u64],
              (events_[size_t(i)].events & EPOLLRDHUP) != 0);
    if (const Time now = Now(); now >= next_sweep_) Sweep(now);
  }

 private:
  Connection& ConnectionOf(uint32_t slot) { return connections_[slot % connections_.size()]; }
  uint32_t SlotOf(const Stream& s) const { return uint32_t(&s - streams_.data()); }
  void FailLater(uint32_t slot, Error error) { failed_.emplace_back(slot, std::move(error)); }

  std::vector<nghttp2_nv>& Fields() {
    fields_.clear();
    const auto add = [this](std::string_view name, std::string_view value) {
      const auto bytes = [](std::string_view text) {
        return const_cast<uint8_t*>(reinterpret_cast<const uint8_t*>(text.data()));
      };
      fields_.push_back(
          {bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
    };
    add(":method", "POST");
    add(":scheme", scheme_);
    add(":path", path_);
    add(":authority", authority_);
    add("te", "trailers");
    add("content-type", "application/grpc");
    add("user-agent", "dunlin");
    for (const auto& [name, value] : headers_) add(name, value);
    return fields_;
  }

  Status Open(Connection& c) {
    nghttp2_session* session = nullptr;
    nghttp2_session_client_new(&session, callbacks_, &c);
    c.session.reset(session);
    c.out_bytes = 0;
    // Answers are read as they come: windows need not hold them back.
    const nghttp2_settings_entry settings[] = {{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
                                               {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, 0x7fffffff}};
    nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, std::size(settings));
    nghttp2_session_set_local_window_size(session, NGHTTP2_FLAG_NONE, 0, 0x7fffffff);
    return c.channel.Open(peer_, epoll_, c.number);
  }

  Status Write(Connection& c) {
    for (;;) {
      while (c.out_bytes > 0) {
        const size_t n = TRY(c.channel.Write(reinterpret_cast<const char*>(c.out), c.out_bytes));
        if (n == 0) return {};
        c.out += n;
        c.out_bytes -= n;
      }
      const ssize_t n = nghttp2_session_mem_send(c.session.get(), &c.out);
      if (n < 0) return Fail(Code::kInternal, "sending: {}", nghttp2_strerror(int(n)));
      if (n == 0) return {};
      c.out_bytes = size_t(n);
    }
  }

  Status Read(Connection& c, bool ending) {
    for (;;) {
      const size_t n = TRY(c.channel.Read(in_.data(), in_.size()));
      if (n == 0) return {};
      const ssize_t taken = nghttp2_session_mem_recv(
          c.session.get(), reinterpret_cast<const uint8_t*>(in_.data()), n);
      if (taken < 0)
        return Fail(Code::kInternal, "receiving: the answer is not HTTP/2: {}",
                    nghttp2_strerror(int(taken)));
      if (n < in_.size() && !peer_.tls && !ending) return {};
    }
  }

  void OnEvent(Connection& c, bool ending) {
    if (c.channel.state() == Channel::State::kClosed) return;
    Status status =
        c.channel.state() == Channel::State::kOpen ? Status{} : c.channel.Advance(peer_);
    if (status && c.channel.state() != Channel::State::kOpen) return;
    if (status) {
      reading_ = true;
      status = Read(c, ending);
      reading_ = false;
    }
    if (c.channel.state() != Channel::State::kOpen) return;
    if (status) status = Write(c);
    if (status && nghttp2_session_want_read(c.session.get()) == 0)
      status = Fail(Code::kUnavailable, "receiving: the server ended the connection");
    if (!status) Break(c, status.error());
  }

  // The connection is over, and with it all calls on it.
  void Break(Connection& c, const Error& error) {
    c.channel.Close();
    std::vector<Stream*> lost;
    for (uint32_t slot = c.number; slot < streams_.size(); slot += uint32_t(connections_.size()))
      if (streams_[slot].busy) lost.push_back(&streams_[slot]);
    for (Stream* s : lost) s->busy = false;
    for (Stream* s : lost) FailLater(SlotOf(*s), error);
  }

  void Sweep(Time now) {
    next_sweep_ = now + std::chrono::hours(1);
    const Error late{Code::kDeadlineExceeded,
                     fmt::format("no answer within {} ms", options_.timeout.count())};
    for (Stream& s : streams_) {
      Connection& c = ConnectionOf(SlotOf(s));
      if (s.busy && s.deadline <= now && c.channel.state() != Channel::State::kOpen) {
        Break(c, late);
      } else if (s.busy && s.deadline <= now) {
        nghttp2_submit_rst_stream(c.session.get(), NGHTTP2_FLAG_NONE, s.id, NGHTTP2_CANCEL);
        nghttp2_session_set_stream_user_data(c.session.get(), s.id, nullptr);
        End(s, &late);
      }
      if (s.busy) next_sweep_ = std::min(next_sweep_, std::max(s.deadline, now + kSweep));
    }
  }

  void End(Stream& s, const Error* failure) {
    s.busy = false;
    LoadAnswer answer;
    answer.slot = SlotOf(s);
    answer.at = Now();
    Error mistake{Code::kInternal, ""};
    if (failure == nullptr && s.http_status != 200)
      mistake.message = fmt::format("the server answers with HTTP status {}", s.http_status);
    else if (failure == nullptr && s.grpc_status < 0)
      mistake.message = "the server broke the call off";
    else if (failure == nullptr && s.grpc_status == 0 && !IsWhole(s.in))
      mistake.message = "the answer is no whole message, or compressed";
    answer.failure = failure == nullptr && !mistake.message.empty() ? &mistake : failure;
    if (answer.failure == nullptr) {
      answer.status = s.grpc_status;
      answer.ok = s.grpc_status == 0;
      answer.body = answer.ok ? std::string_view(s.in).substr(kPrefix) : s.grpc_message;
      answer.json_bytes = answer.body.size();
    }
    (*on_answer_)(answer);
  }

  static bool IsWhole(std::string_view in) {
    if (in.size() < kPrefix || in[0] != 0) return false;
    size_t bytes = 0;
    for (size_t i = 1; i < kPrefix; ++i) bytes = bytes << 8 | static_cast<unsigned char>(in[i]);
    return bytes == in.size() - kPrefix;
  }

  // nghttp2's callbacks. A stream without user data has been given up.
  static Stream* StreamOf(nghttp2_session* session, int32_t id) {
    return static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, id));
  }
  static ssize_t ReadBody(nghttp2_session* session, int32_t id, uint8_t* to, size_t most,
                          uint32_t* flags, nghttp2_data_source*, void*) {
    Stream* s = StreamOf(session, id);
    if (s == nullptr) return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
    const size_t n = std::min(most, s->out.size());
    std::memcpy(to, s->out.data(), n);
    s->out.remove_prefix(n);
    if (s->out.empty()) *flags |= NGHTTP2_DATA_FLAG_EOF;
    return ssize_t(n);
  }
  static int OnHeader(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_bytes, const uint8_t* value, size_t value_bytes, uint8_t, void*) {
    Stream* s = StreamOf(session, frame->hd.stream_id);
    if (s == nullptr) return 0;
    const std::string_view key = View(name, name_bytes), text = View(value, value_bytes);
    const auto number = [text](int otherwise) {
      int n = otherwise;
      std::from_chars(text.data(), text.data() + text.size(), n);
      return n;
    };
    if (key == ":status") s->http_status = number(0);
    if (key == "grpc-status") s->grpc_status = number(kUnknownStatus);
    if (key == "grpc-message") s->grpc_message = Unescaped(text);
    return 0;
  }
  static int OnData(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* data,
                    size_t bytes, void* user) {
    Stream* s = StreamOf(session, id);
    if (s == nullptr) return 0;
    GrpcLoadClient& self = *static_cast<Connection*>(user)->client;
    if (int64_t(s->in.size() + bytes) > self.options_.max_answer_bytes)
      return NGHTTP2_ERR_CALLBACK_FAILURE;
    s->in.append(View(data, bytes));
    return 0;
  }
  static int OnClose(nghttp2_session* session, int32_t id, uint32_t, void* user) {
    Stream* s = StreamOf(session, id);
    if (s != nullptr && s->busy) static_cast<Connection*>(user)->client->End(*s, nullptr);
    return 0;
  }

  Peer peer_;
  LoadOptions options_;
  Headers headers_;
  int epoll_;
  std::string scheme_, authority_;
  std::string_view path_;
  std::vector<nghttp2_nv> fields_;
  nghttp2_session_callbacks* callbacks_ = nullptr;
  std::vector<Stream> streams_;
  std::vector<Connection> connections_;
  std::vector<std::pair<uint32_t, Error>> failed_;
  const OnAnswer* on_answer_ = nullptr;
  std::array<epoll_event, 64> events_;
  std::array<char, 64 << 10> in_;
  bool reading_ = false;
  Time next_sweep_ = Time::max();
};

}  // namespace

Result<std::unique_ptr<LoadClient>> MakeGrpcLoadClient(const ServerUrl& url,
                                                       const LoadOptions& options,
                                                       const Headers& headers) {
  Peer peer = TRY(Peer::Find(url, options.tls, "h2"));
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return Fail(Code::kResourceExhausted, "epoll: {}", std::strerror(errno));
  return std::make_unique<GrpcLoadClient>(std::move(peer), options, headers, epoll);
}

std::string GrpcRequest(std::string_view path, std::string_view message) {
  std::string out = fmt::format("{}\n", path);
  out += '\0';
  for (const int shift : {24, 16, 8, 0}) out += char(message.size() >> shift);
  out += message;
  return out;
}

}  // namespace dunlin::http
