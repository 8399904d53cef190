#include "ops/elementwise/elementwise.h"

#include "ops/op.h"

namespace dunlin {

std::span<const OpDef> ElementwiseOps() {
  static const std::vector<OpDef> all = [] {
    std::vector<OpDef> v;
    for (const auto& part : {UnaryOps(), BinaryOps(), VariadicOps(), SelectOps(), ConvertOps()})
      v.insert(v.end(), part.begin(), part.end());
    return v;
  }();
  return all;
}

}  // namespace dunlin
