#include "http/tls_client.h"

#include <arpa/inet.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>

namespace dunlin::http {

std::string TlsErrorText() {
  const unsigned long error = ERR_get_error();  // NOLINT(google-runtime-int): OpenSSL's type
  ERR_clear_error();
  const char* reason = error == 0 ? nullptr : ERR_reason_error_string(error);
  return reason == nullptr ? "unknown TLS error" : reason;
}

Result<TlsClient> TlsClient::Create(const TlsClientOptions& options, const std::string& protocol) {
  ERR_clear_error();
  TlsClient client;
  client.context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX* context = client.context_.get();
  if (context == nullptr) return Fail(Code::kInternal, "TLS: {}", TlsErrorText());
  SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION);
  SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER, nullptr);
  const std::string alpn = char(protocol.size()) + protocol;
  SSL_CTX_set_alpn_protos(context, reinterpret_cast<const unsigned char*>(alpn.data()),
                          unsigned(alpn.size()));
  const auto cannot_use = [](const char* what, const std::string& file) {
    return Fail(Code::kInvalidArgument, "{} '{}' cannot be used: {}", what, file, TlsErrorText());
  };
  if (options.ca_file.empty()) {
    SSL_CTX_set_default_verify_paths(context);
  } else if (SSL_CTX_load_verify_locations(context, options.ca_file.c_str(), nullptr) != 1) {
    return cannot_use("the authority's certificate", options.ca_file);
  }
  if (options.certificate.empty() != options.key.empty())
    return Fail(Code::kInvalidArgument, "a client's certificate and its key go together");
  if (!options.certificate.empty()) {
    if (SSL_CTX_use_certificate_chain_file(context, options.certificate.c_str()) != 1)
      return cannot_use("the certificate", options.certificate);
    if (SSL_CTX_use_PrivateKey_file(context, options.key.c_str(), SSL_FILETYPE_PEM) != 1)
      return cannot_use("the key", options.key);
  }
  return client;
}

TlsClient::Session TlsClient::Start(int fd, const std::string& host) const {
  Session session(SSL_new(context_.get()));
  if (session == nullptr) return session;
  in6_addr address;
  const bool is_address = inet_pton(AF_INET, host.c_str(), &address) == 1 ||
                          inet_pton(AF_INET6, host.c_str(), &address) == 1;
  if (is_address) {
    X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session.get()), host.c_str());
  } else {
    SSL_set1_host(session.get(), host.c_str());
    SSL_set_tlsext_host_name(session.get(), host.c_str());
  }
  SSL_set_fd(session.get(), fd);
  SSL_set_connect_state(session.get());
  return session;
}

}  // namespace dunlin::http
