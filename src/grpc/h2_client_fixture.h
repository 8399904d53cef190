// For tests: an HTTP/2 client that does what no gRPC library would. nghttp2 reads and writes the
// frames; bytes of one's own can be sent in between.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

struct nghttp2_session;

namespace dunlin::grpc {

class H2Client {
 public:
  using Headers = std::vector<std::pair<std::string, std::string>>;
  struct Answer {
    std::map<std::string, std::string> headers;  // trailers, too
    std::string data;
    bool closed = false;
    uint32_t error = 0;  // of the stream's end
    std::string status() const {
      const auto it = headers.find("grpc-status");
      return it == headers.end() ? "" : it->second;
    }
    std::string message() const {
      const auto it = headers.find("grpc-message");
      return it == headers.end() ? "" : it->second;
    }
  };
  enum class Windows : bool { kOpen, kClosed };  // whether answers' bytes are asked for
  enum class End : bool { kNo, kYes };

  explicit H2Client(int port, Windows windows = Windows::kOpen);
  ~H2Client();
  H2Client(const H2Client&) = delete;
  H2Client& operator=(const H2Client&) = delete;

  // The usual headers and `more`, where a name of those takes another value; "" leaves it out.
  int32_t Begin(std::string_view path, const Headers& more = {}, End end = End::kNo);
  // DATA frames of at most `frame` bytes.
  void Send(int32_t stream, std::string_view bytes, End end, size_t frame = 16384);
  int32_t Call(std::string_view path, std::string_view message, const Headers& more = {});
  void Reset(int32_t stream);
  void Ping();
  void SendRaw(std::string_view bytes);
  // Until it is closed, the connection ends or nothing has come for so long.
  Answer& Wait(int32_t stream, std::chrono::milliseconds limit = std::chrono::seconds(20));
  // Reads what comes within the time; false once the connection has ended.
  bool Read(std::chrono::milliseconds limit);
  // Until the connection ends; false: it has not.
  bool WaitForEnd(std::chrono::milliseconds limit = std::chrono::seconds(20));

  Answer& answer(int32_t stream) { return answers_[stream]; }
  bool ended() const { return ended_; }
  int pings = 0;  // of the server
  bool answers_pings = true;
  std::vector<std::pair<uint32_t, std::string>> goaways;  // error and debug text
  std::vector<int32_t> last_streams;                      // of the goaways

 private:
  struct Body {
    std::string bytes;
    bool end = false;
    size_t frame = 0;
    size_t sent = 0;
  };
  struct Callbacks;
  void Flush();

  int fd_ = -1;
  bool ended_ = false;
  nghttp2_session* session_ = nullptr;
  std::map<int32_t, Answer> answers_;
  std::map<int32_t, Body> bodies_;
};

// A message behind its prefix.
std::string Framed(std::string_view message, bool compressed = false);

}  // namespace dunlin::grpc
