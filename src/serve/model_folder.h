// Model folders on disk: <repository>/<model>/config.pbtxt and
// <repository>/<model>/<version>/<file>.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
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
// not versions (`warmup`, `configs`), and a number with leading zeros is warned about.
std::vector<int64_t> ListVersions(const std::string& model_path);

// configs/<variant>.pbtxt where `variant` is given and the file is there, else config.pbtxt; an
// empty configuration when there is none and `required` is false.
Result<inference::ModelConfig> ReadConfig(const std::string& model_path, const std::string& variant,
                                          bool required);

// The file of a version. A folder of that name holds model.onnx and its external data.
std::string ModelFile(const std::string& model_path, int64_t version, const std::string& file);

// The versions among `available` that the policy serves; one asked for by number that is missing is
// logged. Errors: kInvalidArgument when it is none.
Result<std::vector<int64_t>> SelectVersions(const inference::ModelConfig& config,
                                            const std::vector<int64_t>& available);

// A model's folder made of the files of a load request, in the system's folder for temporary files;
// goes with this object, while what is mapped of it stays.
class TemporaryModelFolder {
 public:
  // `files`: paths below the folder, such as "1/model.onnx", and their bytes. Errors:
  // kInvalidArgument (a path that is not such a one, too many), kResourceExhausted (the disk).
  static Result<std::unique_ptr<TemporaryModelFolder>> Create(
      const std::map<std::string, std::string>& files);
  ~TemporaryModelFolder();
  TemporaryModelFolder(const TemporaryModelFolder&) = delete;
  TemporaryModelFolder& operator=(const TemporaryModelFolder&) = delete;
  const std::string& path() const { return path_; }

 private:
  explicit TemporaryModelFolder(std::string path) : path_(std::move(path)) {}
  const std::string path_;
};

// Changes whenever a file below `path` changes name, size or modification time.
std::string Fingerprint(const std::string& path);

}  // namespace dunlin::serve
