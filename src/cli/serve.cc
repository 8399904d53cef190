#include "cli/serve.h"

#include "cli/flags.h"

namespace dunlin::cli {
namespace {

// The flags of docs/serving/observability.md and security.md.
void AddObservability(CLI::App* app, server::ServerOptions& o) {
  const auto flag = [app](const char* name, bool& value, const char* help) {
    app->add_option(name, value, help)
        ->default_str(value ? "true" : "false")
        ->type_name("true|false");
  };
  const auto list = [app](const char* name, std::vector<std::string>& values, const char* help,
                          const char* type) {
    app->add_option(name, values, help)->allow_extra_args(false)->type_name(type);
  };
  const auto file = [app](const char* name, std::string& value, const char* help) {
    app->add_option(name, value, help)->type_name("FILE");
  };
  list("--metrics-config", o.metrics_config,
       "counter_latencies, histogram_latencies, summary_latencies=true|false; summary_quantiles. "
       "Repeatable",
       "KEY=VALUE");
  app->add_option("--metrics-interval-ms", o.metrics_interval_ms,
                  "CPU utilisation is measured over at least this")
      ->capture_default_str()
      ->check(Quiet(CLI::Range(1, 3'600'000)));
  flag("--allow-cpu-metrics", o.allow_cpu_metrics, "Metrics of the machine's CPUs and memory");
  list("--trace-config", o.trace_config,
       "level, rate, count, mode=triton|opentelemetry; triton,file; opentelemetry,url. Repeatable",
       "[MODE,]KEY=VALUE");
  app->add_option("--log-verbose", o.log_verbose, "0: off")
      ->capture_default_str()
      ->check(Quiet(CLI::NonNegativeNumber));
  flag("--log-info", o.log_info, "Log lines of level info");
  flag("--log-warning", o.log_warning, "Log lines of level warning");
  flag("--log-error", o.log_error, "Log lines of level error");
  Choice(app, "--log-format", o.log_format,
         {{"default", log::Format::kDefault},
          {"ISO8601", log::Format::kIso8601},
          {"text", log::Format::kIso8601},
          {"json", log::Format::kJson}},
         "Of the log (default)");
  file("--log-file", o.log_file, "Instead of stderr; opened again on SIGHUP");
  file("--access-log", o.access_log, "One line per request; '-': stdout; opened again on SIGHUP");
  list("--http-restricted-api", o.http_restricted_api,
       "These groups of routes need this header; a value @FILE is read from there. Repeatable",
       "GROUP[,GROUP]:KEY=VALUE");
  list("--grpc-restricted-protocol", o.grpc_restricted_protocol,
       "The same over gRPC, in metadata triton-grpc-protocol-KEY. Repeatable",
       "GROUP[,GROUP]:KEY=VALUE");
  file("--auth-tokens-file", o.auth_tokens_file,
       "Lines 'token role[,role] name': callers need one of these bearer tokens");
  file("--auth-identities-file", o.auth_identities_file,
       "Lines 'identity role[,role]': roles of client certificates");
  flag("--auth-open-health", o.auth_open_health, "Answer health checks whoever asks");
}

}  // namespace

namespace {

template <class T>
void Number(CLI::App* app, const char* name, T& value, const char* help) {
  app->add_option(name, value, help)->capture_default_str()->check(Quiet(CLI::NonNegativeNumber));
}

void Switch(CLI::App* app, const char* name, bool& value, const char* help) {
  app->add_option(name, value, help)
      ->default_str(value ? "true" : "false")
      ->type_name("true|false");
}

void AddGrpc(CLI::App* app, server::ServerOptions& o) {
  const auto number = [app](const char* name, auto& value, const char* help) {
    Number(app, name, value, help);
  };
  const auto flag = [app](const char* name, bool& value, const char* help) {
    Switch(app, name, value, help);
  };
  const auto text = [app](const char* name, std::string& value, const char* help) {
    app->add_option(name, value, help)->capture_default_str();
  };
  flag("--allow-grpc", o.allow_grpc, "Serve gRPC");
  text("--grpc-address", o.grpc_address, "IP address to listen on");
  app->add_option("--grpc-port", o.grpc_port, "0: any free port, the log says which")
      ->capture_default_str()
      ->check(Quiet(CLI::Range(0, 65535)));
  flag("--reuse-grpc-port", o.reuse_grpc_port, "Share the port with other processes");
  number("--grpc-thread-count", o.grpc_thread_count, "Threads that serve gRPC's connections");
  number("--grpc-max-message-size", o.grpc_max_message_size, "Bytes of one message, each way");
  number("--grpc-max-inflight-size", o.grpc_max_inflight_size, "Bytes of all requests in progress");
  number("--grpc-max-inflight-calls", o.grpc_max_inflight_calls, "Calls in progress");
  number("--grpc-max-connections", o.grpc_max_connections, "Open gRPC connections");
  using Level = grpc::Compression;
  Choice(app, "--grpc-infer-response-compression-level", o.grpc_infer_response_compression_level,
         {{"none", Level::kNone},
          {"low", Level::kLow},
          {"medium", Level::kMedium},
          {"high", Level::kHigh}},
         "Of inference replies, for clients that accept it (none)");
  number("--grpc-keepalive-time", o.grpc_keepalive_time, "Milliseconds between our pings");
  number("--grpc-keepalive-timeout", o.grpc_keepalive_timeout,
         "Milliseconds to wait for a ping's answer");
  flag("--grpc-keepalive-permit-without-calls", o.grpc_keepalive_permit_without_calls,
       "Ping also when there are no calls");
  number("--grpc-http2-max-pings-without-data", o.grpc_http2_max_pings_without_data,
         "Pings we send without data between them");
  number("--grpc-http2-min-recv-ping-interval-without-data",
         o.grpc_http2_min_recv_ping_interval_without_data,
         "Milliseconds between a client's pings, at least");
  number("--grpc-http2-max-ping-strikes", o.grpc_http2_max_ping_strikes,
         "Pings too early that are forgiven");
  number("--grpc-max-connection-age", o.grpc_max_connection_age,
         "Milliseconds after which a connection is ended (0: never)");
  number("--grpc-max-connection-age-grace", o.grpc_max_connection_age_grace,
         "Milliseconds its calls then have (0: no limit)");
  text("--grpc-header-forward-pattern", o.grpc_header_forward_pattern,
       "Metadata whose name matches (RE2) becomes request parameters");
  flag("--grpc-use-ssl", o.grpc_use_ssl, "TLS");
  flag("--grpc-use-ssl-mutual", o.grpc_use_ssl_mutual, "TLS; clients must have a certificate");
  text("--grpc-server-cert", o.grpc_server_cert, "PEM file: the server's certificate");
  text("--grpc-server-key", o.grpc_server_key, "PEM file: its key");
  text("--grpc-root-cert", o.grpc_root_cert, "PEM file: who signs clients' certificates");
}

void AddHttps(CLI::App* app, server::ServerOptions& o) {
  app->add_option("--http-ssl-cert-file", o.http_ssl_cert_file, "HTTPS: the certificate, PEM");
  app->add_option("--http-ssl-key-file", o.http_ssl_key_file, "HTTPS: its key, PEM");
  app->add_option("--http-ssl-client-ca-file", o.http_ssl_client_ca_file,
                  "HTTPS: clients must have a certificate that this one signed");
  app->add_option("--http-header-forward-pattern", o.http_header_forward_pattern,
                  "Headers whose name matches (RE2) become parameters of the request");
}

// Which models there are, and how they are loaded.
void AddModels(CLI::App* app, server::ServerOptions& o) {
  app->add_option("--model-repository,--model-store", o.model_repository,
                  "Folder of models: NAME/VERSION/model.onnx. Repeatable")
      ->allow_extra_args(false)
      ->required()
      ->type_name("DIR");
  using Mode = server::ModelControlMode;
  Choice(app, "--model-control-mode", o.model_control_mode,
         {{"none", Mode::kNone}, {"poll", Mode::kPoll}, {"explicit", Mode::kExplicit}},
         "none: load everything at the start; poll: follow the folder; explicit: load on request "
         "(none)");
  app->add_option("--load-model", o.load_model,
                  "With explicit: load this at the start ('*': all). Repeatable")
      ->allow_extra_args(false)
      ->type_name("NAME");
  Number(app, "--repository-poll-secs", o.repository_poll_secs, "With poll: how often");
  Number(app, "--model-load-thread-count", o.model_load_thread_count, "Models loaded at once");
  Number(app, "--model-load-retry-count", o.model_load_retry_count,
         "How often to try a model again that fails to load");
  app->add_option("--model-config-name", o.model_config_name,
                  "Read configs/NAME.pbtxt where a model has it, else config.pbtxt")
      ->type_name("NAME");
  app->add_flag("--disable-auto-complete-config", o.disable_auto_complete_config,
                "Require a full config.pbtxt");
  Switch(app, "--strict-readiness", o.strict_readiness, "Ready only when every model is");
  Switch(app, "--exit-on-error", o.exit_on_error, "End when a model fails to load at the start");
  CLI::Option* const tune = app->add_flag(
      "--tune", o.tune, "Take the kernels that `dunlin bench --tune` measured to be fastest here");
  app->add_option("--tune-file", o.tune_file, "Where measurements are kept (in ~/.cache/dunlin)")
      ->type_name("FILE")
      ->needs(tune);
  Number(app, "--max-queue-size", o.max_queue_size,
         "Waiting requests per model, unless its configuration says");
  app->add_option("--cache-config", o.cache_config,
                  "local,size=BYTES: keep answers of models with response_cache enabled")
      ->allow_extra_args(false)
      ->type_name("CONFIG");
  Switch(app, "--allow-client-shm", o.allow_client_shm,
         "Let clients pass tensors in shared memory of this machine");
}

}  // namespace

void AddServe(Commands& commands, server::ServerOptions& o) {
  CLI::App* app = commands.Add(
      "serve",
      "Serve models over HTTP and gRPC (Open Inference Protocol v2, Triton's flags and repository "
      "layout).",
      "  dunlin serve --model-repository models\n"
      "  dunlin serve --model-repository models --model-control-mode explicit --load-model "
      "ppocr_cls\n"
      "  dunlin serve --model-repository models --http-port 9000 --metrics-port 9002",
      [&o](Stage& s) {
        s = Stage::kServer;
        return server::RunServer(o);
      });
  AddModels(app, o);
  const auto number = [app](const char* name, auto& value, const char* help) {
    Number(app, name, value, help);
  };
  const auto port = [app](const char* name, int& value, const char* help) {
    app->add_option(name, value, help)->capture_default_str()->check(Quiet(CLI::Range(0, 65535)));
  };
  const auto flag = [app](const char* name, bool& value, const char* help) {
    Switch(app, name, value, help);
  };
  flag("--allow-http", o.allow_http, "Serve HTTP");
  app->add_option("--http-address", o.http_address, "IP address to listen on")
      ->capture_default_str();
  port("--http-port", o.http_port, "0: any free port, the log says which");
  number("--http-thread-count", o.http_thread_count, "0: one per usable CPU, at most 8");
  AddGrpc(app, o);
  flag("--allow-metrics", o.allow_metrics, "Serve Prometheus metrics");
  AddHttps(app, o);
  app->add_option("--metrics-address", o.metrics_address, "Default: --http-address");
  port("--metrics-port", o.metrics_port, "0: any free port");
  number("--http-max-input-size", o.http_max_input_size, "Bytes of JSON or of a decompressed body");
  number("--http-max-body-size", o.http_max_body_size, "Bytes of a whole request");
  number("--http-max-inflight-size", o.http_max_inflight_size, "Bytes of all requests in progress");
  number("--http-max-header-size", o.http_max_header_size, "Bytes of request line and headers");
  number("--http-max-connections", o.http_max_connections, "Open connections");
  number("--http-idle-timeout-secs", o.http_idle_timeout_secs,
         "Close silent keep-alive connections after this");
  number("--http-read-timeout-secs", o.http_read_timeout_secs,
         "For a request's headers, and the longest gap in a body");
  number("--exit-timeout-secs", o.exit_timeout_secs,
         "After SIGTERM: how long accepted requests may take");
  AddObservability(app, o);
}

}  // namespace dunlin::cli
