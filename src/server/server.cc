#include "server/server.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <csignal>
#include <future>
#include <mutex>
#include <thread>

#include "base/log.h"
#include "base/thread_pool.h"
#include "base/tls.h"
#include "grpc/server.h"
#include "http/api.h"
#include "http/listener.h"
#include "serve/service.h"
#include "server/observe.h"

namespace dunlin::server {
namespace {

using http::Api;
using http::ErrorReply;
using http::Listener;
using http::ListenerOptions;
using http::Reply;
using http::ReplyFn;
using http::Request;
using std::chrono::milliseconds;
using std::chrono::seconds;

// What a signal handler may touch. One server per process, so one of each.
int signal_event = -1;
std::atomic<int> signals_seen{0};
std::atomic<bool> hangup_seen{false};

void Wake() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(signal_event, &one, sizeof one);
}

void OnSignal(int signal) {
  // The second one means now; _exit is one of the few calls that are allowed here.
  if (signals_seen.fetch_add(1) > 0) ::_exit(128 + signal);
  Wake();
}

void OnHangup(int) {
  hangup_seen = true;
  Wake();
}

Status InstallSignals() {
  if (signal_event < 0) signal_event = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (signal_event < 0) return Fail(Code::kUnavailable, "cannot create an event file descriptor");
  uint64_t old = 0;
  [[maybe_unused]] const ssize_t drained = ::read(signal_event, &old, sizeof old);
  signals_seen = 0;
  hangup_seen = false;
  struct sigaction action {};
  action.sa_handler = OnSignal;
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  action.sa_handler = OnHangup;
  ::sigaction(SIGHUP, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return {};
}

// True once a signal to end has come, false after `wait`; negative: waits for ever. Reloads on
// SIGHUP meanwhile.
bool SignalWithin(milliseconds wait, Observability& observability) {
  for (;;) {
    pollfd p{.fd = signal_event, .events = POLLIN, .revents = 0};
    const int n = ::poll(&p, 1, wait.count() < 0 ? -1 : int(wait.count()));
    if (signals_seen.load() > 0) return true;
    uint64_t count = 0;
    [[maybe_unused]] const ssize_t drained = ::read(signal_event, &count, sizeof count);
    if (hangup_seen.exchange(false)) observability.Reload();
    // A signal after the first look has written to the event again or is seen here.
    if (signals_seen.load() > 0) return true;
    if (n <= 0 && wait.count() >= 0) return false;
  }
}

Status Check(const ServerOptions& o) {
  const auto port = [](const char* flag, int value) -> Status {
    if (value >= 0 && value <= 65535) return {};
    return Fail(Code::kInvalidArgument, "{} must be a port from 0 to 65535, got {}", flag, value);
  };
  const auto at_least = [](const char* flag, int64_t value, int64_t least) -> Status {
    if (value >= least) return {};
    return Fail(Code::kInvalidArgument, "{} must be at least {}, got {}", flag, least, value);
  };
  if (o.model_repository.empty())
    return Fail(Code::kInvalidArgument, "--model-repository must name at least one folder");
  if (!o.load_model.empty() && o.model_control_mode != ModelControlMode::kExplicit)
    return Fail(Code::kInvalidArgument,
                "--load-model can only be used with --model-control-mode=explicit");
  if (!o.allow_http && !o.allow_grpc && !o.allow_metrics)
    return Fail(Code::kInvalidArgument,
                "nothing to serve: --allow-http, --allow-grpc and --allow-metrics are off");
  TRY(port("--http-port", o.http_port));
  TRY(port("--metrics-port", o.metrics_port));
  TRY(port("--grpc-port", o.grpc_port));
  TRY(at_least("--http-thread-count", o.http_thread_count, 0));
  TRY(at_least("--http-max-input-size", o.http_max_input_size, 1));
  TRY(at_least("--http-max-body-size", o.http_max_body_size, 1));
  TRY(at_least("--http-max-inflight-size", o.http_max_inflight_size, 1));
  TRY(at_least("--http-max-header-size", o.http_max_header_size, 1024));
  TRY(at_least("--http-max-connections", o.http_max_connections, 1));
  TRY(at_least("--http-idle-timeout-secs", o.http_idle_timeout_secs, 1));
  TRY(at_least("--http-read-timeout-secs", o.http_read_timeout_secs, 1));
  TRY(at_least("--grpc-thread-count", o.grpc_thread_count, 0));
  TRY(at_least("--grpc-max-message-size", o.grpc_max_message_size, 1024));
  TRY(at_least("--grpc-max-inflight-size", o.grpc_max_inflight_size, 1 << 20));
  TRY(at_least("--grpc-max-inflight-calls", o.grpc_max_inflight_calls, 1));
  TRY(at_least("--grpc-max-connections", o.grpc_max_connections, 1));
  TRY(at_least("--max-queue-size", o.max_queue_size, 1));
  TRY(at_least("--model-load-thread-count", o.model_load_thread_count, 1));
  TRY(at_least("--model-load-retry-count", o.model_load_retry_count, 0));
  TRY(at_least("--repository-poll-secs", o.repository_poll_secs, 1));
  return at_least("--exit-timeout-secs", o.exit_timeout_secs, 0);
}

Result<serve::RepositoryOptions> RepositoryOptionsOf(const ServerOptions& o) {
  serve::RepositoryOptions r;
  r.repositories = o.model_repository;
  switch (o.model_control_mode) {
    case ModelControlMode::kNone:
      r.mode = serve::ControlMode::kNone;
      break;
    case ModelControlMode::kPoll:
      r.mode = serve::ControlMode::kPoll;
      break;
    case ModelControlMode::kExplicit:
      r.mode = serve::ControlMode::kExplicit;
      break;
  }
  r.load_models = o.load_model;
  r.poll_interval = seconds(o.repository_poll_secs);
  r.load_threads = o.model_load_thread_count;
  r.load_retries = o.model_load_retry_count;
  r.config_name = o.model_config_name;
  r.auto_complete = !o.disable_auto_complete_config;
  r.strict_readiness = o.strict_readiness;
  r.max_queue_size = o.max_queue_size;
  r.cache = TRY(serve::CreateCache(o.cache_config));
  return r;
}

Result<Api::Options> ApiOptionsOf(const ServerOptions& o) {
  return Api::Options{.max_input_size = o.http_max_input_size,
                      .forwarded = TRY(serve::HeaderForward::Create(
                          "--http-header-forward-pattern", o.http_header_forward_pattern))};
}

// Null: plain HTTP.
Result<std::shared_ptr<TlsServer>> HttpTls(const ServerOptions& o) {
  if (o.http_ssl_cert_file.empty() != o.http_ssl_key_file.empty())
    return Fail(Code::kInvalidArgument, "--http-ssl-cert-file and --http-ssl-key-file go together");
  if (o.http_ssl_cert_file.empty()) {
    if (o.http_ssl_client_ca_file.empty()) return nullptr;
    return Fail(Code::kInvalidArgument, "--http-ssl-client-ca-file needs --http-ssl-cert-file");
  }
  return TRY(TlsServer::Create({.certificate = o.http_ssl_cert_file,
                                .key = o.http_ssl_key_file,
                                .client_ca = o.http_ssl_client_ca_file,
                                .require_client = !o.http_ssl_client_ca_file.empty()}));
}

Result<std::unique_ptr<Listener>> StartHttp(const ServerOptions& o, Api& api,
                                            Observability& observability) {
  ListenerOptions l;
  l.name = "http";
  l.address = o.http_address;
  l.port = o.http_port;
  l.threads = o.http_thread_count > 0 ? o.http_thread_count : std::min(8, UsableCpus());
  l.max_header_size = o.http_max_header_size;
  l.max_json_size = o.http_max_input_size;
  l.max_body_size = o.http_max_body_size;
  l.max_inflight_size = o.http_max_inflight_size;
  l.max_connections = o.http_max_connections;
  l.idle_timeout = seconds(o.http_idle_timeout_secs);
  l.read_timeout = seconds(o.http_read_timeout_secs);
  l.access_log = observability.access_log.get();
  if (const auto tls = TRY(HttpTls(o))) {
    observability.tls.push_back(tls.get());
    l.tls = tls;
  }
  return Listener::Start(
      l, [&api](const Request& request, ReplyFn done) { api.Handle(request, std::move(done)); });
}

Result<std::shared_ptr<TlsServer>> GrpcTls(const ServerOptions& o) {
  if (!o.grpc_use_ssl && !o.grpc_use_ssl_mutual) return nullptr;
  if (o.grpc_use_ssl_mutual && o.grpc_root_cert.empty())
    return Fail(Code::kInvalidArgument, "--grpc-use-ssl-mutual needs --grpc-root-cert");
  return TRY(TlsServer::Create({.certificate = o.grpc_server_cert,
                                .key = o.grpc_server_key,
                                .client_ca = o.grpc_root_cert,
                                .require_client = o.grpc_use_ssl_mutual,
                                .protocol = "h2"}));
}

Result<std::unique_ptr<grpc::Server>> StartGrpc(const ServerOptions& o,
                                                const serve::Service& service,
                                                Observability& observability) {
  grpc::ServerOptions g;
  g.address = o.grpc_address;
  g.port = o.grpc_port;
  g.threads = o.grpc_thread_count > 0 ? o.grpc_thread_count : std::min(8, UsableCpus());
  g.reuse_port = o.reuse_grpc_port;
  g.max_message_size = o.grpc_max_message_size;
  g.max_inflight_size = o.grpc_max_inflight_size;
  g.max_inflight_calls = o.grpc_max_inflight_calls;
  g.max_connections = o.grpc_max_connections;
  g.response_compression = o.grpc_infer_response_compression_level;
  g.keepalive_time = milliseconds(o.grpc_keepalive_time);
  g.keepalive_timeout = milliseconds(o.grpc_keepalive_timeout);
  g.keepalive_permit_without_calls = o.grpc_keepalive_permit_without_calls;
  g.http2_max_pings_without_data = o.grpc_http2_max_pings_without_data;
  g.http2_min_recv_ping_interval_without_data =
      milliseconds(o.grpc_http2_min_recv_ping_interval_without_data);
  g.http2_max_ping_strikes = o.grpc_http2_max_ping_strikes;
  g.max_connection_age = milliseconds(o.grpc_max_connection_age);
  g.max_connection_age_grace = milliseconds(o.grpc_max_connection_age_grace);
  g.header_forward = TRY(
      serve::HeaderForward::Create("--grpc-header-forward-pattern", o.grpc_header_forward_pattern));
  if (const auto tls = TRY(GrpcTls(o))) {
    observability.tls.push_back(tls.get());
    g.tls = tls;
  }
  return grpc::Server::Start(g, service);
}

Result<std::unique_ptr<Listener>> StartMetrics(const ServerOptions& o,
                                               const Observability& observability) {
  ListenerOptions l;
  l.name = "metrics";
  l.address = o.metrics_address.empty() ? o.http_address : o.metrics_address;
  l.port = o.metrics_port;
  l.max_json_size = l.max_body_size = 1 << 20;
  l.max_connections = 64;
  l.idle_timeout = seconds(o.http_idle_timeout_secs);
  l.read_timeout = seconds(o.http_read_timeout_secs);
  return Listener::Start(l, [&metrics = *observability.metrics, &access = *observability.access](
                                const Request& request, const ReplyFn& done) {
    if (request.target.substr(0, request.target.find('?')) != "/metrics")
      return done(ErrorReply(404, "Not Found"));
    if (request.method != "GET") return done(ErrorReply(405, "Method Not Allowed"));
    const serve::Caller caller{
        .header = [&request](std::string_view name) { return request.Header(name); }};
    if (const Status allowed = access.Check(serve::ApiGroup::kMetrics, caller); !allowed)
      return done(ErrorReply(allowed.error()));
    Reply reply;
    reply.content_type = "text/plain; charset=utf-8";
    reply.body = metrics.Text();
    done(std::move(reply));
  });
}

// Every connection is a file; the default of 1024 would be reached before max_connections is.
void RaiseFileLimit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur == limit.rlim_max) return;
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
}

// Ends the process if what comes after it is armed takes too long.
class Watchdog {
 public:
  ~Watchdog() {
    {
      const std::lock_guard lock(mutex_);
      done_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
  }
  void Arm(seconds limit) {
    thread_ = std::thread([this, limit] {
      std::unique_lock lock(mutex_);
      if (wake_.wait_for(lock, limit, [this] { return done_; })) return;
      log::Error("loads or requests still run, ending the process");
      ::_exit(1);
    });
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  bool done_ = false;
  std::thread thread_;
};

// Whether all that was accepted has been answered in time.
bool Drain(Listener* http, grpc::Server* grpc, seconds timeout) {
  const auto end = serve::Clock::now() + timeout;
  const auto left = [end] {
    return std::max(milliseconds(0),
                    std::chrono::duration_cast<milliseconds>(end - serve::Clock::now()));
  };
  if (http) http->Drain();
  if (grpc) grpc->Drain();
  const bool http_drained = !http || http->WaitUntilDrained(left());
  const bool grpc_drained = !grpc || grpc->WaitUntilDrained(left());
  return http_drained && grpc_drained;
}

}  // namespace

Status RunServer(const ServerOptions& options) {
  std::optional<TuneOptions> tune;
  // Requests never wait for measurements.
  if (options.tune)
    tune = {
        .file = options.tune_file, .measure = false, .progress = {}, .warn = [](const auto& text) {
          log::Warning("measured kernels", {{"reason", text}});
        }};
  return RunServer(options, serve::CreateEngineBackend(std::move(tune)), {});
}

Status RunServer(const ServerOptions& options, std::unique_ptr<serve::Backend> backend,
                 const std::function<void(BoundPorts)>& started) {
  log::Configure({.format = options.log_format,
                  .info = options.log_info,
                  .warning = options.log_warning,
                  .error = options.log_error,
                  .verbose = options.log_verbose});
  TRY(log::OpenFile(options.log_file));
  TRY(Check(options));
  Observability observability = TRY(Observability::Create(options));
  serve::Metrics& metrics = *observability.metrics;
  TRY(InstallSignals());
  RaiseFileLimit();

  // The order matters: each uses those before it.
  Watchdog watchdog;
  serve::Repository repository(TRY(RepositoryOptionsOf(options)), std::move(backend), metrics);
  serve::SharedMemory shared_memory({.allow = options.allow_client_shm});
  std::atomic<bool> stopping{false};
  const serve::Service service{.repository = repository,
                               .shared_memory = shared_memory,
                               .metrics = metrics,
                               .tracer = *observability.tracer,
                               .access = *observability.access,
                               .access_log = *observability.access_log,
                               .stopping = stopping};
  Api api(service, TRY(ApiOptionsOf(options)));
  std::unique_ptr<Listener> http, metrics_page;
  std::unique_ptr<grpc::Server> grpc;
  BoundPorts ports;
  // Ports open before models load, so that probes see a process that lives and is not ready.
  if (options.allow_http) {
    http = TRY(StartHttp(options, api, observability));
    ports.http = http->port();
    log::Info("http listening", {{"address", options.http_address}, {"port", ports.http}});
  }
  if (options.allow_metrics) {
    metrics_page = TRY(StartMetrics(options, observability));
    ports.metrics = metrics_page->port();
    log::Info("metrics listening", {{"port", ports.metrics}});
  }
  if (options.allow_grpc) {
    grpc = TRY(StartGrpc(options, service, observability));
    ports.grpc = grpc->port();
    log::Info("grpc listening", {{"address", options.grpc_address}, {"port", ports.grpc}});
  }
  if (started) started(ports);

  auto loading = std::async(std::launch::async, [&repository] { return repository.Start(); });
  bool stop = false;
  while (loading.wait_for(seconds(0)) != std::future_status::ready && !stop)
    stop = SignalWithin(milliseconds(2), observability);
  if (!stop) {
    if (Status loaded = loading.get(); !loaded) {
      if (options.exit_on_error) {
        log::Error("startup failed", {{"error", loaded.error().message}});
        return Fail(std::move(loaded).error());
      }
      log::Warning("started without some models", {{"error", loaded.error().message}});
    }
    log::Info("server ready", {{"http_port", ports.http},
                               {"metrics_port", ports.metrics},
                               {"models", repository.Ready("").size()}});
    SignalWithin(milliseconds(-1), observability);
  }

  stopping = true;
  log::Info("stopping", {{"exit_timeout_secs", options.exit_timeout_secs}});
  const seconds exit_timeout(options.exit_timeout_secs);
  const bool drained = Drain(http.get(), grpc.get(), exit_timeout);
  if (!drained || stop) watchdog.Arm(drained ? exit_timeout : seconds(5));
  if (!drained) log::Error("exit timeout expired", {{"seconds", options.exit_timeout_secs}});
  http.reset(), grpc.reset(), metrics_page.reset();
  if (!drained)
    return Fail(Code::kDeadlineExceeded, "requests were still running {} seconds after the signal",
                options.exit_timeout_secs);
  log::Info("stopped");
  return {};
}

}  // namespace dunlin::server
