#include "ops/choice.h"

namespace dunlin {

Result<KernelPtr> LowerBy(LowerContext& ctx, std::span<const Way> ways) {
  auto* const chooser = dynamic_cast<WayChooser*>(&ctx);
  const size_t first = chooser != nullptr && !ways.empty() ? chooser->First(ways) : 0;
  for (size_t i = 0; i < ways.size(); ++i) {
    const size_t way = i == 0 ? first : i <= first ? i - 1 : i;
    KernelPtr kernel = TRY(ways[way].lower());
    if (kernel == nullptr) continue;
    if (chooser != nullptr) chooser->Took(ways, way);
    return kernel;
  }
  return KernelPtr();
}

}  // namespace dunlin
