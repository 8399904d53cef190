// What the passes did to a graph: which rule changed it how often, and its size before and after.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace dunlin {

struct RuleCount {
  std::string rule;  // "gelu-erf", "dead-node"
  int count = 0;
};

// The changes of one pass, by rule, in the order in which the rules first fired.
class RuleCounts {
 public:
  void Add(std::string_view rule, int count = 1) {
    if (count == 0) return;
    const auto it = std::ranges::find(counts_, rule, &RuleCount::rule);
    if (it == counts_.end())
      counts_.push_back({std::string(rule), count});
    else
      it->count += count;
  }
  const std::vector<RuleCount>& counts() const { return counts_; }

 private:
  std::vector<RuleCount> counts_;
};

// Sub-graphs included; a constant that several nodes share counts once.
struct GraphSize {
  int nodes = 0;
  int64_t constant_bytes = 0;
};

struct PassReport {
  std::string stage;  // "pre", "optimise", "post"
  std::string pass;   // "fold", "simplify", "fuse"
  std::vector<RuleCount> rules;
  GraphSize after;
};

struct OptimizationReport {
  GraphSize before;
  std::vector<PassReport> passes;  // in the order they ran
  GraphSize after() const { return passes.empty() ? before : passes.back().after; }
};

}  // namespace dunlin
