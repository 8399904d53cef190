// Channel shuffles as exporters write them: groups of channels become an axis, change places with
// the channels inside them, and disappear again.
#include <algorithm>

#include "passes/fuse.h"

namespace dunlin {
namespace {

constexpr std::string_view kShuffle = "dunlin.ChannelShuffle";

// [N, C, …] to [N, groups, C / groups, …], the two axes exchanged, and back. Node 1: the transpose.
// Values: 0 what is shuffled, 1 and 2 the shapes.
Result<std::optional<ValueId>> MakeShuffle(Rewriter& r, const Match& m) {
  const dunlin::Node& transpose = r.node(1);
  const Type &x = r.type(m.var(0)), &split = r.type(transpose.inputs[0]),
             &y = r.type(r.node(0).outputs[0]);
  if (!x.IsStatic() || !split.IsStatic() || !(y == x) || x.dims.rank() < 3 ||
      split.dims.rank() != x.dims.rank() + 1 || CountOf(x.dims) == 0)
    return std::nullopt;
  Dims whole = split.dims;
  whole.erase(1);
  whole[1] = split.dims[1] * split.dims[2];
  std::vector<int64_t> swapped(split.dims.size());
  for (size_t i = 0; i < swapped.size(); ++i) swapped[i] = int64_t(i);
  std::swap(swapped[1], swapped[2]);
  if (whole != x.dims || IntsAttr(*transpose.attrs, "perm") != swapped) return std::nullopt;
  return r.Node(kShuffle, {m.var(0)}, {{"groups", split.dims[1]}});
}

// A shuffle of as many groups as there are equal inputs of the Concat before it: node 1.
Result<std::optional<ValueId>> TakeConcat(Rewriter& r, const Match&) {
  const dunlin::Node& concat = r.node(1);
  const int64_t groups = IntAttr(*r.node(0).attrs, "groups").value_or(0);
  const Type& y = r.type(concat.outputs[0]);
  const int64_t axis = IntAttr(*concat.attrs, "axis").value_or(0);
  if (int64_t(concat.inputs.size()) != groups || groups > OpNamed(kShuffle).max_inputs ||
      (axis != 1 && axis != 1 - y.dims.rank()) ||
      !std::ranges::all_of(concat.inputs, [&](ValueId v) {
        return r.type(v).IsStatic() && r.type(v) == r.type(concat.inputs[0]);
      }))
    return std::nullopt;
  return r.Node(kShuffle, concat.inputs, {{"groups", groups}});
}

std::vector<Rule> MakeRules() {
  return {
      {"channel-shuffle",
       Op("Reshape", {Op("Transpose", {Op("Reshape", {Var(0), Var(1)})}, 1), Var(2)}, 0),
       MakeShuffle},
      {"channel-shuffle-concat", Op(kShuffle, {OpMore({"Concat"}, {Var(0)}, 1)}, 0), TakeConcat},
  };
}

}  // namespace

std::span<const Rule> ShuffleRules() {
  static const std::vector<Rule> rules = MakeRules();
  return rules;
}

}  // namespace dunlin
