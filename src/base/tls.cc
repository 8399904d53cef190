#include "base/tls.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <utility>

#include "base/secret.h"

namespace dunlin {
namespace {

template <auto kFree>
struct Deleter {
  template <class T>
  void operator()(T* p) const {
    kFree(p);
  }
};
using Bio = std::unique_ptr<BIO, Deleter<BIO_free>>;
using Certificate = std::unique_ptr<X509, Deleter<X509_free>>;
using Key = std::unique_ptr<EVP_PKEY, Deleter<EVP_PKEY_free>>;

// Forward secret and authenticated encryption; TLS 1.3 has only such.
constexpr const char* kCiphers = "ECDHE+AESGCM:ECDHE+CHACHA20:!aNULL";

std::string LastError() {
  const unsigned long error = ERR_peek_last_error();
  ERR_clear_error();
  const char* reason = ERR_reason_error_string(error);
  return reason != nullptr ? reason : "unknown reason";
}

Bio Over(const std::string& text) { return Bio(BIO_new_mem_buf(text.data(), int(text.size()))); }

Status CheckDates(const std::string& file, const X509* certificate) {
  if (X509_cmp_current_time(X509_get0_notAfter(certificate)) < 0)
    return Fail(Code::kInvalidArgument, "the certificate in {} has expired", file);
  if (X509_cmp_current_time(X509_get0_notBefore(certificate)) > 0)
    return Fail(Code::kInvalidArgument, "the certificate in {} is not valid yet", file);
  return {};
}

// A passphrase would be asked for on the terminal.
int NoPassphrase(char*, int, int, void*) { return 0; }

Status UseCertificates(SSL_CTX* context, const TlsFiles& files, const std::string& certificate,
                       const std::string& key_text) {
  const Bio chain = Over(certificate);
  bool first = true;
  while (Certificate c{PEM_read_bio_X509(chain.get(), nullptr, NoPassphrase, nullptr)}) {
    if (first) {
      TRY(CheckDates(files.certificate, c.get()));
      if (SSL_CTX_use_certificate(context, c.get()) != 1)
        return Fail(Code::kInvalidArgument, "cannot use the certificate in {}: {}",
                    files.certificate, LastError());
    } else if (SSL_CTX_add1_chain_cert(context, c.get()) != 1) {
      return Fail(Code::kInvalidArgument, "cannot use the chain in {}: {}", files.certificate,
                  LastError());
    }
    first = false;
  }
  if (first)
    return Fail(Code::kInvalidArgument, "{} holds no certificate in PEM form", files.certificate);
  ERR_clear_error();  // that no more follow
  const Key key{PEM_read_bio_PrivateKey(Over(key_text).get(), nullptr, NoPassphrase, nullptr)};
  if (!key) {
    ERR_clear_error();
    return Fail(Code::kInvalidArgument,
                "{} holds no private key in PEM form that opens without a passphrase", files.key);
  }
  if (SSL_CTX_use_PrivateKey(context, key.get()) != 1 || SSL_CTX_check_private_key(context) != 1) {
    ERR_clear_error();
    return Fail(Code::kInvalidArgument, "the key in {} is not that of the certificate in {}",
                files.key, files.certificate);
  }
  return {};
}

Status UseClientCa(SSL_CTX* context, const TlsFiles& files, const std::string& certificates) {
  const Bio in = Over(certificates);
  int count = 0;
  while (Certificate c{PEM_read_bio_X509(in.get(), nullptr, NoPassphrase, nullptr)}) {
    TRY(CheckDates(files.client_ca, c.get()));
    if (X509_STORE_add_cert(SSL_CTX_get_cert_store(context), c.get()) != 1 ||
        SSL_CTX_add_client_CA(context, c.get()) != 1)
      return Fail(Code::kInvalidArgument, "cannot use a certificate in {}: {}", files.client_ca,
                  LastError());
    ++count;
  }
  ERR_clear_error();
  if (count == 0)
    return Fail(Code::kInvalidArgument, "{} holds no certificate in PEM form", files.client_ca);
  SSL_CTX_set_verify(context,
                     SSL_VERIFY_PEER | (files.require_client ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                     nullptr);
  return {};
}

// A client that offers protocols and not ours would not understand us.
int SelectProtocol(SSL*, const unsigned char** out, unsigned char* out_length,
                   const unsigned char* offered, unsigned int offered_length, void* protocol) {
  const auto& ours = *static_cast<const std::string*>(protocol);
  for (unsigned int at = 0; at < offered_length; at += 1 + offered[at]) {
    const unsigned int length = offered[at];
    if (at + 1 + length > offered_length) break;
    if (ours == std::string_view(reinterpret_cast<const char*>(offered) + at + 1, length)) {
      *out = offered + at + 1;
      *out_length = static_cast<unsigned char>(length);
      return SSL_TLSEXT_ERR_OK;
    }
  }
  return SSL_TLSEXT_ERR_ALERT_FATAL;
}

Result<std::shared_ptr<SSL_CTX>> Load(const TlsFiles& files) {
  if (files.certificate.empty() || files.key.empty())
    return Fail(Code::kInvalidArgument, "TLS needs both a certificate file and a key file");
  if (files.require_client && files.client_ca.empty())
    return Fail(Code::kInvalidArgument,
                "client certificates are required, but no file of certificates that sign them is "
                "given");
  const std::string certificate = TRY(ReadSmallFile(files.certificate));
  const std::string key = TRY(ReadSecretFile(files.key));
  const std::string client_ca =
      files.client_ca.empty() ? std::string() : TRY(ReadSmallFile(files.client_ca));
  ERR_clear_error();
  std::shared_ptr<SSL_CTX> loaded(SSL_CTX_new(TLS_server_method()), SSL_CTX_free);
  SSL_CTX* const context = loaded.get();
  if (context == nullptr || SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION) != 1 ||
      SSL_CTX_set_cipher_list(context, kCiphers) != 1)
    return Fail(Code::kInternal, "cannot set up TLS: {}", LastError());
  SSL_CTX_set_options(
      context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE);
  // Idle connections are many; their buffers can be had again.
  SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
  // Sessions of one context, whoever asks for client certificates, belong together.
  static constexpr unsigned char kSessions[] = "dunlin";
  SSL_CTX_set_session_id_context(context, kSessions, sizeof kSessions - 1);
  TRY(UseCertificates(context, files, certificate, key));
  if (!files.client_ca.empty()) TRY(UseClientCa(context, files, client_ca));
  if (!files.protocol.empty())
    SSL_CTX_set_alpn_select_cb(context, SelectProtocol, const_cast<std::string*>(&files.protocol));
  return loaded;
}

void AddName(std::string& names, const ASN1_STRING* text) {
  unsigned char* utf8 = nullptr;
  const int n = ASN1_STRING_to_UTF8(&utf8, text);
  if (n < 0) return;
  const std::string_view name(reinterpret_cast<const char*>(utf8), size_t(n));
  // A name with a line break or a NUL would be read as another one.
  if (n > 0 && name.find_first_of(std::string_view("\n\r\0", 3)) == std::string_view::npos) {
    if (!names.empty()) names += '\n';
    names += name;
  }
  OPENSSL_free(utf8);
}

}  // namespace

Result<std::unique_ptr<TlsServer>> TlsServer::Create(TlsFiles files) {
  std::unique_ptr<TlsServer> server(new TlsServer(std::move(files)));
  TRY(server->Reload());
  return server;
}

Status TlsServer::Reload() {
  std::shared_ptr<SSL_CTX> context = TRY(Load(files_));
  const std::lock_guard lock(mutex_);
  context_ = std::move(context);
  return {};
}

std::shared_ptr<ssl_ctx_st> TlsServer::context() const {
  const std::lock_guard lock(mutex_);
  return context_;
}

std::string PeerIdentity(const ssl_st* connection) {
  std::string names;
  const Certificate peer{SSL_get1_peer_certificate(connection)};
  if (!peer || SSL_get_verify_result(connection) != X509_V_OK) return names;
  const X509_NAME* subject = X509_get_subject_name(peer.get());
  for (int i = -1; (i = X509_NAME_get_index_by_NID(subject, NID_commonName, i)) >= 0;)
    AddName(names, X509_NAME_ENTRY_get_data(X509_NAME_get_entry(subject, i)));
  using Names = std::unique_ptr<GENERAL_NAMES, Deleter<GENERAL_NAMES_free>>;
  const Names others{static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(peer.get(), NID_subject_alt_name, nullptr, nullptr))};
  for (int i = 0; others && i < sk_GENERAL_NAME_num(others.get()); ++i) {
    int type = 0;
    const void* value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(others.get(), i), &type);
    if (type == GEN_DNS || type == GEN_URI || type == GEN_EMAIL)
      AddName(names, static_cast<const ASN1_STRING*>(value));
  }
  return names;
}

}  // namespace dunlin
