#include "kernels/simd_targets.h"

#include <hwy/highway.h>
#include <hwy/targets.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>
#include <vector>

namespace dunlin {

void ForEachSimdTarget(const std::function<void(const char* name)>& fn) {
  for (const int64_t target : hwy::SupportedAndGeneratedTargets()) {
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(target);
    fn(hwy::TargetName(target));
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

namespace {
int64_t ChooseTarget() {
  const std::vector<int64_t> targets = hwy::SupportedAndGeneratedTargets();
  const char* const wanted = std::getenv("DUNLIN_SIMD");
  if (wanted == nullptr || *wanted == 0) return targets.front();
  std::string names;
  for (const int64_t target : targets) {
    if (std::string_view(hwy::TargetName(target)) == wanted) {
      hwy::GetChosenTarget().Update(target);
      return target;
    }
    names += std::string(names.empty() ? "" : ", ") + hwy::TargetName(target);
  }
  std::fprintf(stderr, "DUNLIN_SIMD=%s is ignored: this machine runs %s\n", wanted, names.c_str());
  return targets.front();
}
}  // namespace

std::string BestSimdTarget() {
  static const int64_t chosen = ChooseTarget();
  return hwy::TargetName(chosen);
}

}  // namespace dunlin
