// What the process tells about itself and whom it lets in: metrics, traces, access log, access
// policy, made from the flags.
#pragma once

#include <memory>
#include <vector>

#include "base/result.h"
#include "base/tls.h"
#include "serve/access.h"
#include "serve/access_log.h"
#include "serve/metrics.h"
#include "serve/trace.h"

namespace dunlin::server {

struct ServerOptions;

struct Observability {
  std::unique_ptr<serve::Metrics> metrics;
  std::unique_ptr<serve::Tracer> tracer;
  std::unique_ptr<serve::AccessPolicy> access;
  std::unique_ptr<serve::AccessLog> access_log;

  // kInvalidArgument, kNotFound: which flag or file is wrong.
  static Result<Observability> Create(const ServerOptions& options);
  // SIGHUP: logs are opened again, tokens and identities read again. Failures are logged, and what
  // was in force stays so.
  void Reload();

  // Whose files are read again as well; not owned.
  std::vector<TlsServer*> tls;
};

}  // namespace dunlin::server
