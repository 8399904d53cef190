// Service: everything a front end may call. All of it is thread-safe and outlives the front ends.
#pragma once

#include <atomic>

#include "serve/access.h"
#include "serve/access_log.h"
#include "serve/metrics.h"
#include "serve/repository.h"
#include "serve/shared_memory.h"
#include "serve/trace.h"

namespace dunlin::serve {

struct Service {
  Repository& repository;
  SharedMemory& shared_memory;
  Metrics& metrics;
  Tracer& tracer;
  const AccessPolicy& access;  // to be asked before anything else is done for a request
  AccessLog& access_log;
  std::atomic<bool>& stopping;  // the server says that it is not ready, and ends

  // For requests about a model's trace settings; the words are the protocol's. "" is all models.
  Status CheckTracedModel(const std::string& model) const {
    if (model.empty() || repository.IsReady(model, 0).value_or(false)) return {};
    return Fail(Code::kInvalidArgument, "Request for unknown model : {}", model);
  }
};

}  // namespace dunlin::serve
