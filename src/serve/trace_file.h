// Traces as Triton writes them: files that are one JSON array each, of objects with an "id" and
// either the model or a time stamp.
#pragma once

#include <memory>
#include <string>

#include "serve/trace.h"

namespace dunlin::serve {

// Writes to `path`; with a log frequency of n to path.0, path.1, …, n traces in each. The files are
// whole JSON after every write. A file that reaches `max_bytes` takes no more; what it would have
// taken counts as dropped.
std::unique_ptr<TraceSink> MakeTraceFile(std::string path, int64_t max_bytes = int64_t{1} << 30);

}  // namespace dunlin::serve
