// What MakeRagged knows of a value: which of its axes are the batch and which the tokens.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include "ir/graph.h"

namespace dunlin {

enum class AxisRole : uint8_t {
  kPlain,
  kBatch,   // packed: 1 beside a token axis, else one per sequence
  kTokens,  // packed: all tokens; also batch and tokens merged
};

struct Role {
  enum class Kind : uint8_t {
    kFixed,    // depends on no input
    kExtents,  // numbers computed from extents of the inputs, as shapes are
    kPacked,
  } kind = Kind::kFixed;
  std::vector<AxisRole> axes;  // kFixed: all plain
  Dims dims;                   // before packing

  static Role Fixed(const Dims& dims) {
    return {Kind::kFixed, std::vector<AxisRole>(dims.size(), AxisRole::kPlain), dims};
  }
  bool packed() const { return kind == Kind::kPacked; }
  int rank() const { return int(axes.size()); }
  int64_t count(AxisRole r) const { return std::count(axes.begin(), axes.end(), r); }
  bool has_tokens() const { return count(AxisRole::kTokens) > 0; }
  // Of whole sequences.
  bool per_segment() const { return packed() && !has_tokens() && count(AxisRole::kBatch) > 0; }
};

// Of broadcasting values to one; what stands against it is the error's text.
Result<Role> Combine(const std::vector<Role>& parts);
// Fails where values of whole sequences meet values of tokens: packed, a batch of both differs.
Status CheckLevels(const std::vector<Role>& parts);

// The same elements under the extents `to`, of which one may be unknown. `batch` and `tokens` are
// the symbols of the inputs.
Result<Role> Regroup(const Role& from, const Dims& to, int64_t batch, int64_t tokens);

}  // namespace dunlin
