#include "cli/manifest.h"

#include <fmt/ranges.h>
#include <simdjson.h>

#include <algorithm>

namespace dunlin::cli {
namespace {

using Json = simdjson::dom::element;

Result<std::string> Text(Json from, std::string_view key) {
  std::string_view text;
  if (from[key].get(text) != simdjson::SUCCESS)
    return Fail(Code::kInvalidArgument, "manifest: an entry has no text '{}'", key);
  return std::string(text);
}

std::string TextOr(Json from, std::string_view key) {
  std::string_view text;
  return from[key].get(text) == simdjson::SUCCESS ? std::string(text) : "";
}

bool IsNameCharacter(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '-' || c == '.';
}

// One path segment, neither hidden nor "..".
bool IsSafeName(std::string_view name) {
  return !name.empty() && name.size() <= 100 && name[0] != '.' && name[0] != '-' &&
         std::ranges::all_of(name, IsNameCharacter);
}

bool IsSafePath(std::string_view path) {
  for (;;) {
    const size_t slash = path.find('/');
    if (!IsSafeName(path.substr(0, slash))) return false;
    if (slash == std::string_view::npos) return true;
    path.remove_prefix(slash + 1);
  }
}

// "name@1.2.3" or "@scope/name@1.2.3": pinned, and never an option or another kind of source.
bool IsPinnedPackage(std::string_view package) {
  if (package.starts_with('@')) package.remove_prefix(1);
  const size_t at = package.find('@');
  if (at == std::string_view::npos || !IsSafePath(package.substr(0, at))) return false;
  const std::string_view version = package.substr(at + 1);
  return !version.empty() && std::isdigit(static_cast<unsigned char>(version[0])) &&
         IsSafeName(version);
}

bool IsSha256(std::string_view text) {
  return text.size() == 64 && std::ranges::all_of(text, [](char c) {
           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
         });
}

// "from": the path of the file, or the paths of its parts.
Result<std::vector<std::string>> ParseParts(Json file) {
  simdjson::dom::array list;
  if (file["from"].get(list) != simdjson::SUCCESS)
    return std::vector<std::string>{TRY(Text(file, "from"))};
  std::vector<std::string> parts;
  for (const Json json : list) {
    std::string_view part;
    if (json.get(part) != simdjson::SUCCESS) break;
    parts.emplace_back(part);
  }
  if (parts.empty() || parts.size() != list.size())
    return Fail(Code::kInvalidArgument, "manifest: 'from' is neither a text nor a list of texts");
  return parts;
}

Result<SampleFile> ParseFile(Json json) {
  SampleFile file;
  file.from = TRY(ParseParts(json));
  file.to = TRY(Text(json, "to"));
  file.sha256 = TRY(Text(json, "sha256"));
  if (!std::ranges::all_of(file.from, IsSafePath) || !IsSafePath(file.to))
    return Fail(Code::kInvalidArgument, "manifest: '{}' or '{}' is not a plain relative path",
                fmt::join(file.from, "', '"), file.to);
  if (!IsSha256(file.sha256))
    return Fail(Code::kInvalidArgument,
                "manifest: the sha256 of '{}' is not 64 lower-case hexadecimal digits", file.to);
  if (json["bytes"].get(file.bytes) != simdjson::SUCCESS || file.bytes < 0)
    return Fail(Code::kInvalidArgument, "manifest: '{}' has no size in bytes", file.to);
  return file;
}

Result<SampleModel> ParseModel(Json json) {
  SampleModel model;
  model.name = TRY(Text(json, "name"));
  model.package = TRY(Text(json, "package"));
  model.license = TRY(Text(json, "license"));
  model.about = TRY(Text(json, "about"));
  model.input = TRY(Text(json, "input"));
  model.config = TextOr(json, "config");
  if (json["default"].get(model.is_default) != simdjson::SUCCESS) model.is_default = false;
  if (!IsSafeName(model.name))
    return Fail(Code::kInvalidArgument, "manifest: '{}' cannot name a folder", model.name);
  if (!IsPinnedPackage(model.package))
    return Fail(Code::kInvalidArgument,
                "manifest: '{}' is not a package with a version, NAME@1.2.3", model.package);
  simdjson::dom::array files;
  if (json["files"].get(files) != simdjson::SUCCESS || files.size() == 0)
    return Fail(Code::kInvalidArgument, "manifest: '{}' has no files", model.name);
  for (const Json file : files) model.files.push_back(TRY(ParseFile(file)));
  return model;
}

}  // namespace

int64_t SampleModel::bytes() const {
  int64_t sum = 0;
  for (const SampleFile& f : files) sum += f.bytes;
  return sum;
}

Result<const SampleModel*> Manifest::Find(const std::string& name) const {
  std::string names;
  for (const SampleModel& m : models) {
    if (m.name == name) return &m;
    names += (names.empty() ? "" : ", ") + m.name;
  }
  return Fail(Code::kNotFound, "no sample model is called '{}'; there are {}", name, names);
}

Result<Manifest> ParseManifest(std::string_view text) {
  simdjson::dom::parser parser;
  Json root;
  if (const auto error = parser.parse(text.data(), text.size()).get(root);
      error != simdjson::SUCCESS)
    return Fail(Code::kInvalidArgument, "manifest: {}", simdjson::error_message(error));
  simdjson::dom::array models;
  if (root["models"].get(models) != simdjson::SUCCESS)
    return Fail(Code::kInvalidArgument, "manifest: it has no array 'models'");
  Manifest manifest;
  for (const Json json : models) {
    manifest.models.push_back(TRY(ParseModel(json)));
    const auto same = [&](const SampleModel& m) { return m.name == manifest.models.back().name; };
    if (std::ranges::count_if(manifest.models, same) > 1)
      return Fail(Code::kInvalidArgument, "manifest: '{}' is there twice",
                  manifest.models.back().name);
  }
  simdjson::dom::object packages;
  if (root["packages"].get(packages) == simdjson::SUCCESS) {
    for (const auto& field : packages) {
      int64_t bytes = 0;
      if (field.value.get(bytes) == simdjson::SUCCESS && bytes >= 0)
        manifest.package_bytes.emplace(field.key, bytes);
    }
  }
  return manifest;
}

}  // namespace dunlin::cli
