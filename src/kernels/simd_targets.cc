#include "kernels/simd_targets.h"

#include <hwy/highway.h>
#include <hwy/targets.h>

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

std::string BestSimdTarget() {
  return hwy::TargetName(hwy::SupportedAndGeneratedTargets().front());
}

}  // namespace dunlin
