// Where a server is, as a person writes it: SCHEME://HOST[:PORT]; and how it proves who it is.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace dunlin::http {

enum class Scheme : uint8_t { kHttp, kHttps, kGrpc, kGrpcs };

struct ServerUrl {
  Scheme scheme = Scheme::kHttp;
  std::string host;  // without the brackets of an IPv6 address
  std::string port;

  bool tls() const { return scheme == Scheme::kHttps || scheme == Scheme::kGrpcs; }
  bool grpc() const { return scheme == Scheme::kGrpc || scheme == Scheme::kGrpcs; }
  std::string authority() const;  // "host:port", brackets included
};

// Without a scheme it is http; without a port 8000, or 8001 for gRPC, where such servers listen, or
// 443 for https and grpcs. kInvalidArgument: anything else, a path included.
Result<ServerUrl> ParseServerUrl(const std::string& url);

struct TlsClientOptions {
  std::string ca_file;           // whom to believe; empty: the system's authorities
  std::string certificate, key;  // what the client shows of itself (PEM); both or neither
};

}  // namespace dunlin::http
