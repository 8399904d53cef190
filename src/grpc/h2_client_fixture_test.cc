#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <nghttp2/nghttp2.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>

#include "grpc/h2_client_fixture.h"

namespace dunlin::grpc {

std::string Framed(std::string_view message, bool compressed) {
  std::string out(1, char(compressed));
  for (const int shift : {24, 16, 8, 0}) out += char(message.size() >> shift);
  return out.append(message);
}

struct H2Client::Callbacks {
  static H2Client& Of(void* user) { return *static_cast<H2Client*>(user); }
  static int OnHeader(nghttp2_session*, const nghttp2_frame* frame, const uint8_t* name,
                      size_t name_bytes, const uint8_t* value, size_t value_bytes, uint8_t,
                      void* user) {
    Of(user)
        .answers_[frame->hd.stream_id]
        .headers[std::string(reinterpret_cast<const char*>(name), name_bytes)] =
        std::string(reinterpret_cast<const char*>(value), value_bytes);
    return 0;
  }
  static int OnData(nghttp2_session*, uint8_t, int32_t stream, const uint8_t* data, size_t bytes,
                    void* user) {
    Of(user).answers_[stream].data.append(reinterpret_cast<const char*>(data), bytes);
    return 0;
  }
  static int OnClose(nghttp2_session*, int32_t stream, uint32_t error, void* user) {
    Of(user).answers_[stream].closed = true;
    Of(user).answers_[stream].error = error;
    return 0;
  }
  static int OnFrame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    H2Client& c = Of(user);
    if (frame->hd.type == NGHTTP2_GOAWAY) {
      c.goaways.emplace_back(frame->goaway.error_code,
                             std::string(reinterpret_cast<const char*>(frame->goaway.opaque_data),
                                         frame->goaway.opaque_data_len));
      c.last_streams.push_back(frame->goaway.last_stream_id);
    }
    if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) == 0) {
      ++c.pings;
      if (c.answers_pings) nghttp2_submit_ping(session, NGHTTP2_FLAG_ACK, frame->ping.opaque_data);
    }
    return 0;
  }
  static ssize_t ReadBody(nghttp2_session*, int32_t stream, uint8_t* out, size_t length,
                          uint32_t* flags, nghttp2_data_source*, void* user) {
    Body& body = Of(user).bodies_[stream];
    const size_t n = std::min({length, body.frame, body.bytes.size() - body.sent});
    std::copy_n(body.bytes.data() + body.sent, n, out);
    body.sent += n;
    if (body.sent == body.bytes.size() && body.end) *flags |= NGHTTP2_DATA_FLAG_EOF;
    if (n == 0 && !body.end) return NGHTTP2_ERR_DEFERRED;
    return ssize_t(n);
  }
};

H2Client::H2Client(int port, Windows windows) {
  fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(uint16_t(port));
  ::inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
  EXPECT_EQ(::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  nghttp2_session_callbacks* callbacks = nullptr;
  nghttp2_session_callbacks_new(&callbacks);
  nghttp2_session_callbacks_set_on_header_callback(callbacks, Callbacks::OnHeader);
  nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, Callbacks::OnData);
  nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, Callbacks::OnClose);
  nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, Callbacks::OnFrame);
  nghttp2_option* option = nullptr;
  nghttp2_option_new(&option);
  nghttp2_option_set_no_auto_ping_ack(option, 1);
  nghttp2_option_set_no_auto_window_update(option, windows == Windows::kClosed);
  nghttp2_option_set_peer_max_concurrent_streams(option, 100'000);
  nghttp2_session_client_new2(&session_, callbacks, this, option);
  nghttp2_option_del(option);
  nghttp2_session_callbacks_del(callbacks);
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
  Flush();
}

H2Client::~H2Client() {
  nghttp2_session_del(session_);
  ::close(fd_);
}

void H2Client::SendRaw(std::string_view bytes) {
  while (!bytes.empty() && !ended_) {
    const ssize_t n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) {
      ended_ = true;
      return;
    }
    bytes.remove_prefix(size_t(n));
  }
}

void H2Client::Flush() {
  const uint8_t* data = nullptr;
  std::string all;
  for (ssize_t n = 0; (n = nghttp2_session_mem_send(session_, &data)) > 0;)
    all.append(reinterpret_cast<const char*>(data), size_t(n));
  SendRaw(all);
}

int32_t H2Client::Begin(std::string_view path, const Headers& more, End end) {
  Headers all = {{":method", "POST"},          {":scheme", "http"},
                 {":path", std::string(path)}, {":authority", "localhost"},
                 {"te", "trailers"},           {"content-type", "application/grpc"}};
  for (const auto& [name, value] : more) {
    const auto it =
        std::find_if(all.begin(), all.end(), [&n = name](const auto& h) { return h.first == n; });
    if (it == all.end())
      all.emplace_back(name, value);
    else if (value.empty())
      all.erase(it);
    else
      it->second = value;
  }
  std::vector<nghttp2_nv> headers;
  for (const auto& [name, value] : all) {
    const auto bytes = [](const std::string& s) {
      return reinterpret_cast<uint8_t*>(const_cast<char*>(s.data()));
    };
    headers.push_back({bytes(name), bytes(value), name.size(), value.size(), NGHTTP2_NV_FLAG_NONE});
  }
  nghttp2_data_provider body{.source = {}, .read_callback = Callbacks::ReadBody};
  const int32_t stream = nghttp2_submit_request(session_, nullptr, headers.data(), headers.size(),
                                                end == End::kYes ? nullptr : &body, nullptr);
  EXPECT_GT(stream, 0);
  bodies_[stream].frame = 16384;
  Flush();
  return stream;
}

void H2Client::Send(int32_t stream, std::string_view bytes, End end, size_t frame) {
  Body& body = bodies_[stream];
  body.bytes += bytes;
  body.end = end == End::kYes;
  body.frame = frame;
  nghttp2_session_resume_data(session_, stream);
  Flush();
}

int32_t H2Client::Call(std::string_view path, std::string_view message, const Headers& more) {
  const int32_t stream = Begin(path, more);
  Send(stream, Framed(message), End::kYes);
  return stream;
}

void H2Client::Reset(int32_t stream) {
  nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream, NGHTTP2_CANCEL);
  Flush();
}

void H2Client::Ping() {
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
  Flush();
}

bool H2Client::Read(std::chrono::milliseconds limit) {
  pollfd p{.fd = fd_, .events = POLLIN, .revents = 0};
  if (ended_ || ::poll(&p, 1, int(limit.count())) <= 0) return !ended_;
  char data[65536];
  const ssize_t n = ::recv(fd_, data, sizeof data, 0);
  if (n <= 0 || nghttp2_session_mem_recv(session_, reinterpret_cast<uint8_t*>(data), size_t(n)) < 0)
    ended_ = true;
  else
    Flush();
  return !ended_;
}

H2Client::Answer& H2Client::Wait(int32_t stream, std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!answers_[stream].closed && std::chrono::steady_clock::now() < end &&
         Read(std::chrono::milliseconds(50))) {
  }
  return answers_[stream];
}

bool H2Client::WaitForEnd(std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (std::chrono::steady_clock::now() < end)
    if (!Read(std::chrono::milliseconds(50))) return true;
  return false;
}

}  // namespace dunlin::grpc
