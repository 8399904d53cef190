// What the tree operators' attributes say, as WrittenTrees.
#pragma once

#include <string>
#include <vector>

#include "ops/ml/trees.h"
#include "ops/op.h"

namespace dunlin::ml {

// nodes_*: parallel lists; a node is known by the id of its tree and its own.
struct NodeLists {
  std::vector<int64_t> treeids, nodeids, featureids, truenodeids, falsenodeids, missing;
  std::vector<std::string> modes;
  std::vector<float> values, hitrates;
  Tensor values_as_tensor, hitrates_as_tensor;  // in place of the lists, where they are f64
  template <class V>
  void Visit(V& v) {
    v("nodes_treeids", treeids);
    v("nodes_nodeids", nodeids);
    v("nodes_featureids", featureids);
    v("nodes_truenodeids", truenodeids);
    v("nodes_falsenodeids", falsenodeids);
    v("nodes_missing_value_tracks_true", missing);
    v("nodes_modes", modes);
    v("nodes_values", values);
    v("nodes_values_as_tensor", values_as_tensor);
    v("nodes_hitrates", hitrates);  // say how often a node is met; nothing depends on them
    v("nodes_hitrates_as_tensor", hitrates_as_tensor);
  }
};

// target_* or class_*: parallel lists; each entry is a vote at a leaf.
struct VoteLists {
  std::vector<int64_t> treeids, nodeids, ids;
  std::vector<float> weights;
  Tensor weights_as_tensor;
};

// Numbers as a list or, in its place, a tensor.
Result<std::vector<double>> Numbers(const std::vector<float>& list, const Tensor& tensor);
// kInvalidArgument naming two lists of unequal length.
Status CheckLists(const NodeLists& nodes, const VoteLists& votes);
Result<WrittenTrees> Write(const NodeLists& nodes, const VoteLists& votes);

// The lists of TreeEnsemble: children are indices, leaves have lists of their own.
struct EnsembleLists {
  std::vector<int64_t> tree_roots, featureids, truenodeids, falsenodeids, trueleafs, falseleafs;
  std::vector<int64_t> missing, leaf_targetids;
  Tensor modes, splits, leaf_weights, membership_values, hitrates;
  template <class V>
  void Visit(V& v) {
    v("tree_roots", tree_roots);
    v("nodes_featureids", featureids);
    v("nodes_truenodeids", truenodeids);
    v("nodes_falsenodeids", falsenodeids);
    v("nodes_trueleafs", trueleafs);
    v("nodes_falseleafs", falseleafs);
    v("nodes_missing_value_tracks_true", missing);
    v("nodes_modes", modes);
    v("nodes_splits", splits);
    v("nodes_hitrates", hitrates);
    v("leaf_targetids", leaf_targetids);
    v("leaf_weights", leaf_weights);
    v("membership_values", membership_values);
  }
};
Status CheckLists(const EnsembleLists& lists);
Result<WrittenTrees> Write(const EnsembleLists& lists);

}  // namespace dunlin::ml
