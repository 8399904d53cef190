// Certificates and keys of a TLS server: read from files, checked before they are used, read again
// on request. Both front ends take theirs from here; what a handshake looks like is their business.
#pragma once

#include <memory>
#include <mutex>
#include <string>

#include "base/result.h"

struct ssl_ctx_st;  // OpenSSL's SSL_CTX
struct ssl_st;      // SSL

namespace dunlin {

struct TlsFiles {
  std::string certificate;  // PEM, the server's own first, then those that signed it
  std::string key;          // PEM, without a passphrase; not readable by others
  std::string client_ca{};  // PEM; "": clients are not asked for certificates
  bool require_client = false;
  std::string protocol{};  // the one that is agreed to when clients offer some (ALPN); "": any
};

class TlsServer {
 public:
  // kNotFound, kInvalidArgument: which file, and what is wrong with it.
  static Result<std::unique_ptr<TlsServer>> Create(TlsFiles files);

  // TLS 1.2 and 1.3 only, forward secret ciphers, no renegotiation, no compression. For SSL_new;
  // connections keep what they began with. Thread-safe.
  std::shared_ptr<ssl_ctx_st> context() const;
  const TlsFiles& files() const { return files_; }
  // Reads the files again; when something is wrong with them the old ones stay in use.
  Status Reload();

 private:
  explicit TlsServer(TlsFiles files) : files_(std::move(files)) {}
  const TlsFiles files_;
  mutable std::mutex mutex_;
  std::shared_ptr<ssl_ctx_st> context_;  // under mutex_
};

// The names a client's verified certificate goes by, one per line: the subject's common name and
// the DNS, URI and e-mail alternative names. "" without a verified certificate.
std::string PeerIdentity(const ssl_st* connection);

}  // namespace dunlin
