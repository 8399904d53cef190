#include "ops/ml/trees.h"

#include <algorithm>
#include <limits>

namespace dunlin::ml {

template <class T>
bool Trees<T>::IsMember(size_t set, T v) const {
  // A search finds NaN anywhere, for it is neither below nor above.
  return !std::isnan(v) && std::binary_search(members.begin() + first_member[set],
                                              members.begin() + first_member[set + 1], v);
}

namespace {

constexpr int64_t kMaxFeature = (int64_t{1} << 28) - 1;  // what Node::test has bits for
// What a float counts exactly; sets are numbered in a node's value.
constexpr size_t kMaxSets = size_t{1} << 24;

Status Check(const WrittenTrees& w, int64_t targets) {
  constexpr size_t kMost = size_t(std::numeric_limits<int32_t>::max());
  const auto nodes = int64_t(w.nodes.size()), leaves = int64_t(w.leaves.size());
  if (w.nodes.size() >= kMost || w.leaves.size() >= kMost || w.sets.size() > kMaxSets)
    return Fail(Code::kInvalidArgument, "an ensemble of {} nodes and {} leaves is too large", nodes,
                leaves);
  const auto exists = [&](int64_t at) { return at >= -leaves && at < nodes; };
  for (size_t i = 0; i < w.nodes.size(); ++i) {
    const WrittenNode& n = w.nodes[i];
    if (n.feature < 0 || n.feature > kMaxFeature)
      return Fail(Code::kInvalidArgument, "node {} tests feature {}", i, n.feature);
    if (!exists(n.yes) || !exists(n.no))
      return Fail(Code::kInvalidArgument, "node {} has a child that does not exist", i);
  }
  for (size_t t = 0; t < w.roots.size(); ++t)
    if (!exists(w.roots[t]))
      return Fail(Code::kInvalidArgument, "the root of tree {} does not exist", t);
  size_t votes = 0;
  for (const auto& leaf : w.leaves)
    for (const Vote& v : leaf) {
      if (v.target < 0 || v.target >= targets)
        return Fail(Code::kInvalidArgument, "a leaf votes for target {} of {}", v.target, targets);
      if (++votes >= kMost) return Fail(Code::kInvalidArgument, "its leaves have too many votes");
    }
  return {};
}

// Depth first from a root: the places of nodes in the compiled array. Nodes may be shared (a set of
// values is often written as a chain of tests with one common child), a way back may not be.
class Layout {
 public:
  explicit Layout(const WrittenTrees& w)
      : w_(w), place_(w.nodes.size(), kNew), open_(w.nodes.size(), false) {}

  Status Visit(int64_t root) {
    if (root < 0 || place_[size_t(root)] != kNew) return {};
    Enter(root);
    while (!path_.empty()) {
      auto& [node, children] = path_.back();
      const WrittenNode& n = w_.nodes[size_t(node)];
      if (children == 2) {
        open_[size_t(node)] = false;
        path_.pop_back();
        continue;
      }
      const int64_t child = children++ == 0 ? n.yes : n.no;
      if (child < 0) continue;
      if (open_[size_t(child)])
        return Fail(Code::kInvalidArgument, "its nodes form a cycle through node {}", child);
      if (place_[size_t(child)] == kNew) Enter(child);
    }
    return {};
  }
  int32_t PlaceOf(int64_t node) const { return node < 0 ? int32_t(node) : place_[size_t(node)]; }
  const std::vector<int64_t>& order() const { return order_; }

 private:
  static constexpr int32_t kNew = -1;
  void Enter(int64_t node) {
    place_[size_t(node)] = int32_t(order_.size());
    order_.push_back(node);
    open_[size_t(node)] = true;
    path_.emplace_back(node, 0);
  }
  const WrittenTrees& w_;
  std::vector<int32_t> place_;
  std::vector<bool> open_;
  std::vector<int64_t> order_;
  std::vector<std::pair<int64_t, int>> path_;  // node, children visited
};

}  // namespace

template <class T>
Result<Trees<T>> CompileTrees(const WrittenTrees& w, int64_t targets) {
  TRY(Check(w, targets));
  Layout layout(w);
  for (const int64_t root : w.roots) TRY(layout.Visit(root));
  // Nodes that no root leads to cost nothing, but may not be a cycle either.
  for (size_t i = 0; i < w.nodes.size(); ++i) TRY(layout.Visit(int64_t(i)));
  Trees<T> trees;
  trees.all_leq = true;
  for (const int64_t i : layout.order()) {
    const WrittenNode& n = w.nodes[size_t(i)];
    trees.nodes.push_back(
        {T(n.value), uint32_t(n.feature) << 4 | uint32_t(n.missing_is_true) << 3 | uint32_t(n.mode),
         layout.PlaceOf(n.yes), layout.PlaceOf(n.no)});
    trees.features = std::max(trees.features, n.feature + 1);
    trees.all_leq &= n.mode == Branch::kLeq && !n.missing_is_true;
  }
  for (const int64_t root : w.roots) trees.roots.push_back(layout.PlaceOf(root));
  for (const auto& leaf : w.leaves) {
    trees.first_vote.push_back(int32_t(trees.votes.size()));
    for (const Vote& v : leaf) trees.votes.push_back({T(v.weight), int32_t(v.target)});
  }
  trees.first_vote.push_back(int32_t(trees.votes.size()));
  for (const auto& set : w.sets) {
    trees.first_member.push_back(int32_t(trees.members.size()));
    for (const double v : set) trees.members.push_back(T(v));
    std::sort(trees.members.begin() + trees.first_member.back(), trees.members.end());
  }
  trees.first_member.push_back(int32_t(trees.members.size()));
  return trees;
}

template struct Trees<float>;
template struct Trees<double>;
template Result<Trees<float>> CompileTrees<float>(const WrittenTrees&, int64_t);
template Result<Trees<double>> CompileTrees<double>(const WrittenTrees&, int64_t);

}  // namespace dunlin::ml
