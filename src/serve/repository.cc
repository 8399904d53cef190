#include "serve/repository.h"

#include <fmt/format.h>
#include <pthread.h>

#include <algorithm>
#include <future>

#include "base/log.h"
#include "serve/config.h"
#include "serve/config_check.h"
#include "serve/model_folder.h"

namespace dunlin::serve {
namespace {

constexpr const char* kControlDisabled =
    "explicit model load / unload is not allowed if polling is enabled";
constexpr const char* kTwice = "model appears in two or more repositories";

// Which of the folders is the model's. Two of the same name would make the answer depend on the
// order.
Result<std::string> FindFolder(const std::vector<std::string>& repositories,
                               const std::string& model) {
  std::vector<std::string> found;
  if (IsModelName(model)) {
    for (ModelFolder& f : TRY(ListModels(repositories)))
      if (f.name == model) found.push_back(std::move(f.path));
  }
  if (found.empty()) return Fail(Code::kInternal, "");
  if (found.size() > 1) return Fail(Code::kInternal, "{}", kTwice);
  return found[0];
}

// The model could not be read, as far as it is looked at before a version is loaded. Nothing to say
// why: no repository has it.
tl::unexpected<Error> PollFailure(const std::string& model, const std::string& why) {
  return Fail(Code::kInternal, "failed to load '{}', failed to poll from model repository{}{}",
              model, why.empty() ? "" : ": ", why);
}

// Codes as clients are used to read them in front of a reason.
std::string WithCode(const Error& error) {
  std::string_view name = "Internal";
  switch (error.code) {
    case Code::kInvalidArgument:
      name = "Invalid argument";
      break;
    case Code::kNotFound:
      name = "Not found";
      break;
    case Code::kUnavailable:
    case Code::kResourceExhausted:
      name = "Unavailable";
      break;
    case Code::kUnimplemented:
      name = "Unsupported";
      break;
    default:
      break;
  }
  return fmt::format("{}: {}", name, error.message);
}

// Whatever of a model may change what its versions do, apart from their own folders.
std::string SharedFingerprint(const inference::ModelConfig& config, const std::string& path) {
  std::string print = ConfigToJson(config);
  for (const char* beside : {"config.pbtxt", "configs", "warmup"})
    print += Fingerprint(path + "/" + beside);
  for (const auto& out : config.output())
    if (!out.label_filename().empty()) print += Fingerprint(path + "/" + out.label_filename());
  return print;
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
  std::string error;  // "": loaded, or not tried
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
  entries.clear();
  // Each version's end becomes a task. A request that has its answer may hold its version for a
  // moment longer. A load that is still running finds stopping_ set and publishes nothing.
  std::unique_lock lock(mutex_);
  disowned_.wait(lock, [this] { return owned_ == 0; });
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
    pool_.Post([this, name, promise] { promise->set_value(LoadNow(name, {})); });
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
  std::map<std::string, std::vector<IndexEntry>> known;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, entry] : entries_) {
      for (const auto& [number, v] : entry.versions) {
        if (only_ready && v.state != VersionState::kReady) continue;
        known[name].push_back({name, std::to_string(number), v.state, v.reason});
      }
      if (!only_ready && entry.versions.empty() && !entry.reason.empty())
        known[name].push_back({name, "", VersionState::kUnavailable, entry.reason});
    }
  }
  std::vector<IndexEntry> index;
  const auto take = [&](std::vector<IndexEntry>& entries) {
    index.insert(index.end(), entries.begin(), entries.end());
  };
  if (only_ready) {
    for (auto& [name, entries] : known) take(entries);
    return index;
  }
  std::map<std::string, int> folders;
  for (const ModelFolder& f : TRY(ListModels(options_.repositories))) ++folders[f.name];
  const auto serves = [](const std::vector<IndexEntry>& entries) {
    return std::any_of(entries.begin(), entries.end(),
                       [](const IndexEntry& e) { return e.state != VersionState::kUnavailable; });
  };
  // What is in no repository any more is listed while it serves.
  for (const auto& [name, entries] : known)
    if (!folders.contains(name) && serves(entries)) folders[name] = 1;
  for (const auto& [name, count] : folders) {
    std::vector<IndexEntry>& entries = known[name];
    if (count > 1 && !serves(entries))
      index.push_back({name, "", VersionState::kUnavailable, kTwice});
    else if (entries.empty())
      index.push_back({name, "", VersionState::kUnknown, ""});
    else
      take(entries);
  }
  return index;
}

void Repository::Load(std::string model, LoadOverrides overrides, Done done) {
  if (options_.mode != ControlMode::kExplicit)
    return done(Fail(Code::kUnavailable, kControlDisabled));
  auto shared = std::make_shared<const LoadOverrides>(std::move(overrides));
  pool_.Post([this, model = std::move(model), shared = std::move(shared),
              done = std::move(done)]() mutable {
    Status status = LoadNow(model, *shared);
    shared.reset();  // the files' bytes
    done(std::move(status));
  });
}

void Repository::Unload(std::string model, Done done) {
  if (options_.mode != ControlMode::kExplicit)
    return done(Fail(Code::kUnavailable, kControlDisabled));
  pool_.Post([this, model = std::move(model), done = std::move(done)] {
    UnloadNow(model);
    done({});
  });
}

Status Repository::LoadNow(const std::string& model, const LoadOverrides& overrides) {
  std::shared_ptr<std::mutex> loading;
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return Fail(Code::kUnavailable, "Server is stopping");
    const auto it = entries_.find(model);
    // A name that nobody has must not leave an entry behind.
    loading = it != entries_.end() ? it->second.loading : nullptr;
  }
  if (loading == nullptr) {
    const auto named = [&]() -> Status {
      if (overrides.files.empty()) TRY(FindFolder(options_.repositories, model));
      if (!IsModelName(model))
        return Fail(Code::kInvalidArgument, "this cannot be the name of a model");
      return {};
    };
    if (const Status known = named(); !known) {
      auto failure = PollFailure(model, known.error().message);
      log::Warning("model load failed", {{"model", model}, {"error", failure.value().message}});
      return failure;
    }
    const std::lock_guard lock(mutex_);
    loading = entries_[model].loading;
    missing_.erase(model);
  }
  const std::lock_guard one_at_a_time(*loading);
  const Status status = LoadVersions(model, overrides);
  const std::lock_guard lock(mutex_);
  Entry& entry = entries_[model];
  entry.failed = !status.has_value();
  entry.reason = status ? "" : status.error().message;
  if (status) return status;
  log::Error("model load failed", {{"model", model}, {"error", status.error().message}});
  // A name that came with files and has no folder of its own is not missed.
  if (entry.versions.empty() && !overrides.files.empty()) entries_.erase(model);
  return status;
}

// Notes that a version is being loaded. False: the one that serves is still right.
bool Repository::BeginVersion(const std::string& model, int64_t version, Fresh& fresh) {
  const std::lock_guard lock(mutex_);
  Version& v = entries_[model].versions[version];
  if (v.state == VersionState::kReady && v.fingerprint == fresh.fingerprint) return false;
  fresh.serial = next_serial_++;
  if (v.state == VersionState::kReady) return true;
  v.state = VersionState::kLoading;
  v.reason.clear();
  v.serial = fresh.serial;
  return true;
}

// Nothing of a load comes online, because a version failed. Those that served go on.
void Repository::GiveUp(const std::string& model, const std::map<int64_t, Fresh>& fresh) {
  const std::lock_guard lock(mutex_);
  for (const auto& [v, f] : fresh) {
    Version& version = entries_[model].versions[v];
    if (version.state != VersionState::kLoading) continue;
    version.state = VersionState::kUnavailable;
    version.reason = f.error.empty()
                         ? "not brought online: another version of the model failed to load"
                         : f.error;
  }
}

Status Repository::LoadVersions(const std::string& model, const LoadOverrides& overrides) {
  std::unique_ptr<TemporaryModelFolder> temporary;
  std::string path;
  const auto prepare = [&]() -> Result<inference::ModelConfig> {
    if (!overrides.files.empty()) {
      if (!overrides.config_json)
        return Fail(Code::kInvalidArgument,
                    "a load request with files must bring the configuration, too");
      temporary = TRY(TemporaryModelFolder::Create(overrides.files));
      path = temporary->path();
    } else {
      path = TRY(FindFolder(options_.repositories, model));
      const std::string seen = Fingerprint(path);
      const std::lock_guard lock(mutex_);
      entries_[model].seen = seen;
    }
    inference::ModelConfig config = TRY(
        overrides.config_json ? ParseConfigJson(*overrides.config_json)
                              : ReadConfig(path, options_.config_name, !options_.auto_complete));
    TRY(Normalise(config, model));
    return config;
  };
  auto config = prepare();
  if (!config) return PollFailure(model, config.error().message);
  const auto versions = SelectVersions(*config, ListVersions(path));
  if (!versions)
    return Fail(versions.error().code, "load failed for model '{}': {}", model,
                versions.error().message);

  std::map<int64_t, Fresh> fresh;
  const std::string shared = SharedFingerprint(*config, path);
  std::string failures;
  for (const int64_t v : *versions) {
    Fresh& f = fresh[v];
    f.fingerprint = shared + Fingerprint(fmt::format("{}/{}", path, v));
    if (!BeginVersion(model, v, f)) continue;
    auto loaded = LoadVersion(*config, path, v);
    for (int i = 0; !loaded && i < options_.load_retries; ++i) {
      log::Warning("model load failed, trying again",
                   {{"model", model}, {"version", v}, {"error", loaded.error().message}});
      loaded = LoadVersion(*config, path, v);
    }
    if (loaded) {
      f.model = Own(std::move(*loaded), f.serial);
      continue;
    }
    f.error = WithCode(loaded.error());
    failures += fmt::format(" version {} is at UNAVAILABLE state: {};", v, f.error);
  }
  if (failures.empty()) {
    Publish(model, std::move(fresh));
    return {};
  }
  GiveUp(model, fresh);
  return Fail(Code::kInvalidArgument, "load failed for model '{}':{}", model, failures);
}

Result<std::unique_ptr<ModelVersion>> Repository::LoadVersion(const inference::ModelConfig& config,
                                                              const std::string& path,
                                                              int64_t version) {
  const TimePoint start = Clock::now();
  const std::string file = ModelFile(path, version, config.default_model_filename());
  BackendLoadOptions load{
      .optimize = WantsOptimization(config), .compute = TRY(ComputeOf(config)), .inputs = {}};
  for (const auto& input : config.input()) load.inputs.push_back(input.name());
  auto model = TRY(backend_->Load(file, load));
  inference::ModelConfig complete = config;
  TRY(CompleteAndCheck(complete, model->inputs(), model->outputs(),
                       options_.auto_complete ? AutoComplete::kOn : AutoComplete::kOff));
  if (const auto ignored = IgnoredFields(complete); !ignored.empty())
    log::Warning(
        "configuration without effect on this server",
        {{"model", config.name()}, {"fields", fmt::format("{}", fmt::join(ignored, ", "))}});
  ModelSpec spec =
      TRY(MakeSpec(complete, config, version, path, {.max_queue_size = options_.max_queue_size}));
  const bool cached = spec.response_cache;
  const auto buckets = spec.histograms.find("nv_inference_first_response_histogram_ms");
  auto metrics = metrics_.ForModel(
      spec.name, version, spec.metric_tags,
      {.cache = cached && options_.cache != nullptr,
       .first_response_buckets =
           buckets == spec.histograms.end() ? std::vector<double>() : buckets->second});
  auto loaded = TRY(ModelVersion::Create(std::move(spec), std::move(model), metrics));
  if (cached && options_.cache)
    loaded->UseCache(std::make_unique<VersionCache>(options_.cache));
  else if (cached)
    log::Warning(
        "response_cache is enabled, but the server has no cache; start it with "
        "--cache-config local,size=BYTES",
        {{"model", config.name()}});
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
  {
    const std::lock_guard lock(mutex_);
    ++owned_;
  }
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
  if (--owned_ == 0) disowned_.notify_all();
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
  std::set<std::string> twice;
  for (const ModelFolder& f : *folders)
    if (!present.emplace(f.name, Fingerprint(f.path)).second) twice.insert(f.name);
  for (const std::string& name : twice) {  // which of the two would be a guess
    log::Error(kTwice, {{"model", name}});
    present.erase(name);
  }
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
  for (const std::string& name : load) post([this, name] { (void)LoadNow(name, {}).has_value(); });
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
