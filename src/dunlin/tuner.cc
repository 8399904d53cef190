#include "dunlin/tuner.h"

#include "dunlin/tune_file.h"

namespace dunlin {

std::string Tuner::Suffix() { return fmt::format(" {} {}", SimdTarget(), Version()); }

void Tuner::Warn(const Error& error, std::string_view consequence) const {
  if (options_.warn) options_.warn(fmt::format("{}; {}", error.message, consequence));
}

Tuner::Tuner(const TuneOptions& options) : options_(options) {
  auto file = options.file.empty() ? DefaultTuneFile() : Result<std::string>(options.file);
  auto table = file ? ReadTuneFile(*file) : Result<TuneTable>(Fail(file.error()));
  if (!table) {
    Warn(table.error(), "measurements are not kept, remove it or name another file");
    return;
  }
  file_ = *file;
  const std::string suffix = Suffix();
  for (auto& [key, m] : *table)
    if (key.ends_with(suffix)) ways_->Put(key.substr(0, key.size() - suffix.size()), std::move(m));
}

Status Tuner::Measure(const Program& program, PackedWeights& weights,
                      std::span<const Choice> choices, std::span<const RunInput> inputs,
                      const RunEnvironment& env) {
  std::lock_guard lock(mutex_);
  program.DropPlans();
  weights.ForgetUnused();
  TRY(MeasureWays(program, choices, inputs, env, *ways_, [this](TuneProgress p) {
    if (options_.progress) options_.progress(p.done, p.total);
  }));
  if (file_.empty()) return {};
  TuneTable found;
  for (const Choice& c : choices)
    if (const auto m = ways_->Find(c.key)) found[c.key + Suffix()] = *m;
  if (const Status s = MergeIntoTuneFile(file_, found); !s)
    Warn(s.error(), "the measurements last as long as the model is loaded");
  return {};
}

}  // namespace dunlin
