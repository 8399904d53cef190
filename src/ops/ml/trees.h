// Tree ensembles as compact arrays, prepared once from the attributes of any of their three
// operators. Nothing here can loop: a cycle among nodes is found when the arrays are made.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "base/result.h"

namespace dunlin::ml {

// Numbered as TreeEnsemble's attribute nodes_modes.
enum class Branch : uint8_t { kLeq, kLt, kGte, kGt, kEq, kNeq, kMember };

// A tree as it is written: children are indices of nodes, or ~index of a leaf.
struct WrittenNode {
  int64_t feature = 0;
  Branch mode = Branch::kLeq;
  bool missing_is_true = false;  // where NaN goes
  double value = 0;              // to compare with; kMember: the index of a set
  int64_t yes = 0, no = 0;
};
struct Vote {
  int64_t target = 0;
  double weight = 0;
};
struct WrittenTrees {
  std::vector<WrittenNode> nodes;
  std::vector<std::vector<Vote>> leaves;
  std::vector<int64_t> roots;
  std::vector<std::vector<double>> sets;
};

// T: what features, thresholds and scores are computed in.
template <class T>
struct Trees {
  struct Node {
    T value;
    uint32_t test;  // feature << 4 | missing_is_true << 3 | mode
    int32_t yes, no;
  };
  struct LeafVote {
    T weight;
    int32_t target;
  };
  std::vector<Node> nodes;  // each tree from its root down, children behind their parents
  std::vector<int32_t> roots;
  std::vector<LeafVote> votes;
  std::vector<int32_t> first_vote;  // leaf i has votes [first_vote[i], first_vote[i + 1])
  std::vector<T> members;           // of all sets, each sorted
  std::vector<int32_t> first_member;
  int64_t features = 0;  // a row must have as many
  bool all_leq = false;  // every node is kLeq and sends NaN the false way

  // The leaf that a row reaches in a tree.
  int32_t Leaf(int32_t root, const T* x) const {
    return all_leq ? Descend<true>(root, x) : Descend<false>(root, x);
  }

 private:
  template <bool kAllLeq>
  int32_t Descend(int32_t at, const T* x) const {
    while (at >= 0) {
      const Node& n = nodes[size_t(at)];
      const T v = x[n.test >> 4];
      const bool yes = kAllLeq ? v <= n.value : Holds(n, v);
      at = yes ? n.yes : n.no;
    }
    return ~at;
  }
  bool Holds(const Node& n, T v) const {
    if (std::isnan(v) && (n.test & 8) != 0) return true;
    switch (Branch(n.test & 7)) {
      case Branch::kLeq:
        return v <= n.value;
      case Branch::kLt:
        return v < n.value;
      case Branch::kGte:
        return v >= n.value;
      case Branch::kGt:
        return v > n.value;
      case Branch::kEq:
        return v == n.value;
      case Branch::kNeq:
        return v != n.value;
      case Branch::kMember:
        return IsMember(size_t(n.value), v);
    }
    return false;
  }
  bool IsMember(size_t set, T v) const;
};

// kInvalidArgument naming the node: a child that does not exist, a cycle, a negative feature; the
// target: none of [0, targets).
template <class T>
Result<Trees<T>> CompileTrees(const WrittenTrees& written, int64_t targets);

}  // namespace dunlin::ml
