#include "cli/progress.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>

#include "base/result.h"
#include "cli/text.h"

namespace dunlin::cli {

Progress::Progress(std::FILE* to, int64_t total)
    : to_(to), terminal_(::isatty(fileno(to)) == 1), total_(total) {}

void Progress::Show(const std::string& what) {
  if (!terminal_) return;
  winsize size{};
  const size_t width =
      ::ioctl(fileno(to_), TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 80;
  const auto elapsed = std::chrono::steady_clock::now() - start_;
  const int seconds = int(std::chrono::duration_cast<std::chrono::seconds>(elapsed).count());
  fmt::print(to_, "\r\x1b[K{}", ProgressLine(done_, total_, seconds, what, width - 1));
  std::fflush(to_);
  shown_ = true;
}

void Progress::Clear() {
  if (shown_) fmt::print(to_, "\r\x1b[K");
  shown_ = false;
}

std::string ProgressLine(int64_t done, int64_t total, int seconds, const std::string& what,
                         size_t width) {
  constexpr int kCells = 20;
  const double share = total > 0 ? std::clamp(double(done) / double(total), 0.0, 1.0) : 0;
  const int full = int(share * kCells);
  const std::string line =
      fmt::format("[{}{}] {:3.0f} %  {} of {}  {} s  {}", std::string(size_t(full), '#'),
                  std::string(size_t(kCells - full), '.'), 100 * share, HumanBytes(done),
                  HumanBytes(total), seconds, what);
  return line.substr(0, width);
}

}  // namespace dunlin::cli
