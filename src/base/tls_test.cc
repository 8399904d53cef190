#include "base/tls.h"

#include <gtest/gtest.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "base/secret.h"

namespace dunlin {
namespace {

namespace fs = std::filesystem;

std::string Slurp(BIO* bio) {
  char* data = nullptr;
  const long n = BIO_get_mem_data(bio, &data);
  std::string text(data, size_t(n));
  BIO_free(bio);
  return text;
}

struct Pair {
  std::string certificate, key;
};

// Self-signed, so it is its own authority as well.
Pair MakePair(const char* common_name, long seconds_left = 3600) {
  EVP_PKEY* key = EVP_EC_gen("P-256");
  X509* x = X509_new();
  X509_set_version(x, 2);
  ASN1_INTEGER_set(X509_get_serialNumber(x), 7);
  X509_gmtime_adj(X509_getm_notBefore(x), -7200);
  X509_gmtime_adj(X509_getm_notAfter(x), seconds_left);
  X509_NAME* name = X509_get_subject_name(x);
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(common_name), -1, -1, 0);
  X509_set_issuer_name(x, name);
  X509_EXTENSION* ext =
      X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, "DNS:a.example,URI:spiffe://x/y");
  X509_add_ext(x, ext, -1);
  X509_EXTENSION_free(ext);
  X509_set_pubkey(x, key);
  X509_sign(x, key, EVP_sha256());
  Pair pair;
  BIO* out = BIO_new(BIO_s_mem());
  PEM_write_bio_X509(out, x);
  pair.certificate = Slurp(out);
  out = BIO_new(BIO_s_mem());
  PEM_write_bio_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr);
  pair.key = Slurp(out);
  X509_free(x);
  EVP_PKEY_free(key);
  return pair;
}

class Tls : public testing::Test {
 protected:
  Tls() : folder_(fs::temp_directory_path() / fmt::format("dunlin-tls-{}", ::getpid())) {
    fs::create_directories(folder_);
    Write(MakePair("server"));
  }
  ~Tls() override { fs::remove_all(folder_); }
  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  void WriteFile(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    std::ofstream(Path(name)) << text;
    ::chmod(Path(name).c_str(), mode);
  }
  void Write(const Pair& pair) const {
    WriteFile("cert.pem", pair.certificate, 0644);
    WriteFile("key.pem", pair.key);
  }
  TlsFiles Files() const { return {.certificate = Path("cert.pem"), .key = Path("key.pem")}; }
  std::string ErrorOf(const TlsFiles& files) const {
    const auto server = TlsServer::Create(files);
    return server ? "" : server.error().message;
  }
  const fs::path folder_;
};

TEST_F(Tls, SaysWhichFileIsWrongAndWhy) {
  EXPECT_EQ(ErrorOf(Files()), "");
  TlsFiles missing = Files();
  missing.key = Path("none.pem");
  EXPECT_NE(ErrorOf(missing).find("cannot open"), std::string::npos);
  WriteFile("key.pem", MakePair("other").key);
  EXPECT_NE(ErrorOf(Files()).find("is not that of the certificate"), std::string::npos);
  WriteFile("key.pem", "-----BEGIN nothing");
  EXPECT_NE(ErrorOf(Files()).find("holds no private key"), std::string::npos);
  WriteFile("cert.pem", "no certificate", 0644);
  EXPECT_NE(ErrorOf(Files()).find("holds no certificate"), std::string::npos);
  Write(MakePair("old", -60));
  EXPECT_NE(ErrorOf(Files()).find("has expired"), std::string::npos);
  TlsFiles strict = Files();
  strict.require_client = true;
  EXPECT_NE(ErrorOf(strict).find("no file of certificates"), std::string::npos);
}

TEST_F(Tls, AKeyThatOthersMayReadIsRefused) {
  for (const mode_t mode : {0604, 0644, 0660, 0602}) {
    ::chmod(Path("key.pem").c_str(), mode);
    EXPECT_NE(ErrorOf(Files()).find("holds secrets"), std::string::npos) << mode;
  }
  ::chmod(Path("key.pem").c_str(), 0640);
  EXPECT_EQ(ErrorOf(Files()), "");
}

TEST_F(Tls, ReloadTakesNewFilesAndKeepsTheOldWhenTheNewAreBad) {
  const auto server = TlsServer::Create(Files());
  ASSERT_TRUE(server) << server.error().message;
  const auto old = (*server)->context();
  WriteFile("cert.pem", "broken", 0644);
  EXPECT_FALSE((*server)->Reload());
  EXPECT_EQ((*server)->context(), old);
  const Pair pair = MakePair("new");
  Write(pair);
  EXPECT_TRUE((*server)->Reload());
  EXPECT_NE((*server)->context(), old);
}

// Both ends in memory. Returns the negotiated version, 0 when the handshake fails.
int Handshake(SSL_CTX* server_context, const Pair* client_pair, int max_version,
              std::string* identity) {
  SSL_CTX* client_context = SSL_CTX_new(TLS_client_method());
  SSL_CTX_set_max_proto_version(client_context, max_version);
  SSL_CTX_set_security_level(client_context, 0);
  if (client_pair != nullptr) {
    BIO* in = BIO_new_mem_buf(client_pair->certificate.data(), -1);
    X509* x = PEM_read_bio_X509(in, nullptr, nullptr, nullptr);
    SSL_CTX_use_certificate(client_context, x);
    X509_free(x);
    BIO_free(in);
    in = BIO_new_mem_buf(client_pair->key.data(), -1);
    EVP_PKEY* key = PEM_read_bio_PrivateKey(in, nullptr, nullptr, nullptr);
    SSL_CTX_use_PrivateKey(client_context, key);
    EVP_PKEY_free(key);
    BIO_free(in);
  }
  SSL* server = SSL_new(server_context);
  SSL* client = SSL_new(client_context);
  BIO *a = nullptr, *b = nullptr;
  BIO_new_bio_pair(&a, 1 << 16, &b, 1 << 16);
  SSL_set_bio(server, a, a);
  SSL_set_bio(client, b, b);
  SSL_set_accept_state(server);
  SSL_set_connect_state(client);
  bool done = false;
  for (int i = 0; i < 20 && !done; ++i) {
    const int c = SSL_do_handshake(client);
    const int s = SSL_do_handshake(server);
    done = c == 1 && s == 1;
  }
  if (identity != nullptr) *identity = PeerIdentity(server);
  const int version = done ? SSL_version(server) : 0;
  SSL_free(server);
  SSL_free(client);
  SSL_CTX_free(client_context);
  return version;
}

TEST_F(Tls, SpeaksOnlyVersions12And13) {
  const auto server = TlsServer::Create(Files());
  ASSERT_TRUE(server);
  const auto context = (*server)->context();
  EXPECT_EQ(Handshake(context.get(), nullptr, TLS1_3_VERSION, nullptr), TLS1_3_VERSION);
  EXPECT_EQ(Handshake(context.get(), nullptr, TLS1_2_VERSION, nullptr), TLS1_2_VERSION);
  EXPECT_EQ(Handshake(context.get(), nullptr, TLS1_1_VERSION, nullptr), 0);
}

TEST_F(Tls, ClientCertificatesAreVerifiedAndNamed) {
  const Pair known = MakePair("known client"), stranger = MakePair("stranger");
  WriteFile("ca.pem", known.certificate, 0644);
  TlsFiles files = Files();
  files.client_ca = Path("ca.pem");
  for (const bool require : {false, true}) {
    files.require_client = require;
    const auto server = TlsServer::Create(files);
    ASSERT_TRUE(server) << server.error().message;
    const auto context = (*server)->context();
    std::string identity;
    EXPECT_NE(Handshake(context.get(), &known, TLS1_2_VERSION, &identity), 0);
    EXPECT_EQ(identity, "known client\na.example\nspiffe://x/y");
    EXPECT_EQ(Handshake(context.get(), &stranger, TLS1_2_VERSION, &identity), 0);
    EXPECT_EQ(identity, "");
    EXPECT_EQ(Handshake(context.get(), nullptr, TLS1_2_VERSION, &identity) != 0, !require);
    EXPECT_EQ(identity, "");
  }
}

TEST_F(Tls, SecretsAreComparedByDigest) {
  EXPECT_TRUE(EqualInConstantTime(Sha256("abc"), Sha256("abc")));
  EXPECT_FALSE(EqualInConstantTime(Sha256("abc"), Sha256("abd")));
  EXPECT_EQ(Sha256("abc")[0], 0xba);
  WriteFile("token", "secret\n", 0644);
  const auto secret = ReadSecretFile(Path("token"));
  ASSERT_FALSE(secret);
  EXPECT_EQ(secret.error().message.find("secret\n"), std::string::npos);
  EXPECT_EQ(ReadSmallFile(Path("token")).value(), "secret\n");
  EXPECT_FALSE(ReadSmallFile(folder_.string()));
}

}  // namespace
}  // namespace dunlin
