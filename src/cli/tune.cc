#include "cli/tune.h"

#include <unistd.h>

#include <cstdio>

#include "cli/text.h"

namespace dunlin::cli {

std::optional<TuneOptions> ShowTuning(std::optional<TuneOptions> options) {
  if (!options) return options;
  options->warn = [](const std::string& text) { fmt::print(stderr, "warning: {}\n", text); };
  if (::isatty(STDERR_FILENO) != 0)
    options->progress = [](int done, int total) {
      if (done < total)
        fmt::print(stderr, "\rmeasuring: run {} of {}", done, total);
      else
        fmt::print(stderr, "\r\x1b[K");
      std::fflush(stderr);
    };
  return options;
}

std::string TuningText(std::span<const TunedStep> steps) {
  Table table({"step", "the cost model's", "", "measured best", "", "ratio"});
  double model = 0, best = 0;
  size_t other = 0;
  for (const TunedStep& s : steps) {
    model += s.model_microseconds;
    best += s.microseconds;
    if (s.way == s.model_way) continue;
    ++other;
    table.Add({s.name, s.model_way, HumanMillis(s.model_microseconds / 1000), s.way,
               HumanMillis(s.microseconds / 1000),
               fmt::format("{:.2f}", s.model_microseconds / s.microseconds)});
  }
  return fmt::format(
      "{}{} of {} steps that have a choice take another way than the cost model's: {} against {} "
      "for all of them\n",
      other > 0 ? table.Text() : "", other, steps.size(), HumanMillis(best / 1000),
      HumanMillis(model / 1000));
}

}  // namespace dunlin::cli
