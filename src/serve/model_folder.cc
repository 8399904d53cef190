#include "serve/model_folder.h"

#include <fmt/format.h>
#include <stdlib.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "base/log.h"
#include "serve/config.h"

namespace dunlin::serve {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMaxConfigBytes = 16 << 20;
constexpr int kMaxFingerprintFiles = 100000;
constexpr size_t kMaxTemporaryFiles = 1000;

// A relative path of plain names, so that it stays where it is put.
bool StaysInside(const std::string& path) {
  if (path.empty() || path.size() > 1024 || path.find('\0') != std::string::npos) return false;
  for (size_t at = 0; at <= path.size();) {
    const size_t end = std::min(path.find('/', at), path.size());
    const std::string_view part = std::string_view(path).substr(at, end - at);
    if (part.empty() || part == "." || part == ".." || part.size() > 255) return false;
    at = end + 1;
  }
  return true;
}

}  // namespace

bool IsModelName(std::string_view name) {
  return !name.empty() && name.size() <= 255 && name[0] != '.' &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

Result<std::vector<ModelFolder>> ListModels(const std::vector<std::string>& repositories) {
  std::vector<ModelFolder> models;
  for (const std::string& repository : repositories) {
    std::error_code error;
    fs::directory_iterator it(repository, error);
    if (error)
      return Fail(Code::kNotFound, "model repository '{}' cannot be read: {}", repository,
                  error.message());
    for (; !error && it != fs::directory_iterator(); it.increment(error)) {
      std::error_code type_error;
      const std::string name = it->path().filename().string();
      if (IsModelName(name) && it->is_directory(type_error))
        models.push_back({name, it->path().string()});
    }
  }
  std::sort(models.begin(), models.end(), [](const ModelFolder& a, const ModelFolder& b) {
    return std::tie(a.name, a.path) < std::tie(b.name, b.path);
  });
  return models;
}

std::vector<int64_t> ListVersions(const std::string& model_path) {
  std::vector<int64_t> versions;
  std::error_code error;
  for (fs::directory_iterator it(model_path, error); !error && it != fs::directory_iterator();
       it.increment(error)) {
    std::error_code type_error;
    const std::string name = it->path().filename().string();
    int64_t v = 0;
    const auto [end, parse] = std::from_chars(name.data(), name.data() + name.size(), v);
    if (parse != std::errc() || end != name.data() + name.size() || v <= 0 ||
        !it->is_directory(type_error))
      continue;
    if (name[0] != '0')
      versions.push_back(v);
    else
      log::Warning("a version folder with leading zeros in its name is ignored",
                   {{"folder", it->path().string()}});
  }
  std::sort(versions.begin(), versions.end());
  return versions;
}

Result<inference::ModelConfig> ReadConfig(const std::string& model_path, const std::string& variant,
                                          bool required) {
  std::string path = model_path + "/config.pbtxt";
  std::error_code ignored;
  if (const std::string file = fmt::format("{}/configs/{}.pbtxt", model_path, variant);
      !variant.empty() && fs::exists(file, ignored))
    path = file;
  std::error_code error;
  const uintmax_t size = fs::file_size(path, error);
  if (error) {
    if (error == std::errc::no_such_file_or_directory && !required) return inference::ModelConfig();
    return Fail(Code::kNotFound, "failed to read '{}': {}", path, error.message());
  }
  if (size > kMaxConfigBytes)
    return Fail(Code::kInvalidArgument, "'{}' is larger than {} bytes", path, kMaxConfigBytes);
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  if (!in) return Fail(Code::kNotFound, "failed to read '{}'", path);
  auto config = ParseConfigText(text.str());
  if (!config)
    return Fail(Code::kInvalidArgument, "failed to read text proto from {}: {}", path,
                config.error().message);
  return config;
}

std::string ModelFile(const std::string& model_path, int64_t version, const std::string& file) {
  std::string path = fmt::format("{}/{}/{}", model_path, version, file);
  std::error_code error;
  return fs::is_directory(path, error) ? path + "/model.onnx" : path;
}

Result<std::vector<int64_t>> SelectVersions(const inference::ModelConfig& config,
                                            const std::vector<int64_t>& available) {
  const inference::ModelVersionPolicy& policy = config.version_policy();
  std::vector<int64_t> selected;
  if (policy.has_specific()) {
    for (const int64_t v : policy.specific().versions()) {
      if (std::binary_search(available.begin(), available.end(), v))
        selected.push_back(v);
      else
        log::Error("a version is specified, but its folder is not present",
                   {{"model", config.name()}, {"version", v}});
    }
    std::sort(selected.begin(), selected.end());
    selected.erase(std::unique(selected.begin(), selected.end()), selected.end());
  } else if (policy.has_all()) {
    selected = available;
  } else {
    const size_t n = std::max<uint32_t>(1, policy.latest().num_versions());
    selected.assign(available.end() - ptrdiff_t(std::min(n, available.size())), available.end());
  }
  if (selected.empty())
    return Fail(Code::kInvalidArgument,
                "at least one version must be available under the version policy of model '{}'",
                config.name());
  return selected;
}

Result<std::unique_ptr<TemporaryModelFolder>> TemporaryModelFolder::Create(
    const std::map<std::string, std::string>& files) {
  if (files.size() > kMaxTemporaryFiles)
    return Fail(Code::kInvalidArgument, "a load request may bring {} files, this one has {}",
                kMaxTemporaryFiles, files.size());
  for (const auto& [path, bytes] : files)
    if (!StaysInside(path))
      return Fail(Code::kInvalidArgument,
                  "'file:{}' does not name a file in the model's folder, as file:<version>/<file> "
                  "does",
                  path);
  std::error_code error;
  std::string pattern = (fs::temp_directory_path(error) / "dunlin-model-XXXXXX").string();
  if (error || ::mkdtemp(pattern.data()) == nullptr)  // only this user may look inside
    return Fail(Code::kResourceExhausted, "cannot make the temporary folder '{}'", pattern);
  auto folder = std::unique_ptr<TemporaryModelFolder>(new TemporaryModelFolder(pattern));
  for (const auto& [name, bytes] : files) {
    const fs::path path = fs::path(pattern) / name;
    fs::create_directories(path.parent_path(), error);
    std::ofstream out(path, std::ios::binary);
    out.write(bytes.data(), std::streamsize(bytes.size()));
    out.close();
    if (!out) return Fail(Code::kResourceExhausted, "cannot write '{}'", path.string());
  }
  return folder;
}

TemporaryModelFolder::~TemporaryModelFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::string Fingerprint(const std::string& path) {
  std::vector<std::string> files;
  const auto add = [&](const fs::path& p) {
    std::error_code error;
    const auto size = fs::is_regular_file(p, error) ? fs::file_size(p, error) : 0;
    const auto time = fs::last_write_time(p, error).time_since_epoch().count();
    files.push_back(fmt::format("{}|{}|{}", p.string(), size, time));
  };
  std::error_code error;
  if (!fs::is_directory(path, error)) {
    add(path);
  } else {
    fs::recursive_directory_iterator it(path, fs::directory_options::skip_permission_denied, error);
    for (int n = 0; !error && it != fs::recursive_directory_iterator() && n < kMaxFingerprintFiles;
         it.increment(error), ++n)
      add(it->path());
  }
  std::sort(files.begin(), files.end());
  return fmt::format("{}", fmt::join(files, "\n"));
}

}  // namespace dunlin::serve
