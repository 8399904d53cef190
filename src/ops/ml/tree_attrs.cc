#include "ops/ml/tree_attrs.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_map>

namespace dunlin::ml {
namespace {

struct Length {
  std::string_view name;
  size_t have;
};
Status EqualLengths(std::initializer_list<Length> lists) {
  const Length& first = *lists.begin();
  for (const Length& l : lists)
    if (l.have != first.have)
      return Fail(Code::kInvalidArgument, "{} has {} entries, {} has {}", first.name, first.have,
                  l.name, l.have);
  return {};
}

size_t LengthOf(const Tensor& t) { return t.defined() ? size_t(t.count()) : 0; }
// Of a list or the tensor in its place.
size_t LengthOf(const std::vector<float>& list, const Tensor& t) {
  return t.defined() ? LengthOf(t) : list.size();
}

Result<Branch> ParseMode(std::string_view name) {
  static constexpr std::string_view kNames[] = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE",
                                                "BRANCH_GT",  "BRANCH_EQ", "BRANCH_NEQ"};
  const auto* it = std::find(std::begin(kNames), std::end(kNames), name);
  if (it == std::end(kNames))
    return Fail(Code::kInvalidArgument, "nodes_modes has the unknown mode '{}'", name);
  return Branch(it - std::begin(kNames));
}

// Nodes by the ids of their tree and their own.
class NodeIds {
 public:
  explicit NodeIds(const NodeLists& n) : n_(n), order_(n.treeids.size()) {
    std::iota(order_.begin(), order_.end(), size_t{0});
    std::sort(order_.begin(), order_.end(), [&](size_t a, size_t b) { return Id(a) < Id(b); });
  }
  Status CheckDistinct() const {
    for (size_t i = 1; i < order_.size(); ++i)
      if (Id(order_[i - 1]) == Id(order_[i]))
        return Fail(Code::kInvalidArgument, "node {} of tree {} is listed twice",
                    Id(order_[i]).second, Id(order_[i]).first);
    return {};
  }
  Result<size_t> Find(int64_t tree, int64_t node) const {
    const std::pair key(tree, node);
    const auto it = std::lower_bound(order_.begin(), order_.end(), key,
                                     [&](size_t i, const auto& k) { return Id(i) < k; });
    if (it == order_.end() || Id(*it) != key)
      return Fail(Code::kInvalidArgument, "tree {} has no node {}", tree, node);
    return *it;
  }

 private:
  std::pair<int64_t, int64_t> Id(size_t i) const { return {n_.treeids[i], n_.nodeids[i]}; }
  const NodeLists& n_;
  std::vector<size_t> order_;
};

// Of every tree, in the order in which trees are first listed, the first node that is nobody's
// child. A tree without one is a cycle, which compiling it will find.
std::vector<size_t> Roots(const NodeLists& n, const std::vector<bool>& is_child) {
  struct Tree {
    size_t root;
    bool found;
  };
  std::vector<Tree> trees;
  std::unordered_map<int64_t, size_t> index;
  for (size_t i = 0; i < n.treeids.size(); ++i) {
    const auto [it, fresh] = index.try_emplace(n.treeids[i], trees.size());
    if (fresh) trees.push_back({i, false});
    Tree& t = trees[it->second];
    if (!t.found && !is_child[i]) t = {i, true};
  }
  std::vector<size_t> roots;
  for (const Tree& t : trees) roots.push_back(t.root);
  return roots;
}

}  // namespace

Result<std::vector<double>> Numbers(const std::vector<float>& list, const Tensor& tensor) {
  if (!tensor.defined()) return std::vector<double>(list.begin(), list.end());
  const Tensor t = TRY(Convert(tensor, DType::kF64));
  const auto v = t.values<double>();
  return std::vector<double>(v.begin(), v.end());
}

Status CheckLists(const NodeLists& n, const VoteLists& v) {
  if (n.treeids.empty()) return Fail(Code::kInvalidArgument, "it has no nodes");
  TRY(EqualLengths({{"nodes_treeids", n.treeids.size()},
                    {"nodes_nodeids", n.nodeids.size()},
                    {"nodes_featureids", n.featureids.size()},
                    {"nodes_modes", n.modes.size()},
                    {"nodes_values", LengthOf(n.values, n.values_as_tensor)},
                    {"nodes_truenodeids", n.truenodeids.size()},
                    {"nodes_falsenodeids", n.falsenodeids.size()}}));
  if (!n.missing.empty())
    TRY(EqualLengths({{"nodes_treeids", n.treeids.size()},
                      {"nodes_missing_value_tracks_true", n.missing.size()}}));
  return EqualLengths({{"the list of votes' trees", v.treeids.size()},
                       {"that of their nodes", v.nodeids.size()},
                       {"that of what they are for", v.ids.size()},
                       {"that of their weights", LengthOf(v.weights, v.weights_as_tensor)}});
}

Result<WrittenTrees> Write(const NodeLists& n, const VoteLists& v) {
  TRY(CheckLists(n, v));
  const NodeIds ids(n);
  TRY(ids.CheckDistinct());
  const std::vector<double> values = TRY(Numbers(n.values, n.values_as_tensor));
  const std::vector<double> weights = TRY(Numbers(v.weights, v.weights_as_tensor));
  WrittenTrees w;
  const size_t count = n.treeids.size();
  std::vector<int64_t> place(count);  // of listed nodes among the written, ~leaf for leaves
  for (size_t i = 0; i < count; ++i) {
    if (n.modes[i] == "LEAF") {
      place[i] = ~int64_t(w.leaves.size());
      w.leaves.emplace_back();
    } else {
      place[i] = int64_t(w.nodes.size());
      w.nodes.emplace_back();
    }
  }
  std::vector<bool> is_child(count, false);
  for (size_t i = 0; i < count; ++i) {
    if (place[i] < 0) continue;
    const size_t yes = TRY(ids.Find(n.treeids[i], n.truenodeids[i]));
    const size_t no = TRY(ids.Find(n.treeids[i], n.falsenodeids[i]));
    is_child[yes] = is_child[no] = true;
    w.nodes[size_t(place[i])] = {n.featureids[i],
                                 TRY(ParseMode(n.modes[i])),
                                 !n.missing.empty() && n.missing[i] != 0,
                                 values[i],
                                 place[yes],
                                 place[no]};
  }
  for (const size_t root : Roots(n, is_child)) w.roots.push_back(place[root]);
  for (size_t i = 0; i < v.ids.size(); ++i) {
    const int64_t at = place[TRY(ids.Find(v.treeids[i], v.nodeids[i]))];
    // Some exporters give inner nodes votes; nobody ends there.
    if (at < 0) w.leaves[size_t(~at)].push_back({v.ids[i], weights[i]});
  }
  return w;
}

Status CheckLists(const EnsembleLists& l) {
  if (l.tree_roots.empty()) return Fail(Code::kInvalidArgument, "it has no trees");
  TRY(EqualLengths({{"nodes_featureids", l.featureids.size()},
                    {"nodes_modes", LengthOf(l.modes)},
                    {"nodes_splits", LengthOf(l.splits)},
                    {"nodes_truenodeids", l.truenodeids.size()},
                    {"nodes_falsenodeids", l.falsenodeids.size()},
                    {"nodes_trueleafs", l.trueleafs.size()},
                    {"nodes_falseleafs", l.falseleafs.size()}}));
  if (!l.missing.empty())
    TRY(EqualLengths({{"nodes_featureids", l.featureids.size()},
                      {"nodes_missing_value_tracks_true", l.missing.size()}}));
  return EqualLengths(
      {{"leaf_targetids", l.leaf_targetids.size()}, {"leaf_weights", LengthOf(l.leaf_weights)}});
}

Result<WrittenTrees> Write(const EnsembleLists& l) {
  TRY(CheckLists(l));
  const std::vector<double> splits = TRY(Numbers({}, l.splits));
  const std::vector<double> weights = TRY(Numbers({}, l.leaf_weights));
  const std::vector<double> members = TRY(Numbers({}, l.membership_values));
  const std::vector<int64_t> modes =
      l.modes.defined() ? TRY(ToInts(l.modes)) : std::vector<int64_t>();
  WrittenTrees w;
  for (size_t i = 0; i < weights.size(); ++i)
    w.leaves.push_back({{l.leaf_targetids[i], weights[i]}});
  const auto child = [&](size_t node, int64_t id, bool leaf) -> Result<int64_t> {
    if (id < 0 || id >= int64_t(leaf ? w.leaves.size() : l.featureids.size()))
      return Fail(Code::kInvalidArgument, "node {} has {} {} as a child, which does not exist",
                  node, leaf ? "leaf" : "node", id);
    return leaf ? ~id : id;
  };
  size_t member = 0;  // sets stand in the order of their nodes, each ended by NaN
  for (size_t i = 0; i < splits.size(); ++i) {
    if (modes[i] < 0 || modes[i] > int64_t(Branch::kMember))
      return Fail(Code::kInvalidArgument, "nodes_modes has the unknown mode {}", modes[i]);
    double value = splits[i];
    if (modes[i] == int64_t(Branch::kMember)) {
      if (member >= members.size())
        return Fail(Code::kInvalidArgument, "membership_values has no set for node {}", i);
      value = double(w.sets.size());
      w.sets.emplace_back();
      while (member < members.size() && !std::isnan(members[member]))
        w.sets.back().push_back(members[member++]);
      ++member;
    }
    w.nodes.push_back({l.featureids[i], Branch(modes[i]), !l.missing.empty() && l.missing[i] != 0,
                       value, TRY(child(i, l.truenodeids[i], l.trueleafs[i] != 0)),
                       TRY(child(i, l.falsenodeids[i], l.falseleafs[i] != 0))});
  }
  for (const int64_t root : l.tree_roots) {
    if (root < 0 || root >= int64_t(w.nodes.size()))
      return Fail(Code::kInvalidArgument, "tree_roots has {}, which is no node", root);
    w.roots.push_back(root);
  }
  return w;
}

}  // namespace dunlin::ml
