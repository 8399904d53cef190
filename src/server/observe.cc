#include "server/observe.h"

#include "base/log.h"
#include "http/otlp.h"
#include "serve/trace_file.h"
#include "server/server.h"

namespace dunlin::server {
namespace {

Result<std::unique_ptr<serve::Tracer>> MakeTracer(const ServerOptions& o) {
  serve::TraceOptions options = TRY(serve::ParseTraceConfig(o.trace_config));
  std::unique_ptr<serve::TraceSink> sink;
  if (options.mode == serve::TraceMode::kOpenTelemetry)
    sink = TRY(http::MakeOtlpExporter(options));
  else if (!options.file.empty())
    sink = serve::MakeTraceFile(options.file);
  return std::make_unique<serve::Tracer>(std::move(options), std::move(sink));
}

}  // namespace

Result<Observability> Observability::Create(const ServerOptions& o) {
  Observability made;
  serve::MetricsOptions metrics;
  TRY(serve::ParseMetricsConfig(o.metrics_config, metrics));
  metrics.cpu = o.allow_cpu_metrics;
  metrics.interval = std::chrono::milliseconds(o.metrics_interval_ms);
  made.metrics = std::make_unique<serve::Metrics>(metrics);
  made.tracer = TRY(MakeTracer(o));
  made.access = TRY(serve::AccessPolicy::Create({.http_restricted = o.http_restricted_api,
                                                 .grpc_restricted = o.grpc_restricted_protocol,
                                                 .tokens_file = o.auth_tokens_file,
                                                 .identities_file = o.auth_identities_file,
                                                 .open_health = o.auth_open_health}));
  made.access_log = o.access_log.empty() ? std::make_unique<serve::AccessLog>()
                                         : TRY(serve::AccessLog::Create(o.access_log));
  using Kind = serve::Metrics::Kind;
  made.metrics->Add(Kind::kCounter, "dunlin_traces_dropped_total",
                    "Sampled traces that could not be written or exported",
                    [t = made.tracer.get()] { return double(t->dropped()); });
  made.metrics->Add(Kind::kCounter, "dunlin_access_log_dropped_total",
                    "Lines of the access log that could not be written",
                    [a = made.access_log.get()] { return double(a->dropped()); });
  return made;
}

void Observability::Reload() {
  const auto report = [](const char* what, const Status& status) {
    if (!status)
      log::Error("reload failed, what was in force stays so",
                 {{"what", what}, {"error", status.error().message}});
  };
  report("log file", log::ReopenFile());
  report("access log", access_log->Reopen());
  report("access policy", access->Reload());
  for (TlsServer* server : tls) report("TLS files", server->Reload());
  log::Info("reloaded");
}

}  // namespace dunlin::server
