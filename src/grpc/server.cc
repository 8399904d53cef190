#include "grpc/server.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/log.h>
#include <grpc/support/time.h>
#include <pthread.h>

#include <array>
#include <list>
#include <thread>

#include "base/check.h"
#include "base/log.h"
#include "grpc/call.h"
#include "grpc/methods.h"

namespace dunlin::grpc {
namespace {

// Calls that the core can take before we have seen the ones before; it keeps the others until then.
constexpr int kInferCallsAhead = 64;
constexpr int kOtherCallsAhead = 8;
// How often the health that clients watch is looked at.
constexpr int kWatchIntervalMs = 200;
constexpr int kLingerMs = 100;
constexpr int kHandshakeTimeoutMs = 30'000;
constexpr int kMaxMetadataBytes = 16 << 10;

int Millis(std::chrono::milliseconds ms) {
  return int(std::clamp<int64_t>(ms.count(), 0, std::numeric_limits<int>::max()));
}

class ChannelArguments {
 public:
  void Set(const char* key, int value) {
    grpc_arg arg{};
    arg.type = GRPC_ARG_INTEGER;
    arg.key = const_cast<char*>(key);
    arg.value.integer = value;
    args_.push_back(arg);
  }
  void Set(const char* key, void* pointer, const grpc_arg_pointer_vtable* vtable) {
    grpc_arg arg{};
    arg.type = GRPC_ARG_POINTER;
    arg.key = const_cast<char*>(key);
    arg.value.pointer.p = pointer;
    arg.value.pointer.vtable = vtable;
    args_.push_back(arg);
  }
  grpc_channel_args get() { return {args_.size(), args_.data()}; }

 private:
  std::vector<grpc_arg> args_;
};

grpc_server* CreateServer(const ServerOptions& o) {
  ChannelArguments args;
  args.Set(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH, o.max_message_size);
  args.Set(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH, o.max_message_size);
  // We decompress ourselves: the core bounds only the compressed size.
  args.Set(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  args.Set(GRPC_ARG_ALLOW_REUSEPORT, o.reuse_port);
  args.Set(GRPC_ARG_MAX_CONCURRENT_STREAMS, o.max_inflight_calls);
  args.Set(GRPC_ARG_MAX_METADATA_SIZE, kMaxMetadataBytes);
  args.Set(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  args.Set(GRPC_ARG_KEEPALIVE_TIME_MS, Millis(o.keepalive_time));
  args.Set(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, Millis(o.keepalive_timeout));
  args.Set(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, o.keepalive_permit_without_calls);
  args.Set(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, o.http2_max_pings_without_data);
  args.Set(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
           Millis(o.http2_min_recv_ping_interval_without_data));
  args.Set(GRPC_ARG_HTTP2_MAX_PING_STRIKES, o.http2_max_ping_strikes);
  if (o.max_connection_age.count() > 0) {
    args.Set(GRPC_ARG_MAX_CONNECTION_AGE_MS, Millis(o.max_connection_age));
    if (o.max_connection_age_grace.count() > 0)
      args.Set(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, Millis(o.max_connection_age_grace));
  }
  // What has been read and not yet taken from the core is bounded, too, by slowing connections
  // down. One message more than we hold must fit, or it could not even be refused.
  grpc_resource_quota* const quota = grpc_resource_quota_create("dunlin");
  grpc_resource_quota_resize(quota, size_t(o.max_inflight_size) + size_t(o.max_message_size));
  args.Set(GRPC_ARG_RESOURCE_QUOTA, quota, grpc_resource_quota_arg_vtable());
  const grpc_channel_args all = args.get();
  grpc_server* const server = grpc_server_create(&all, nullptr);
  grpc_resource_quota_unref(quota);
  return server;
}

grpc_server_credentials* Credentials(const ServerOptions& o) {
  if (!o.tls) return grpc_insecure_server_credentials_create();
  const TlsTexts texts = o.tls->texts();
  grpc_ssl_pem_key_cert_pair pair{texts.key.c_str(), texts.certificate.c_str()};
  const bool ask = !texts.client_ca.empty();
  return grpc_ssl_server_credentials_create_ex(
      ask ? texts.client_ca.c_str() : nullptr, &pair, 1,
      !ask                            ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
      : o.tls->files().require_client ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                                      : GRPC_SSL_REQUEST_CLIENT_CERTIFICATE_AND_VERIFY,
      nullptr);
}

}  // namespace

struct Server::Impl {
  Impl(const ServerOptions& options, const serve::Service& service)
      : core{.service = service, .options = options} {}

  // A place for a call that is yet to come; used again and again.
  struct Arrival : Event {
    explicit Arrival(Impl& i, bool is_infer) : impl(i), infer(is_infer) {
      grpc_call_details_init(&details);
    }
    ~Arrival() override { grpc_call_details_destroy(&details); }
    void Arm() {
      const auto error = infer ? grpc_server_request_registered_call(
                                     impl.server, impl.infer_method, &accepted.call,
                                     &accepted.deadline, &accepted.metadata, &accepted.payload,
                                     impl.core.queue, impl.core.queue, static_cast<Event*>(this))
                               : grpc_server_request_call(
                                     impl.server, &accepted.call, &details, &accepted.metadata,
                                     impl.core.queue, impl.core.queue, static_cast<Event*>(this));
      DUNLIN_CHECK(error == GRPC_CALL_OK, "gRPC does not take requests for calls");
    }
    void Run(bool ok) override {
      if (!ok) return;  // the server shuts down
      AcceptedCall call = std::move(accepted);
      if (infer) {
        Arm();
        return StartInfer(impl.core, std::move(call));
      }
      call.deadline = details.deadline;
      const auto* text = reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(details.method));
      const std::string path(text, GRPC_SLICE_LENGTH(details.method));
      grpc_call_details_destroy(&details);
      grpc_call_details_init(&details);
      Arm();
      StartUnary(impl.core, std::move(call), path);
    }

    Impl& impl;
    const bool infer;
    AcceptedCall accepted;
    grpc_call_details details{};
  };
  // The end of the server's shutdown.
  struct Stopped : Event {
    void Run(bool) override {
      const std::lock_guard lock(impl.core.mutex);
      impl.stopped = true;
      impl.core.none_left.notify_all();
    }
    Impl& impl;
    explicit Stopped(Impl& i) : impl(i) {}
  };

  Status Start();
  bool PollOnce();
  void BeginShutdown();

  Core core;
  grpc_server* server = nullptr;
  void* infer_method = nullptr;
  int port = 0;
  std::list<Arrival> arrivals;
  Stopped stopped_event{*this};
  bool shutting_down = false;
  bool stopped = false;  // under core.mutex
  std::vector<std::thread> threads;
  std::atomic<serve::TimePoint> next_look{};  // at the watched health
};

Status Server::Impl::Start() {
  const ServerOptions& o = core.options;
  core.queue = grpc_completion_queue_create_for_next(nullptr);
  server = CreateServer(o);
  grpc_server_register_completion_queue(server, core.queue, nullptr);
  infer_method = grpc_server_register_method(server, std::string(kInferPath).c_str(), nullptr,
                                             GRPC_SRM_PAYLOAD_READ_INITIAL_BYTE_BUFFER, 0);
  const std::string host =
      o.address.find(':') == std::string::npos ? o.address : "[" + o.address + "]";
  grpc_server_credentials* const credentials = Credentials(o);
  if (!credentials) return Fail(Code::kInvalidArgument, "gRPC does not take the TLS files");
  port =
      grpc_server_add_http2_port(server, fmt::format("{}:{}", host, o.port).c_str(), credentials);
  grpc_server_credentials_release(credentials);
  if (port == 0)
    return Fail(Code::kUnavailable, "cannot listen for gRPC on {} port {}", o.address, o.port);
  grpc_server_start(server);
  for (int i = 0; i < kInferCallsAhead; ++i) arrivals.emplace_back(*this, true);
  for (int i = 0; i < kOtherCallsAhead; ++i) arrivals.emplace_back(*this, false);
  for (Arrival& a : arrivals) a.Arm();
  for (int i = 0; i < std::max(1, o.threads); ++i)
    threads.emplace_back([this] {
      ::pthread_setname_np(::pthread_self(), "dunlin-grpc");
      while (PollOnce()) {
      }
    });
  return {};
}

// False when the queue has ended.
bool Server::Impl::PollOnce() {
  const bool watched = core.watched.load(std::memory_order_relaxed);
  const gpr_timespec until =
      watched ? gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                             gpr_time_from_millis(kWatchIntervalMs, GPR_TIMESPAN))
              : gpr_inf_future(GPR_CLOCK_MONOTONIC);
  const grpc_event event = grpc_completion_queue_next(core.queue, until, nullptr);
  if (event.type == GRPC_QUEUE_SHUTDOWN) return false;
  if (event.type == GRPC_OP_COMPLETE) static_cast<Event*>(event.tag)->Run(event.success != 0);
  if (watched && serve::Clock::now() >= next_look.load()) {
    next_look.store(serve::Clock::now() + std::chrono::milliseconds(kWatchIntervalMs));
    core.NotifyLasting();
  }
  return true;
}

void Server::Impl::BeginShutdown() {
  if (std::exchange(shutting_down, true)) return;
  core.draining.store(true);
  grpc_server_shutdown_and_notify(server, core.queue, static_cast<Event*>(&stopped_event));
}

Result<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                              const serve::Service& service) {
  // What the core has to say is about single clients, who could fill the log with it.
  gpr_set_log_function([](gpr_log_func_args* args) {
    log::Verbose("grpc core", {{"text", args->message}});
  });
  RouteProtobufLog();
  grpc_init();
  std::unique_ptr<Server> server(new Server(std::make_unique<Impl>(options, service)));
  TRY(server->impl_->Start());
  return server;
}

Server::Server(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

Server::~Server() {
  Impl& impl = *impl_;
  impl.BeginShutdown();
  grpc_server_cancel_all_calls(impl.server);
  if (impl.threads.empty()) {  // it never started
    while (!impl.stopped) impl.PollOnce();
  } else {
    std::unique_lock lock(impl.core.mutex);
    impl.core.none_left.wait(lock, [&] { return impl.stopped && impl.core.calls.load() == 0; });
  }
  grpc_server_destroy(impl.server);
  grpc_completion_queue_shutdown(impl.core.queue);
  for (std::thread& t : impl.threads) t.join();
  while (impl.PollOnce()) {
  }
  grpc_completion_queue_destroy(impl.core.queue);
  impl_.reset();
  grpc_shutdown();
}

int Server::port() const { return impl_->port; }

void Server::Drain() {
  impl_->core.draining.store(true);
  impl_->core.NotifyLasting();
}

// The connections stay until the calls have ended: who sends another one is told why it is refused,
// where a connection that closes would only say that something went wrong.
bool Server::WaitUntilDrained(std::chrono::milliseconds timeout) {
  const auto now = serve::Clock::now();
  const auto end = now + timeout;
  Core& core = impl_->core;
  // Long enough that those who are at it have been told, one by one.
  std::this_thread::sleep_until(std::min(end, now + std::chrono::milliseconds(kLingerMs)));
  std::unique_lock lock(core.mutex);
  if (!core.none_left.wait_until(lock, end, [&core] { return core.calls.load() == 0; }))
    return false;
  lock.unlock();
  impl_->BeginShutdown();
  lock.lock();
  return core.none_left.wait_until(lock, end,
                                   [&] { return impl_->stopped && core.calls.load() == 0; });
}

}  // namespace dunlin::grpc
