// What the headers of a gRPC call say, and what goes into those of its answer. No transport.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serve/infer.h"

namespace dunlin::grpc {

enum class Encoding : uint8_t { kIdentity, kGzip, kDeflate, kUnknown };
std::string_view EncodingName(Encoding encoding);
Encoding ParseEncoding(std::string_view name);
// The one of gzip and deflate that grpc-accept-encoding names; kIdentity when neither.
Encoding ChooseEncoding(std::string_view accepted);
inline constexpr std::string_view kAcceptedEncodings = "identity, deflate, gzip";

// "100m": up to eight digits and a unit of H M S m u n. Nothing: it makes no sense.
std::optional<std::chrono::nanoseconds> ParseTimeout(std::string_view text);
// "application/grpc", with "+proto" or parameters.
bool IsGrpcContentType(std::string_view type);
// As grpc-message has it.
std::string PercentEncode(std::string_view text);

// The client's own headers, in the order of their arrival.
class Metadata {
 public:
  void Add(std::string_view name, std::string_view value);
  // The first of that name, "" when there is none. Names are in lower case.
  std::string_view Get(std::string_view name) const;
  template <class F>
  void ForEach(F&& f) const {
    for (const Entry& e : entries_) f(Name(e), Value(e));
  }
  void clear() {
    text_.clear();
    entries_.clear();
  }

 private:
  struct Entry {
    uint32_t name, value, end;  // places in text_
  };
  std::string_view Name(const Entry& e) const {
    return std::string_view(text_).substr(e.name, e.value - e.name);
  }
  std::string_view Value(const Entry& e) const {
    return std::string_view(text_).substr(e.value, e.end - e.value);
  }
  std::string text_;
  std::vector<Entry> entries_;
};

// The head of a call, as its headers arrive.
struct CallHead {
  std::string path;
  bool is_post = false, is_grpc = false;
  std::optional<std::chrono::nanoseconds> timeout;
  bool bad_timeout = false;
  Encoding encoding = Encoding::kIdentity;        // of the client's messages
  Encoding reply_encoding = Encoding::kIdentity;  // the best it accepts
  Metadata metadata;
  size_t bytes = 0;  // as HTTP/2 counts them against its limit

  void Add(std::string_view name, std::string_view value);
};

}  // namespace dunlin::grpc
