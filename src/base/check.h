// Checks of our own invariants: a failure is a bug in Dunlin, never something a user's input can
// cause.
#pragma once

namespace dunlin::internal {
[[noreturn]] void CheckFailed(const char* file, int line, const char* condition, const char* what);
}

#define DUNLIN_CHECK(cond, what)                                        \
  do {                                                                  \
    if (!(cond)) [[unlikely]]                                           \
      ::dunlin::internal::CheckFailed(__FILE__, __LINE__, #cond, what); \
  } while (false)

#ifdef DUNLIN_CHECKED
#define DUNLIN_DCHECK(cond, what) DUNLIN_CHECK(cond, what)
#else
#define DUNLIN_DCHECK(cond, what) \
  do {                            \
  } while (false)
#endif
