// The sets of inputs that `dunlin compare` runs two models on.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "cli/inputs.h"

namespace dunlin::cli {

struct DataOptions {
  // Files and folders. A file is one set for a model with one required input; a .npy with more rows
  // (along its first axis) than the model takes is cut. A folder is what is in it, by name; a
  // folder inside it is one set: a file INPUT.npy (or another ending) for each input.
  std::vector<std::string> paths = {};
  int random = 0;  // further sets, generated from the seed and those that follow it
};

class DataSets {
 public:
  // kNotFound or kInvalidArgument, naming the path. Without any path or random set there is one: of
  // the inputs that `base` names or generates.
  static Result<DataSets> Create(std::span<const PortInfo> ports, const InputOptions& base,
                                 const DataOptions& data);
  size_t size() const { return sets_.size(); }
  const std::string& label(size_t i) const { return sets_[i].label; }
  // Reads the files of set i; nothing but the last .npy that is cut stays in memory.
  Result<Inputs> Get(size_t i);

 private:
  struct Set {
    std::string label;
    std::vector<std::string> files;  // as InputOptions::files
    uint64_t seed = 0;
    std::string cut;  // a .npy of which this set has rows [first, first + rows)
    int64_t first = 0, rows = 0;
  };
  Status AddPath(const std::string& path);
  Status AddFile(const std::string& path);
  Result<Tensor> Rows(const Set& set);

  std::vector<PortInfo> ports_;
  InputOptions base_;
  std::vector<Set> sets_;
  std::string open_path_;  // what open_ was read from
  Tensor open_;
};

}  // namespace dunlin::cli
