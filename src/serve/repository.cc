#include "serve/repository.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <future>

#include "base/log.h"
#include "base/thread_pool.h"
#include "serve/config.h"
#include "serve/model_folder.h"

namespace dunlin::serve {
namespace {

constexpr const char* kControlDisabled =
    "explicit model load / unload is not allowed if polling is enabled";

// Which of the folders is the model's. Two of the same name would make the answer depend on the
// order.
Result<std::string> FindFolder(const std::vector<std::string>& repositories,
                               const std::string& model) {
  std::vector<std::string> found;
  if (IsModelName(model)) {
    for (ModelFolder& f : TRY(ListModels(repositories)))
      if (f.name == model) found.push_back(std::move(f.path));
  }
  if (found.empty())
    return Fail(Code::kInvalidArgument, "failed to load '{}', failed to poll from model repository",
                model);
  if (found.size() > 1)
    return Fail(Code::kInvalidArgument,
                "failed to load '{}', model appears in two or more repositories", model);
  return found[0];
}

}  // namespace

std::string_view StateName(VersionState state) {
  switch (state) {
    case VersionState::kReady:
      return "READY";
    case VersionState::kUnavailable:
      return "UNAVAILABLE";
    case VersionState::kLoading:
      return "LOADING";
    case VersionState::kUnloading:
      return "UNLOADING";
    case VersionState::kUnknown:
      break;
  }
  return "UNKNOWN";
}

// What a load found out about one version before it is published.
struct Repository::Fresh {
  std::shared_ptr<ModelVersion> model;  // null: the one that serves is still right
  std::string fingerprint;
  uint64_t serial = 0;
};

Repository::Repository(RepositoryOptions options, std::unique_ptr<Backend> backend,
                       Metrics& metrics)
    : options_(std::move(options)),
      backend_(std::move(backend)),
      metrics_(metrics),
      pool_(options_.load_threads) {}

Repository::~Repository() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  stop_polling_.notify_all();
  if (poller_.joinable()) poller_.join();
  std::map<std::string, Entry> entries;
  {
    const std::lock_guard lock(mutex_);
    entries.swap(entries_);
  }
  // Each model's end becomes a task, and the pool ends after its tasks. A load that is still
  // running finds stopping_ set and publishes nothing.
}

Status Repository::Start() {
  std::vector<std::string> names;
  const auto folders = TRY(ListModels(options_.repositories));
  const bool all = options_.mode != ControlMode::kExplicit ||
                   std::count(options_.load_models.begin(), options_.load_models.end(), "*") > 0;
  if (all) {
    for (const ModelFolder& f : folders) names.push_back(f.name);
  } else {
    names = options_.load_models;
  }
  std::sort(names.begin(), names.end());
  std::erase(names, "*");
  names.erase(std::unique(names.begin(), names.end()), names.end());
  std::vector<std::future<Status>> results;
  for (const std::string& name : names) {
    auto promise = std::make_shared<std::promise<Status>>();
    results.push_back(promise->get_future());
    pool_.Post([this, name, promise] { promise->set_value(LoadNow(name, std::nullopt)); });
  }
  std::vector<std::string> failures;
  for (auto& r : results)
    if (const Status s = r.get(); !s) failures.push_back(s.error().message);
  {
    const std::lock_guard lock(mutex_);
    started_ = true;
    for (const std::string& name : names)
      if (!entries_.contains(name)) missing_.insert(name);
  }
  if (options_.mode == ControlMode::kPoll) poller_ = std::thread([this] { PollLoop(); });
  if (failures.empty()) return {};
  return Fail(Code::kFailedPrecondition, "{}", fmt::join(failures, "; "));
}

Result<std::shared_ptr<ModelVersion>> Repository::Find(const std::string& model,
                                                       int64_t version) const {
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(model);
  if (entry == entries_.end())
    return Fail(Code::kNotFound, "Request for unknown model: '{}' is not found", model);
  const auto& versions = entry->second.versions;
  if (version <= 0) {
    for (auto it = versions.rbegin(); it != versions.rend(); ++it)
      if (it->second.state == VersionState::kReady) return it->second.model;
    return Fail(Code::kNotFound, "Request for unknown model: '{}' has no available versions",
                model);
  }
  const auto it = versions.find(version);
  if (it == versions.end())
    return Fail(Code::kNotFound, "Request for unknown model: '{}' version {} is not found", model,
                version);
  if (it->second.state != VersionState::kReady)
    return Fail(Code::kUnavailable,
                "Request for unknown model: '{}' version {} is not at ready state", model, version);
  return it->second.model;
}

std::vector<std::shared_ptr<ModelVersion>> Repository::Ready(const std::string& model) const {
  std::vector<std::shared_ptr<ModelVersion>> ready;
  const std::lock_guard lock(mutex_);
  for (const auto& [name, entry] : entries_) {
    if (!model.empty() && name != model) continue;
    for (const auto& [number, version] : entry.versions)
      if (version.state == VersionState::kReady) ready.push_back(version.model);
  }
  return ready;
}

Result<bool> Repository::IsReady(const std::string& model, int64_t version) const {
  const auto found = Find(model, version);
  if (found) return true;
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(model);
  const bool exists =
      entry != entries_.end() && (version <= 0 || entry->second.versions.contains(version));
  if (exists) return false;
  return Fail(found.error());
}

bool Repository::AllReady() const {
  const std::lock_guard lock(mutex_);
  if (!started_) return false;
  if (!options_.strict_readiness) return true;
  if (!missing_.empty()) return false;
  return std::all_of(entries_.begin(), entries_.end(), [](const auto& named) {
    const Entry& e = named.second;
    const bool serving = std::any_of(e.versions.begin(), e.versions.end(), [](const auto& v) {
      return v.second.state == VersionState::kReady;
    });
    const bool loading = std::any_of(e.versions.begin(), e.versions.end(), [](const auto& v) {
      return v.second.state == VersionState::kLoading;
    });
    return serving || (!e.failed && !loading);  // an unloaded model is not one that is missing
  });
}

Result<std::vector<IndexEntry>> Repository::Index(bool only_ready) const {
  std::vector<IndexEntry> index;
  std::set<std::string> listed;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, entry] : entries_) {
      listed.insert(name);
      for (const auto& [number, v] : entry.versions) {
        if (only_ready && v.state != VersionState::kReady) continue;
        index.push_back({name, std::to_string(number), v.state, v.reason});
      }
    }
  }
  if (only_ready) return index;
  const auto folders = TRY(ListModels(options_.repositories));
  for (size_t i = 0; i < folders.size(); ++i) {
    const std::string& name = folders[i].name;
    const bool twice = i > 0 && folders[i - 1].name == name;
    if (twice && std::none_of(index.begin(), index.end(), [&](const IndexEntry& e) {
          return e.name == name && e.state == VersionState::kReady;
        })) {
      std::erase_if(index, [&](const IndexEntry& e) { return e.name == name; });
      index.push_back(
          {name, "", VersionState::kUnavailable, "model appears in two or more repositories"});
    }
    if (!listed.insert(name).second) continue;
    index.push_back({.name = name, .version = {}, .state = VersionState::kUnknown, .reason = {}});
  }
  std::stable_sort(index.begin(), index.end(),
                   [](const IndexEntry& a, const IndexEntry& b) { return a.name < b.name; });
  return index;
}

void Repository::Load(std::string model, std::optional<std::string> config_json, Done done) {
  if (options_.mode != ControlMode::kExplicit)
    return done(Fail(Code::kUnavailable, kControlDisabled));
  pool_.Post([this, model = std::move(model), config = std::move(config_json),
              done = std::move(done)] { done(LoadNow(model, config)); });
}

void Repository::Unload(std::string model, Done done) {
  if (options_.mode != ControlMode::kExplicit)
    return done(Fail(Code::kUnavailable, kControlDisabled));
  pool_.Post([this, model = std::move(model), done = std::move(done)] {
    UnloadNow(model);
    done({});
  });
}

Status Repository::LoadNow(const std::string& model,
                           const std::optional<std::string>& config_json) {
  std::shared_ptr<std::mutex> loading;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Fail(Code::kUnavailable, "Server is stopping");
    const auto it = entries_.find(model);
    // A name that is in no repository must not leave an entry behind.
    loading = it != entries_.end() ? it->second.loading : nullptr;
  }
  if (loading == nullptr) {
    if (auto folder = FindFolder(options_.repositories, model); !folder) {
      log::Warning("model load failed", {{"model", model}, {"error", folder.error().message}});
      return Fail(folder.error());
    }
    const std::lock_guard lock(mutex_);
    loading = entries_[model].loading;
    missing_.erase(model);
  }
  const std::lock_guard one_at_a_time(*loading);
  const Status status = LoadVersions(model, config_json);
  const std::lock_guard lock(mutex_);
  entries_[model].failed = !status.has_value();
  if (!status)
    log::Error("model load failed", {{"model", model}, {"error", status.error().message}});
  return status;
}

Status Repository::LoadVersions(const std::string& model,
                                const std::optional<std::string>& config_json) {
  const std::string path = TRY(FindFolder(options_.repositories, model));
  const std::string folder_fingerprint = Fingerprint(path);
  {
    const std::lock_guard lock(mutex_);
    entries_[model].seen = folder_fingerprint;
  }
  const auto prepare = [&]() -> Result<std::pair<inference::ModelConfig, std::vector<int64_t>>> {
    inference::ModelConfig config = TRY(config_json ? ParseConfigJson(*config_json)
                                                    : ReadConfig(path, !options_.auto_complete));
    TRY(Normalise(config, model));
    std::vector<int64_t> versions = TRY(SelectVersions(config, ListVersions(path)));
    return std::pair(std::move(config), std::move(versions));
  };
  auto prepared = prepare();
  if (!prepared)
    return Fail(prepared.error().code, "failed to load '{}', {}", model, prepared.error().message);
  const auto& [config, versions] = *prepared;

  std::map<int64_t, Fresh> fresh;
  std::vector<std::string> failures;
  Code code = Code::kInvalidArgument;
  for (const int64_t v : versions) {
    Fresh& f = fresh[v];
    // Labels and warm-up data are the model's too, so all that lies beside the version folders
    // counts.
    f.fingerprint = ConfigToJson(config) + Fingerprint(fmt::format("{}/{}", path, v));
    for (const char* beside : {"config.pbtxt", "warmup"})
      f.fingerprint += Fingerprint(path + "/" + beside);
    for (const auto& out : config.output())
      if (!out.label_filename().empty())
        f.fingerprint += Fingerprint(path + "/" + out.label_filename());
    {
      const std::lock_guard lock(mutex_);
      Version& version = entries_[model].versions[v];
      if (version.state == VersionState::kReady && version.fingerprint == f.fingerprint) continue;
      if (version.state != VersionState::kReady) {
        version.state = VersionState::kLoading;
        version.reason.clear();
      }
      f.serial = version.state == VersionState::kLoading ? version.serial = next_serial_++
                                                         : next_serial_++;
    }
    auto loaded = LoadVersion(config, path, v);
    if (loaded) {
      f.model = Own(std::move(*loaded), f.serial);
      continue;
    }
    code = loaded.error().code;
    failures.push_back(fmt::format("version {}: {}", v, loaded.error().message));
    const std::lock_guard lock(mutex_);
    Version& version = entries_[model].versions[v];
    if (version.state == VersionState::kReady) continue;  // the old one goes on serving
    version.state = VersionState::kUnavailable;
    version.reason = loaded.error().message;
  }
  if (failures.empty()) {
    Publish(model, std::move(fresh));
    return {};
  }
  const std::lock_guard lock(mutex_);
  for (const auto& [v, f] : fresh) {
    Version& version = entries_[model].versions[v];
    if (version.state != VersionState::kLoading) continue;
    version.state = VersionState::kUnavailable;
    version.reason = "not brought online: another version of the model failed to load";
  }
  return Fail(code, "failed to load '{}', {}", model, fmt::join(failures, "; "));
}

Result<std::unique_ptr<ModelVersion>> Repository::LoadVersion(const inference::ModelConfig& config,
                                                              const std::string& path,
                                                              int64_t version) {
  const TimePoint start = Clock::now();
  const std::string file = fmt::format("{}/{}/{}", path, version, config.default_model_filename());
  auto model = TRY(backend_->Load(file, {.optimize = WantsOptimization(config)}));
  inference::ModelConfig complete = config;
  const int cpus = UsableCpus();
  // Two instances hide what a request costs outside the engine; more would only share the same
  // cores.
  TRY(CompleteAndCheck(complete, model->inputs(), model->outputs(),
                       options_.auto_complete ? AutoComplete::kOn : AutoComplete::kOff,
                       std::min(cpus, 2)));
  ModelSpec spec =
      TRY(MakeSpec(complete, config, version, path, {.max_queue_size = options_.max_queue_size}));
  auto metrics = metrics_.ForModel(spec.name, version, spec.metric_tags);
  auto loaded = TRY(ModelVersion::Create(std::move(spec), std::move(model), metrics));
  const auto took = Clock::now() - start;
  metrics->LoadTook(took);
  log::Info("model loaded", {{"model", config.name()},
                             {"version", version},
                             {"instances", loaded->spec().instances},
                             {"threads", loaded->spec().threads},
                             {"max_batch_size", loaded->spec().max_batch_size},
                             {"seconds", std::chrono::duration<double>(took).count()}});
  return loaded;
}

void Repository::Publish(const std::string& model, std::map<int64_t, Fresh> fresh) {
  std::vector<std::shared_ptr<ModelVersion>> retired;  // freed after the lock
  const std::lock_guard lock(mutex_);
  if (stopping_) return;
  for (auto& [v, f] : fresh) {
    if (f.model == nullptr) continue;
    Version& version = entries_[model].versions[v];
    retired.push_back(std::move(version.model));
    version = {VersionState::kReady, "", std::move(f.model), std::move(f.fingerprint), f.serial};
    log::Info("model ready", {{"model", model}, {"version", v}});
  }
  for (auto& [v, version] : entries_[model].versions) {
    if (fresh.contains(v) || version.state != VersionState::kReady) continue;
    version.state = VersionState::kUnloading;
    retired.push_back(std::move(version.model));
  }
}

void Repository::UnloadNow(const std::string& model) {
  std::shared_ptr<std::mutex> loading;
  {
    const std::lock_guard lock(mutex_);
    missing_.erase(model);
    const auto it = entries_.find(model);
    if (it == entries_.end()) return;
    loading = it->second.loading;
  }
  const std::lock_guard one_at_a_time(*loading);
  std::vector<std::shared_ptr<ModelVersion>> retired;
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[model];
  entry.failed = false;
  for (auto& [v, version] : entry.versions) {
    if (version.state != VersionState::kReady) {
      version.state = VersionState::kUnavailable;
      version.reason = "unloaded";
      continue;
    }
    version.state = VersionState::kUnloading;
    retired.push_back(std::move(version.model));
  }
}

// The last owner may be a request's callback on one of the version's own threads, which cannot wait
// for itself to end; so the end is always a loader's task.
std::shared_ptr<ModelVersion> Repository::Own(std::unique_ptr<ModelVersion> version,
                                              uint64_t serial) {
  return {version.release(), [this, serial](ModelVersion* v) {
            pool_.Post([this, serial, v] {
              const std::string model = v->spec().name;
              const int64_t number = v->spec().version;
              delete v;
              Gone(model, number, serial);
            });
          }};
}

void Repository::Gone(const std::string& model, int64_t version, uint64_t serial) {
  log::Info("model unloaded", {{"model", model}, {"version", version}});
  const std::lock_guard lock(mutex_);
  const auto entry = entries_.find(model);
  if (entry == entries_.end()) return;
  const auto it = entry->second.versions.find(version);
  if (it == entry->second.versions.end() || it->second.serial != serial ||
      it->second.state != VersionState::kUnloading)
    return;
  it->second.state = VersionState::kUnavailable;
  it->second.reason = "unloaded";
}

void Repository::Poll() {
  const auto folders = ListModels(options_.repositories);
  if (!folders) {  // a mount that is away for a moment must not unload everything
    log::Error("model repository cannot be polled", {{"error", folders.error().message}});
    return;
  }
  std::map<std::string, std::string> present;  // name to fingerprint
  for (const ModelFolder& f : *folders) present[f.name] = Fingerprint(f.path);
  std::vector<std::string> load, unload;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, fingerprint] : present) {
      const auto it = entries_.find(name);
      if (it == entries_.end() || it->second.seen != fingerprint) load.push_back(name);
    }
    for (const auto& [name, entry] : entries_)
      if (!present.contains(name) && !entry.seen.empty()) unload.push_back(name);
  }
  std::vector<std::future<void>> waits;
  const auto post = [&](std::function<void()> task) {
    auto promise = std::make_shared<std::promise<void>>();
    waits.push_back(promise->get_future());
    pool_.Post([task = std::move(task), promise] {
      task();
      promise->set_value();
    });
  };
  for (const std::string& name : load)
    post([this, name] { (void)LoadNow(name, std::nullopt).has_value(); });
  for (const std::string& name : unload) {
    post([this, name] {
      UnloadNow(name);
      const std::lock_guard lock(mutex_);
      entries_[name].seen.clear();
    });
  }
  for (auto& w : waits) w.get();
}

void Repository::PollLoop() {
  ::pthread_setname_np(::pthread_self(), "dunlin-poll");
  std::unique_lock lock(mutex_);
  while (!stop_polling_.wait_for(lock, options_.poll_interval, [this] { return stopping_; })) {
    lock.unlock();
    Poll();
    lock.lock();
  }
}

}  // namespace dunlin::serve
