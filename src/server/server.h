// The server process: what `dunlin serve` runs. Field names are those of the flags (Triton's, where
// Triton has the flag), with '-' written as '_'.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "base/log.h"
#include "base/result.h"
#include "grpc/server.h"

namespace dunlin::serve {
class Backend;
}

namespace dunlin::server {

enum class ModelControlMode : uint8_t {
  kNone,      // everything in the repositories is loaded at the start and stays
  kPoll,      // the repositories are read again every repository_poll_secs
  kExplicit,  // load_model at the start, then the load and unload requests
};

struct ServerOptions {
  // Models.
  std::vector<std::string> model_repository;  // one or more folders
  ModelControlMode model_control_mode = ModelControlMode::kNone;
  std::vector<std::string> load_model;  // kExplicit only; "*" is every model found
  int repository_poll_secs = 15;
  int model_load_thread_count = 4;
  int model_load_retry_count = 0;  // how often a version that fails to load is tried again
  std::string model_config_name;   // configs/NAME.pbtxt goes before config.pbtxt
  bool disable_auto_complete_config = false;
  bool strict_readiness = true;  // ready only when every model that was asked for is ready
  bool exit_on_error = true;     // a model that fails at the start ends the process
  bool tune = false;          // take the kernels that `dunlin bench --tune` measured to be fastest
  std::string tune_file;      // empty: the engine's default
  int max_queue_size = 1024;  // waiting requests per model version, unless its configuration says
  std::vector<std::string> cache_config;  // "local,size=BYTES": answers kept, of models that ask
  bool allow_client_shm = false;          // clients may register system shared memory regions

  // Front ends. Port 0: the system chooses, the log names it. An address is an IP address.
  bool allow_http = true;
  std::string http_address = "0.0.0.0";
  int http_port = 8000;
  int http_thread_count = 0;  // 0: one per usable CPU, at most 8
  bool allow_metrics = true;
  std::string metrics_address = "";  // empty: http_address
  int metrics_port = 8002;

  // The gRPC front end. Times as in its flags: milliseconds.
  bool allow_grpc = true;
  std::string grpc_address = "0.0.0.0";
  int grpc_port = 8001;
  bool reuse_grpc_port = false;
  int grpc_thread_count = 0;  // 0: one per usable CPU, at most 8
  int grpc_max_message_size = std::numeric_limits<int32_t>::max();
  int64_t grpc_max_inflight_size = int64_t{2} << 30;  // messages of all requests in progress
  int grpc_max_inflight_calls = 4096;
  int grpc_max_connections = 4096;
  grpc::Compression grpc_infer_response_compression_level = grpc::Compression::kNone;
  int64_t grpc_keepalive_time = 7'200'000;
  int64_t grpc_keepalive_timeout = 20'000;
  bool grpc_keepalive_permit_without_calls = false;
  int grpc_http2_max_pings_without_data = 2;
  int64_t grpc_http2_min_recv_ping_interval_without_data = 300'000;
  int grpc_http2_max_ping_strikes = 2;
  int64_t grpc_max_connection_age = 0;  // 0: no limit
  int64_t grpc_max_connection_age_grace = 0;
  std::string grpc_header_forward_pattern;
  bool grpc_use_ssl = false;
  bool grpc_use_ssl_mutual = false;  // clients must have a certificate that grpc_root_cert signed
  std::string grpc_server_cert, grpc_server_key, grpc_root_cert;

  // Limits of the HTTP front end.
  int64_t http_max_input_size = int64_t{64} << 20;    // JSON, decompressed bodies, one raw tensor
  int64_t http_max_body_size = int64_t{512} << 20;    // a whole request with binary tensors
  int64_t http_max_inflight_size = int64_t{2} << 30;  // bodies of all requests in progress together
  int64_t http_max_header_size = int64_t{64} << 10;   // request line and headers
  int http_max_connections = 4096;
  int http_idle_timeout_secs = 75;  // a keep-alive connection with nothing to say
  int http_read_timeout_secs = 30;  // a request's headers; also the longest gap inside a body

  // HTTPS: PEM files, certificate and key or neither; with a client CA, clients must have a
  // certificate it signed. Read again on SIGHUP.
  std::string http_ssl_cert_file, http_ssl_key_file, http_ssl_client_ca_file;
  std::string http_header_forward_pattern;  // RE2, whatever the case; empty: no headers

  // Metrics, in Triton's terms; see docs/serving/observability.md.
  std::vector<std::string> metrics_config;
  int metrics_interval_ms = 2000;
  bool allow_cpu_metrics = true;
  std::vector<std::string> trace_config;
  std::string access_log;  // a file, "-" for stdout; empty: none

  // Who may call what; see docs/serving/security.md. The files are read again on SIGHUP.
  std::vector<std::string> http_restricted_api, grpc_restricted_protocol;
  std::string auth_tokens_file, auth_identities_file;
  bool auth_open_health = true;

  int exit_timeout_secs = 30;  // after SIGTERM: how long accepted requests may take

  // Logs.
  int log_verbose = 0;
  bool log_info = true;
  bool log_warning = true;
  bool log_error = true;
  log::Format log_format = log::Format::kDefault;
  std::string log_file;  // empty: stderr. Opened again on SIGHUP
};

// Runs until SIGTERM or SIGINT, then drains; a second signal ends the process at once. Installs its
// own handlers of these signals and ignores SIGPIPE: one call per process.
// Errors: kInvalidArgument (options), kUnavailable (a port cannot be had), and what a model that
// failed to load says (only with exit_on_error); kDeadlineExceeded when requests were still running
// after exit_timeout_secs.
Status RunServer(const ServerOptions& options);

// The same with another engine behind it. Returns like RunServer; `started` is called once when
// the ports are open (0 for a front end that is off).
struct BoundPorts {
  int http = 0;
  int metrics = 0;
  int grpc = 0;
};
Status RunServer(const ServerOptions& options, std::unique_ptr<serve::Backend> backend,
                 const std::function<void(BoundPorts)>& started);

}  // namespace dunlin::server
