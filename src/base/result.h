// Result<T>: a value or an Error with a code and one sentence for a person. For anything that input
// can cause; a broken invariant of our own is DUNLIN_CHECK (base/check.h).
#pragma once

#include <fmt/core.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <tl/expected.hpp>
#include <utility>

namespace dunlin {

// The numbers are gRPC's, so that a server maps them with one table.
enum class Code : uint8_t {
  kCancelled = 1,
  kInvalidArgument = 3,
  kDeadlineExceeded = 4,
  kNotFound = 5,
  kAlreadyExists = 6,
  kResourceExhausted = 8,
  kFailedPrecondition = 9,
  kUnimplemented = 12,
  kInternal = 13,
  kUnavailable = 14,
};

std::string_view CodeName(Code code);

struct Error {
  Code code;
  std::string message;
};

template <class T>
class [[nodiscard]] Result : public tl::expected<T, Error> {
 public:
  using tl::expected<T, Error>::expected;
};
using Status = Result<void>;

// return Fail(Code::kInvalidArgument, "{}: axis {} outside rank {}", name, axis, rank);
template <class... A>
[[nodiscard]] tl::unexpected<Error> Fail(Code code, fmt::format_string<A...> format, A&&... args) {
  return tl::unexpected<Error>(Error{code, fmt::format(format, std::forward<A>(args)...)});
}
[[nodiscard]] inline tl::unexpected<Error> Fail(Error error) {
  return tl::unexpected<Error>(std::move(error));
}
// The same error with a place put in front: "node 'conv1' (Conv): …".
[[nodiscard]] inline tl::unexpected<Error> FailAt(std::string_view place, Error error) {
  return tl::unexpected<Error>(Error{error.code, fmt::format("{}: {}", place, error.message)});
}

}  // namespace dunlin

// const Shape y = TRY(Infer(x));   the value, or return the error to the caller.
#define TRY(...)                                                                             \
  __extension__({                                                                            \
    auto dunlin_result = (__VA_ARGS__);                                                      \
    if (!dunlin_result.has_value()) return ::dunlin::Fail(std::move(dunlin_result).error()); \
    ::dunlin::internal::Take(std::move(dunlin_result));                                      \
  })

namespace dunlin::internal {
template <class T>
T Take(Result<T>&& r) {
  if constexpr (!std::is_void_v<T>) return std::move(*r);
}
}  // namespace dunlin::internal
