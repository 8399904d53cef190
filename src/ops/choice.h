// Steps that several kernels can compute. An operator's cost model puts the ways in order; what was
// measured on this machine may overrule it (runtime/tune.h).
#pragma once

#include <functional>
#include <span>
#include <string>

#include "ops/op.h"

namespace dunlin {

struct Way {
  std::string name;                          // "winograd_4x4"
  std::function<Result<KernelPtr>()> lower;  // nullptr: not usable here after all
};

// What a LowerContext is as well when it takes part in the choice.
class WayChooser {
 public:
  virtual ~WayChooser() = default;
  // The place of the way to try first; the others follow in their own order.
  virtual size_t First(std::span<const Way> ways) = 0;
  virtual void Took(std::span<const Way> ways, size_t way) = 0;
};

// The kernel of the first way that can be used; nullptr when none can.
Result<KernelPtr> LowerBy(LowerContext& ctx, std::span<const Way> ways);

}  // namespace dunlin
