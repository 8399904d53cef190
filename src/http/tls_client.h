// The client's end of TLS: one context for all connections to a server.
#pragma once

#include <openssl/ssl.h>

#include <memory>
#include <string>

#include "base/result.h"
#include "http/url.h"

namespace dunlin::http {

class TlsClient {
 public:
  struct Free {
    void operator()(SSL_CTX* c) const { SSL_CTX_free(c); }
    void operator()(SSL* s) const { SSL_free(s); }
  };
  using Session = std::unique_ptr<SSL, Free>;

  // TLS 1.2 or newer. `protocol` is offered by ALPN: "http/1.1" or "h2". kInvalidArgument names the
  // file that cannot be used.
  static Result<TlsClient> Create(const TlsClientOptions& options, const std::string& protocol);
  // For a connection to `host`, whose name or address the certificate must hold.
  Session Start(int fd, const std::string& host) const;

 private:
  std::unique_ptr<SSL_CTX, Free> context_;
};

// What OpenSSL last complained about, on this thread.
std::string TlsErrorText();

}  // namespace dunlin::http
