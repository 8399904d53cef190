// What becomes of results: files, a summary, or the best classes.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "dunlin/engine.h"

namespace dunlin::cli {

// DIR/NAME.npy per tensor, DIR/NAME.0.npy … per element of a sequence, DIR/NAME.json for a map or a
// sequence of maps (cli/map_json.h), nothing for an absent optional. DIR is made when it is not
// there. Returns the paths written.
Result<std::vector<std::string>> SaveOutputs(const std::string& dir,
                                             std::span<const NamedValue> outputs);

// Name, type, shape, min, mean, max and first values, a line or two per output.
std::string Summary(std::span<const NamedValue> outputs);

struct Ranked {
  int64_t index = 0;
  double score = 0;
};
// The k largest of `scores`, largest first; equal ones in order of index; NaN is never among them.
std::vector<Ranked> TopK(std::span<const double> scores, int k);

// The k best classes of every row of every numeric output; classes are the last extent that is
// not 1. `labels` may be empty or shorter than the classes. At most eight rows per output are
// shown.
std::string TopKText(std::span<const NamedValue> outputs, int k,
                     std::span<const std::string> labels);

}  // namespace dunlin::cli
