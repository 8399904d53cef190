#include <cstdio>
#include <cstdlib>

#include "base/check.h"
#include "base/result.h"

namespace dunlin {

std::string_view CodeName(Code code) {
  switch (code) {
    case Code::kCancelled:
      return "cancelled";
    case Code::kInvalidArgument:
      return "invalid argument";
    case Code::kDeadlineExceeded:
      return "deadline exceeded";
    case Code::kNotFound:
      return "not found";
    case Code::kAlreadyExists:
      return "already exists";
    case Code::kResourceExhausted:
      return "resource exhausted";
    case Code::kFailedPrecondition:
      return "failed precondition";
    case Code::kUnimplemented:
      return "not supported";
    case Code::kInternal:
      return "internal error";
    case Code::kUnavailable:
      return "unavailable";
  }
  return "unknown";
}

namespace internal {
void CheckFailed(const char* file, int line, const char* condition, const char* what) {
  std::fprintf(stderr, "dunlin: bug at %s:%d: %s (%s)\n", file, line, what, condition);
  std::abort();
}
}  // namespace internal
}  // namespace dunlin
