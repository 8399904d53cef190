// What `dunlin compare` says: text, JSON, a picture.
#pragma once

#include <string>
#include <vector>

#include "cli/compare.h"

namespace dunlin::cli {

struct CompareReport {
  std::string a, b;
  size_t sets = 0, layer_sets = 0;
  std::vector<Compared> outputs, layers;  // layers in the order in which a computes them
  bool by_name = true;                    // how layers were paired (cli/compare_pairs.h)
  size_t only_a = 0, only_b = 0;          // values inside that have no partner
};

// Layers by SQNR, the worst ten first; or all of them in a's order.
std::string CompareText(const CompareReport& report, bool all_layers);
std::string CompareJson(const CompareReport& report);
// An SVG: the SQNR of every layer, in order; the worst has its name beside it.
std::string SqnrSvg(const CompareReport& report);

}  // namespace dunlin::cli
