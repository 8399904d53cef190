#include "runtime/tune.h"

#include <algorithm>
#include <chrono>
#include <limits>

#include "runtime/weight_cache.h"

namespace dunlin {
namespace {

// Runs of each way. The smallest time counts: whatever disturbs a run makes it longer.
constexpr int kRuns = 7;

// Way number `round` of every step that is not known yet; the cost model's where there are fewer.
class RoundPolicy : public WayPolicy {
 public:
  RoundPolicy(size_t round, const MeasuredWays& known) : round_(round), known_(known) {}
  size_t First(const std::string& key, std::span<const std::string> ways) const override {
    if (known_.Find(key)) return known_.First(key, ways);
    return round_ < ways.size() ? round_ : 0;
  }

 private:
  const size_t round_;
  const MeasuredWays& known_;
};

// A choice with the time of its step.
struct TimedChoice {
  const Choice* choice;
  double microseconds;
};

void Collect(const RunTimes& times, std::vector<TimedChoice>& out) {
  for (const Choice& c : times.plan->choices)
    for (size_t i = 0; i < times.plan->steps.size(); ++i)
      if (times.plan->steps[i].node == c.node ||
          std::ranges::count(times.plan->steps[i].more_nodes, c.node) > 0)
        out.push_back({&c, times.microseconds[i]});
  for (const auto& bodies : times.bodies)
    for (const RunTimes& body : bodies) Collect(body, out);
}

struct Round {
  std::vector<Choice> choices;
  std::vector<double> microseconds;  // of each choice, the least of all runs
};

Result<Round> RunRound(const Program& program, size_t round, std::span<const RunInput> inputs,
                       const RunEnvironment& env, const MeasuredWays& known,
                       const std::function<void()>& ran) {
  ProgramContext context = program.context();
  // Of its own, so that the ways that lose leave nothing behind.
  context.weights = MakeWeightCache(env.pool);
  context.chains.spill_bytes = std::numeric_limits<int64_t>::max();
  context.ways = std::make_shared<RoundPolicy>(round, known);
  const auto graph = std::make_shared<const Program>(program.graph().Clone(), context);
  RunEnvironment timed = env;
  timed.timed = true;
  timed.threads = std::min(context.threads, env.pool->threads());
  Execution execution(graph);
  Round result;
  std::vector<double> before;
  for (int run = 0; run <= kRuns; ++run) {
    TRY(execution.Run(inputs, timed));
    ran();
    std::vector<TimedChoice> now;
    Collect(execution.Times(), now);
    // A body whose shapes changed between runs has another plan; its times begin anew.
    if (now.size() != before.size()) {
      before.assign(now.size(), 0);
      result.microseconds.assign(now.size(), std::numeric_limits<double>::infinity());
    }
    result.choices.clear();
    for (size_t i = 0; i < now.size(); ++i) {
      const double took = now[i].microseconds - before[i];
      // The first run finds cold caches and fresh memory.
      if (run > 0 && took > 0) result.microseconds[i] = std::min(result.microseconds[i], took);
      before[i] = now[i].microseconds;
      result.choices.push_back(*now[i].choice);
    }
  }
  return result;
}

// The mean over the steps of one key, per way.
using Means = std::map<std::string, std::map<std::string, std::pair<double, int>>>;

void Add(const Round& round, const MeasuredWays& known, Means& means) {
  for (size_t i = 0; i < round.choices.size(); ++i) {
    const Choice& c = round.choices[i];
    const double t = round.microseconds[i];
    if (c.ways.size() < 2 || known.Find(c.key) || t == std::numeric_limits<double>::infinity())
      continue;
    auto& [sum, count] = means[c.key][c.ways[c.way]];
    sum += t;
    ++count;
  }
}

Measured Decide(const std::string& model, const std::map<std::string, std::pair<double, int>>& m) {
  Measured result{model, {}};
  for (const auto& [way, mean] : m) result.times.push_back({way, mean.first / mean.second});
  std::ranges::sort(result.times, {}, [&](const WayTime& t) {
    return std::make_pair(t.way != model, t.microseconds);
  });
  const WayTime& best = *std::ranges::min_element(result.times, {}, &WayTime::microseconds);
  const WayTime& first = result.times.front();
  if (first.way != model || best.microseconds < (1 - kLeastGain) * first.microseconds)
    result.way = best.way;
  return result;
}

}  // namespace

size_t MeasuredWays::First(const std::string& key, std::span<const std::string> ways) const {
  std::lock_guard lock(mutex_);
  const auto it = found_.find(key);
  if (it == found_.end()) return 0;
  const auto way = std::ranges::find(ways, it->second.way);
  return way == ways.end() ? 0 : size_t(way - ways.begin());
}

std::optional<Measured> MeasuredWays::Find(const std::string& key) const {
  std::lock_guard lock(mutex_);
  const auto it = found_.find(key);
  return it == found_.end() ? std::nullopt : std::optional(it->second);
}

void MeasuredWays::Put(const std::string& key, Measured m) {
  std::lock_guard lock(mutex_);
  found_[key] = std::move(m);
}

std::map<std::string, Measured> MeasuredWays::All() const {
  std::lock_guard lock(mutex_);
  return found_;
}

std::vector<Choice> UnknownChoices(const RunTimes& times, const MeasuredWays& known) {
  std::vector<TimedChoice> all;
  Collect(times, all);
  std::vector<Choice> unknown;
  for (const TimedChoice& c : all)
    if (c.choice->ways.size() > 1 && !known.Find(c.choice->key)) unknown.push_back(*c.choice);
  return unknown;
}

Status MeasureWays(const Program& program, std::span<const Choice> choices,
                   std::span<const RunInput> inputs, const RunEnvironment& env, MeasuredWays& known,
                   const std::function<void(TuneProgress)>& progress) {
  size_t rounds = 0;
  std::map<std::string, std::string> model;  // key to the cost model's way
  for (const Choice& c : choices) {
    rounds = std::max(rounds, c.ways.size());
    model[c.key] = c.ways[c.way];
  }
  TuneProgress at{0, int(rounds) * (kRuns + 1)};
  const auto ran = [&] {
    ++at.done;
    if (progress) progress(at);
  };
  Means means;
  for (size_t round = 0; round < rounds; ++round)
    Add(TRY(RunRound(program, round, inputs, env, known, ran)), known, means);
  for (const auto& [key, ways] : means)
    if (const auto it = model.find(key); it != model.end())
      known.Put(key, Decide(it->second, ways));
  return {};
}

}  // namespace dunlin
