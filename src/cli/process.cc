#include "cli/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>

extern char** environ;

namespace dunlin::cli {
namespace {

constexpr size_t kMostText = 64 << 10;
constexpr int kTickMillis = 100;

struct Pipe {
  int read = -1, write = -1;
  Pipe() {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) == 0) read = ends[0], write = ends[1];
  }
  ~Pipe() {
    CloseWrite();
    if (read >= 0) ::close(read);
  }
  void CloseWrite() {
    if (write >= 0) ::close(write);
    write = -1;
  }
};

Result<pid_t> Spawn(const std::vector<std::string>& argv, const Pipe& out, const Pipe& err) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out.write, 1);
  posix_spawn_file_actions_adddup2(&actions, err.write, 2);
  // The child gets ordinary signals back, and a group of its own: Ctrl-C reaches it through us
  // alone.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETPGROUP);
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, words[0], &actions, &attributes, words.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error == ENOENT) return Fail(Code::kNotFound, "there is no program '{}'", argv[0]);
  if (error != 0)
    return Fail(Code::kInternal, "cannot start '{}': {}", argv[0], std::strerror(error));
  return pid;
}

// Takes what is there; false at the end of the stream.
bool Drain(int fd, std::string& text) {
  std::array<char, 4096> chunk;
  const ssize_t n = ::read(fd, chunk.data(), chunk.size());
  if (n <= 0) return n < 0 && errno == EINTR;
  text.append(chunk.data(), std::min(size_t(n), kMostText - std::min(kMostText, text.size())));
  return true;
}

}  // namespace

Interrupts::Interrupts() {
  sigset_t mask;
  sigemptyset(&mask);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&mask, signal);
  sigprocmask(SIG_BLOCK, &mask, &before_);
  fd_ = ::signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

Interrupts::~Interrupts() {
  ::close(fd_);
  sigprocmask(SIG_SETMASK, &before_, nullptr);
}

bool Interrupts::Asked() {
  signalfd_siginfo info;
  while (::read(fd_, &info, sizeof info) > 0) asked_ = true;
  return asked_;
}

Result<ProcessResult> RunProcess(const std::vector<std::string>& argv, Interrupts& interrupts,
                                 const std::function<void()>& tick) {
  Pipe out, err;
  if (out.read < 0 || err.read < 0)
    return Fail(Code::kResourceExhausted, "cannot make a pipe: {}", std::strerror(errno));
  const pid_t pid = TRY(Spawn(argv, out, err));
  out.CloseWrite();
  err.CloseWrite();

  ProcessResult result;
  bool stopping = false;
  std::array<pollfd, 3> wait = {pollfd{out.read, POLLIN, 0}, pollfd{err.read, POLLIN, 0},
                                pollfd{interrupts.fd(), POLLIN, 0}};
  // Until both streams end, which is when the child and all that inherited them are gone.
  while (wait[0].fd >= 0 || wait[1].fd >= 0) {
    if (::poll(wait.data(), wait.size(), kTickMillis) < 0 && errno != EINTR) break;
    if (!stopping && interrupts.Asked()) {
      ::kill(-pid, SIGTERM);
      stopping = true;
    }
    if (wait[0].revents != 0 && !Drain(out.read, result.out)) wait[0].fd = -1;
    if (wait[1].revents != 0 && !Drain(err.read, result.err)) wait[1].fd = -1;
    tick();
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  result.exit_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  if (interrupts.Asked()) return Fail(Code::kCancelled, "interrupted");
  return result;
}

}  // namespace dunlin::cli
