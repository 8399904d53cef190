#include "http/load_client.h"

#include <sys/epoll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <optional>

#include "http/channel.h"
#include "http/message.h"

namespace dunlin::http {
namespace {

using Time = LoadClient::Time;
constexpr size_t kFirstBuffer = 16 << 10;  // holds every small answer
constexpr size_t kMaxHead = 64 << 10;
constexpr std::chrono::milliseconds kSweep{50};  // how late a timeout may be noticed

// The head of an answer, as far as a client must know it.
struct Head {
  size_t bytes = 0;  // with the empty line; 0: not all here yet
  int status = 0;
  std::optional<size_t> length;       // of the body
  std::optional<size_t> json_length;  // Inference-Header-Content-Length
  bool chunked = false, close = false;
};

bool Number(std::string_view text, std::optional<size_t>& to) {
  size_t value = 0;
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  to = value;
  return error == std::errc{} && at == text.data() + text.size();
}

bool ReadField(std::string_view name, std::string_view value, Head& head) {
  switch (name.size()) {  // most fields are told apart by their length
    case 14:
      return !EqualsIgnoreCase(name, "Content-Length") || Number(value, head.length);
    case 31:
      return !EqualsIgnoreCase(name, "Inference-Header-Content-Length") ||
             Number(value, head.json_length);
    case 17:
      if (EqualsIgnoreCase(name, "Transfer-Encoding"))
        head.chunked = EqualsIgnoreCase(value, "chunked");
      return true;
    case 10:
      if (EqualsIgnoreCase(name, "Connection")) head.close = EqualsIgnoreCase(value, "close");
      return true;
    default:
      return true;
  }
}

// False when it is no HTTP.
bool ReadHead(std::string_view in, Head& head) {
  constexpr std::string_view kBegin = "HTTP/1.";
  if (in.substr(0, kBegin.size()) != kBegin.substr(0, in.size())) return false;
  const size_t end = in.find("\r\n\r\n");
  if (end == std::string_view::npos) return in.size() < kMaxHead;
  std::string_view rest = in.substr(0, end + 2);
  std::optional<size_t> status;
  if (rest.size() < 14 || !Number(rest.substr(9, 3), status)) return false;
  head.close = rest[7] == '0';
  for (rest.remove_prefix(rest.find("\r\n") + 2); !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find("\r\n"));
    rest.remove_prefix(line.size() + 2);
    const size_t colon = line.find(':');
    if (colon == std::string_view::npos) return false;
    std::string_view value = line.substr(colon + 1);
    while (value.starts_with(' ')) value.remove_prefix(1);
    while (value.ends_with(' ')) value.remove_suffix(1);
    if (!ReadField(line.substr(0, colon), value, head)) return false;
  }
  head.status = int(*status);
  head.bytes = end + 4;
  if (head.status == 204 || head.status == 304) head.length = 0;
  return true;
}

// Takes the chunks that lie at `from` apart and their bytes together, in place. The size of the
// body when it is whole, nullopt when more must come; false in `valid` when it is no such encoding.
std::optional<size_t> Unchunk(char* from, size_t bytes, bool& valid) {
  const std::string_view in(from, bytes);
  std::vector<std::string_view> chunks;
  for (size_t at = 0;;) {
    const size_t line = in.find("\r\n", at);
    if (line == std::string_view::npos) return std::nullopt;
    size_t size = 0;
    const auto [end, error] = std::from_chars(from + at, from + line, size, 16);
    valid = error == std::errc{} && (end == from + line || *end == ';' || *end == ' ') &&
            size < (size_t{1} << 40);
    if (!valid) return std::nullopt;
    at = line + 2;
    if (size == 0) {  // trailer fields may follow, and an empty line
      if (in.substr(at, 2) != "\r\n" && in.find("\r\n\r\n", at) == std::string_view::npos)
        return std::nullopt;
      break;
    }
    if (in.size() < at + size + 2) return std::nullopt;
    chunks.push_back(in.substr(at, size));
    at += size + 2;
  }
  size_t total = 0;
  for (const std::string_view chunk : chunks) {
    std::memmove(from + total, chunk.data(), chunk.size());
    total += chunk.size();
  }
  return total;
}

// Bytes that grow without being cleared.
class InBuffer {
 public:
  char* data() { return bytes_.get(); }
  size_t size() const { return size_; }
  size_t room() const { return capacity_ - size_; }
  char* end() { return bytes_.get() + size_; }
  void Grow(size_t capacity) {
    if (capacity <= capacity_) return;
    std::unique_ptr<char[]> larger(new char[capacity + kBodyPadding]);
    if (size_ > 0) std::memcpy(larger.get(), bytes_.get(), size_);
    bytes_ = std::move(larger);
    capacity_ = capacity;
  }
  void Add(size_t bytes) { size_ += bytes; }
  void Clear() { size_ = 0; }

 private:
  std::unique_ptr<char[]> bytes_;
  size_t size_ = 0, capacity_ = 0;
};

struct Connection {
  Channel channel;
  bool busy = false;
  std::string_view out;  // what is left to send
  InBuffer in;
  Head head;
  Time deadline;
};

class HttpLoadClient final : public LoadClient {
 public:
  HttpLoadClient(Peer peer, const LoadOptions& options, int epoll)
      : peer_(std::move(peer)), options_(options), epoll_(epoll), connections_(options.slots) {}
  ~HttpLoadClient() override {
    connections_.clear();
    ::close(epoll_);
  }

  void Send(uint32_t slot, std::string_view request) override {
    Connection& c = connections_[slot];
    c.busy = true;
    c.out = request;
    c.in.Clear();
    c.head = {};
    c.deadline = Now() + options_.timeout;
    next_sweep_ = std::min(next_sweep_, c.deadline);
    Status status;
    if (c.channel.state() == Channel::State::kOpen)
      status = Write(c);
    else if (c.channel.state() == Channel::State::kClosed)
      status = c.channel.Open(peer_, epoll_, slot);
    // Told in Wait: whoever sends again from on_answer must not recurse.
    if (!status) failed_.emplace_back(slot, status.error());
  }

  void Wait(Time until, const OnAnswer& on_answer) override {
    for (auto& [slot, error] : std::exchange(failed_, {})) End(slot, on_answer, &error);
    const auto wait = std::min(until, next_sweep_) - Now();
    const auto ns =
        failed_.empty() ? std::max<int64_t>(0, std::chrono::nanoseconds(wait).count()) : 0;
    const timespec timeout{time_t(ns / 1'000'000'000), long(ns % 1'000'000'000)};  // NOLINT
    const int n = ::epoll_pwait2(epoll_, events_.data(), int(events_.size()), &timeout, nullptr);
    for (int i = 0; i < n; ++i)
      OnEvent(uint32_t(events_[size_t(i)].data.u64), events_[size_t(i)].events, on_answer);
    if (const Time now = Now(); now >= next_sweep_) Sweep(now, on_answer);
  }

 private:
  static Status Write(Connection& c) {
    while (!c.out.empty()) {
      const size_t n = TRY(c.channel.Write(c.out.data(), c.out.size()));
      if (n == 0) return {};
      c.out.remove_prefix(n);
    }
    return {};
  }

  void OnEvent(uint32_t slot, uint32_t events, const OnAnswer& on_answer) {
    Connection& c = connections_[slot];
    if (c.channel.state() == Channel::State::kClosed) return;
    if (!c.busy) return OnIdle(c);
    Status status =
        c.channel.state() == Channel::State::kOpen ? Status{} : c.channel.Advance(peer_);
    if (status && c.channel.state() != Channel::State::kOpen) return;
    if (status && !c.out.empty()) status = Write(c);
    // What a server says before it closes counts more than that writing to it failed.
    bool whole = false;
    if (c.channel.state() == Channel::State::kOpen) {
      const Status read = Read(c, (events & EPOLLRDHUP) != 0, whole);
      if (status) status = read;
    }
    if (whole)
      End(slot, on_answer, nullptr);
    else if (!status)
      End(slot, on_answer, &status.error());
  }

  // The server has closed an idle connection, or says what nobody asked for.
  void OnIdle(Connection& c) {
    char byte = 0;
    const auto n = c.channel.Read(&byte, 1);
    if (!n || *n > 0) c.channel.Close();
  }

  Status Read(Connection& c, bool ending, bool& whole) {
    const auto not_http = [] {
      return Fail(Code::kInternal, "receiving: the answer is not HTTP/1.1");
    };
    for (;;) {
      c.in.Grow(kFirstBuffer);
      if (c.in.room() == 0) c.in.Grow(2 * c.in.size());
      const size_t n = TRY(c.channel.Read(c.in.end(), c.in.room()));
      if (n == 0) return {};
      c.in.Add(n);
      if (c.head.bytes == 0) {
        if (!ReadHead({c.in.data(), c.in.size()}, c.head)) return not_http();
        if (c.head.bytes == 0) continue;
        if (!c.head.length && !c.head.chunked)
          return Fail(Code::kInternal, "receiving: the answer does not tell its length");
        if (ending) c.head.close = true;
      }
      size_t have = c.in.size() - c.head.bytes;
      if (c.head.chunked && !c.head.length) {
        bool valid = true;
        c.head.length = Unchunk(c.in.data() + c.head.bytes, have, valid);
        if (!valid) return not_http();
        if (c.head.length) have = *c.head.length;
      }
      if (int64_t(std::max(have, c.head.length.value_or(0))) > options_.max_answer_bytes)
        return Fail(Code::kResourceExhausted, "the answer is larger than {} bytes",
                    options_.max_answer_bytes);
      if (c.head.length && have >= *c.head.length) {
        whole = true;
        return {};
      }
      if (c.head.length) c.in.Grow(c.head.bytes + *c.head.length);
    }
  }

  void End(uint32_t slot, const OnAnswer& on_answer, const Error* failure) {
    Connection& c = connections_[slot];
    c.busy = false;
    LoadAnswer answer;
    answer.slot = slot;
    answer.at = Now();
    answer.failure = failure;
    if (failure == nullptr) {
      answer.status = c.head.status;
      answer.ok = answer.status == 200;
      answer.body = {c.in.data() + c.head.bytes, *c.head.length};
      answer.json_bytes = c.head.json_length.value_or(*c.head.length);
    }
    // A server that answers before it has the whole request will not read the rest of it.
    if (failure != nullptr || c.head.close || !c.out.empty()) c.channel.Close();
    on_answer(answer);
  }

  void Sweep(Time now, const OnAnswer& on_answer) {
    next_sweep_ = now + std::chrono::hours(1);
    const Error late{Code::kDeadlineExceeded,
                     fmt::format("no answer within {} ms", options_.timeout.count())};
    for (uint32_t slot = 0; slot < connections_.size(); ++slot) {
      if (connections_[slot].busy && connections_[slot].deadline <= now)
        End(slot, on_answer, &late);
      if (connections_[slot].busy)
        next_sweep_ = std::min(next_sweep_, std::max(connections_[slot].deadline, now + kSweep));
    }
  }

  Peer peer_;
  LoadOptions options_;
  int epoll_;
  std::vector<Connection> connections_;
  std::vector<std::pair<uint32_t, Error>> failed_;
  std::array<epoll_event, 256> events_;
  Time next_sweep_ = Time::max();
};

}  // namespace

Result<std::unique_ptr<LoadClient>> MakeHttpLoadClient(const ServerUrl& url,
                                                       const LoadOptions& options) {
  Peer peer = TRY(Peer::Find(url, options.tls, "http/1.1"));
  const int epoll = ::epoll_create1(EPOLL_CLOEXEC);
  if (epoll < 0) return Fail(Code::kResourceExhausted, "epoll: {}", std::strerror(errno));
  return std::make_unique<HttpLoadClient>(std::move(peer), options, epoll);
}

std::string HttpRequest(std::string_view method, std::string_view target, const ServerUrl& url,
                        const Headers& headers, std::string_view body) {
  std::string out = fmt::format("{} {} HTTP/1.1\r\n", method, target);
  const auto given = [&headers](std::string_view name) {
    return std::ranges::any_of(headers,
                               [name](const auto& h) { return EqualsIgnoreCase(h.first, name); });
  };
  if (!given("Host")) out += fmt::format("Host: {}\r\n", url.authority());
  if (!given("User-Agent")) out += "User-Agent: dunlin\r\n";
  for (const auto& [name, value] : headers) out += fmt::format("{}: {}\r\n", name, value);
  if (method == "POST") out += fmt::format("Content-Length: {}\r\n", body.size());
  out += "\r\n";
  out += body;
  return out;
}

}  // namespace dunlin::http
