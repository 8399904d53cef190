// Model folders on disk: <repository>/<model>/config.pbtxt and
// <repository>/<model>/<version>/<file>.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "serve/model_config.pb.h"

namespace dunlin::serve {

// A name that is one folder below a repository: not empty, no '/', no NUL, no leading '.'.
bool IsModelName(std::string_view name);

struct ModelFolder {
  std::string name;
  std::string path;
};

// Every folder of every repository, sorted by name; a name found twice appears twice.
// Unreadable repositories: kNotFound.
Result<std::vector<ModelFolder>> ListModels(const std::vector<std::string>& repositories);

// Version numbers in a model's folder, ascending: integers > 0 without leading zeros; others are
// not versions.
std::vector<int64_t> ListVersions(const std::string& model_path);

// config.pbtxt, or an empty configuration when there is none and `required` is false.
Result<inference::ModelConfig> ReadConfig(const std::string& model_path, bool required);

// The versions among `available` that the policy serves. Errors: kInvalidArgument when it is none,
// or when a version asked for by number is missing.
Result<std::vector<int64_t>> SelectVersions(const inference::ModelConfig& config,
                                            const std::vector<int64_t>& available);

// Changes whenever a file below `path` changes name, size or modification time.
std::string Fingerprint(const std::string& path);

}  // namespace dunlin::serve
