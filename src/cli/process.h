// Child processes without a shell, and signals that ask us to stop, as values rather than handlers.
#pragma once

#include <csignal>
#include <functional>
#include <string>
#include <vector>

#include "base/result.h"

namespace dunlin::cli {

// While one lives, SIGINT, SIGTERM and SIGHUP no longer end the process; they are noted here. For
// code that must tidy up first. In the main thread, before other threads start.
class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;
  // True from the first signal on.
  bool Asked();
  int fd() const { return fd_; }  // readable when one is pending

 private:
  sigset_t before_;
  int fd_;
  bool asked_ = false;
};

struct ProcessResult {
  int exit_code = 0;     // 128 + signal when a signal ended it
  std::string out, err;  // the first 64 KiB of each
};

// Runs argv[0] (looked for in PATH) with empty standard input and waits. `tick` is called about ten
// times a second. When interrupted the child is told to stop, and waited for; the result is
// kCancelled. kNotFound when there is no such program.
Result<ProcessResult> RunProcess(const std::vector<std::string>& argv, Interrupts& interrupts,
                                 const std::function<void()>& tick);

}  // namespace dunlin::cli
