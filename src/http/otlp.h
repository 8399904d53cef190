// Traces to an OpenTelemetry collector: OTLP over HTTP/1.1, in JSON.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "serve/trace.h"

namespace dunlin::http {

// Posts batches to options.url. A batch that the collector does not take within five seconds, or
// refuses, is lost and counted: requests never wait for it, nor does memory grow.
// kInvalidArgument: the URL is not http://HOST[:PORT][/PATH].
Result<std::unique_ptr<serve::TraceSink>> MakeOtlpExporter(const serve::TraceOptions& options);

// An ExportTraceServiceRequest. Per trace a span InferRequest (unless it is a step of an ensemble),
// in it one with the model's name, in it `compute`; time stamps are events of theirs.
// `steady_to_unix_ns` turns the records' clock into time since the epoch.
std::string OtlpJson(const std::vector<serve::TraceRecord>& records,
                     const std::vector<std::pair<std::string, std::string>>& resource,
                     int64_t steady_to_unix_ns);

}  // namespace dunlin::http
