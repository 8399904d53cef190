// Repository: which models and versions exist, what state each is in, and the one place that loads
// and unloads them.
//
// A version becomes READY only when it is loaded, checked and warm; the switch from an old to a new
// instance of a version is one pointer. When any selected version of a model fails to load, nothing
// changes for those that were serving.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "base/result.h"
#include "serve/backend.h"
#include "serve/cache.h"
#include "serve/metrics.h"
#include "serve/model_version.h"
#include "serve/task_pool.h"

namespace dunlin::serve {

enum class ControlMode : uint8_t { kNone, kPoll, kExplicit };
enum class VersionState : uint8_t { kUnknown, kReady, kUnavailable, kLoading, kUnloading };
std::string_view StateName(VersionState state);  // "READY"

struct RepositoryOptions {
  std::vector<std::string> repositories;
  ControlMode mode = ControlMode::kNone;
  std::vector<std::string> load_models;  // kExplicit: at the start; "*" is all
  std::chrono::milliseconds poll_interval{15000};
  int load_threads = 4;
  int load_retries = 0;  // how often a version that fails to load is tried again
  bool auto_complete = true;
  std::string config_name;  // configs/<config_name>.pbtxt goes before config.pbtxt
  bool strict_readiness = true;
  int max_queue_size = 1024;
  std::shared_ptr<ResponseCache> cache;  // for models that want one; null: there is none
};

// What a load request may bring along.
struct LoadOverrides {
  std::optional<std::string> config_json;  // in place of config.pbtxt
  // In place of the model's folder: "1/model.onnx" and the bytes. The configuration is then needed.
  std::map<std::string, std::string> files;
};

struct IndexEntry {
  std::string name;
  std::string version;                          // "" when it was never loaded
  VersionState state = VersionState::kUnknown;  // kUnknown with an empty version: nothing to say
  std::string reason;
};

class Repository {
 public:
  Repository(RepositoryOptions options, std::unique_ptr<Backend> backend, Metrics& metrics);
  // Waits for loads in progress, for all models to have answered what they accepted, and for those
  // who still hold a version: none may be held by the caller's thread.
  ~Repository();

  // Loads what the options ask for and returns when all of it is ready or has failed: the failures,
  // one per line. Then starts to poll, if asked.
  Status Start();

  // version <= 0: the highest that is ready. Errors in the protocol's words.
  Result<std::shared_ptr<ModelVersion>> Find(const std::string& model, int64_t version) const;
  // All versions of a model that are ready, ascending; empty name: of all models.
  std::vector<std::shared_ptr<ModelVersion>> Ready(const std::string& model) const;
  // As Find, but also true/false for a version that exists and is not ready.
  Result<bool> IsReady(const std::string& model, int64_t version) const;
  // Every model that was asked for is ready (strict), or the start is over.
  bool AllReady() const;
  Result<std::vector<IndexEntry>> Index(bool only_ready) const;

  // On a loader thread; `done` is called there. The overrides are of this load only.
  using Done = std::function<void(Status)>;
  void Load(std::string model, LoadOverrides overrides, Done done);
  // `done` is called when no new request can reach the model; accepted ones still complete.
  void Unload(std::string model, Done done);
  // Reads the folders again: loads what is new or changed, unloads what is gone. What polling does.
  void Poll();

 private:
  struct Version {
    VersionState state = VersionState::kUnknown;
    std::string reason;
    std::shared_ptr<ModelVersion> model;  // while kReady
    std::string fingerprint;
    uint64_t serial = 0;  // of the load it came from
  };
  struct Entry {
    std::map<int64_t, Version> versions;
    std::string seen;     // fingerprint of the folder at the last load, good or bad
    bool failed = false;  // the last load failed
    std::string reason;   // why, when no version can say it
    std::shared_ptr<std::mutex> loading = std::make_shared<std::mutex>();  // one load at a time
  };
  struct Fresh;

  Status LoadNow(const std::string& model, const LoadOverrides& overrides);
  Status LoadVersions(const std::string& model, const LoadOverrides& overrides);
  bool BeginVersion(const std::string& model, int64_t version, Fresh& fresh);
  void GiveUp(const std::string& model, const std::map<int64_t, Fresh>& fresh);
  Result<std::unique_ptr<ModelVersion>> LoadVersion(const inference::ModelConfig& config,
                                                    const std::string& path, int64_t version);
  void Publish(const std::string& model, std::map<int64_t, Fresh> fresh);
  void UnloadNow(const std::string& model);
  std::shared_ptr<ModelVersion> Own(std::unique_ptr<ModelVersion> version, uint64_t serial);
  void Gone(const std::string& model, int64_t version, uint64_t serial);
  void PollLoop();

  const RepositoryOptions options_;
  const std::unique_ptr<Backend> backend_;
  Metrics& metrics_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> entries_;
  std::set<std::string> missing_;  // asked for at the start, but in no repository
  uint64_t next_serial_ = 1;
  bool started_ = false;
  bool stopping_ = false;
  int owned_ = 0;  // versions that are not destroyed yet
  std::condition_variable stop_polling_, disowned_;
  std::thread poller_;
  TaskPool pool_;  // last: its tasks use all the others
};

}  // namespace dunlin::serve
