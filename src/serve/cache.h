// ResponseCache: answers to requests, kept in memory for when the same request comes again. For
// models whose configuration says `response_cache { enable: true }`. See docs/serving/cache.md.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "serve/infer.h"
#include "serve/spec.h"
#include "serve/stats.h"

namespace dunlin::serve {

// One per process; what was used longest ago goes first. Thread-safe.
class ResponseCache {
 public:
  // Equal keys are equal requests: a cryptographic hash over all that decides the answer.
  using Key = std::array<uint8_t, 32>;
  using Outputs = std::vector<NamedTensor>;

  explicit ResponseCache(size_t max_bytes) : max_bytes_(max_bytes) {}

  std::optional<Outputs> Find(const Key& key);
  // Keeps a copy, unless it is larger than the whole cache. `load` is whose answer it is.
  void Insert(const Key& key, uint64_t load, const Outputs& outputs);
  void Forget(uint64_t load);
  size_t bytes() const;

 private:
  struct Entry {
    Key key;
    uint64_t load;
    Outputs outputs;
    size_t bytes;
  };
  using Entries = std::list<Entry>;
  void Erase(Entries::iterator entry);

  const size_t max_bytes_;
  mutable std::mutex mutex_;
  size_t bytes_ = 0;
  Entries entries_;  // the one used last in front
  std::map<Key, Entries::iterator> by_key_;
};

// The part of the cache that belongs to one load of one model version. Ends with it, and with it
// its answers.
class VersionCache {
 public:
  explicit VersionCache(std::shared_ptr<ResponseCache> cache);
  ~VersionCache();
  VersionCache(const VersionCache&) = delete;
  VersionCache& operator=(const VersionCache&) = delete;

  // For a request that has passed CheckRequest. True: `done` was called with a kept answer. False:
  // `done` now also keeps the answer, if it is a good one.
  bool Answer(const ModelSpec& model, const InferRequest& request, InferCallback& done,
              StatsRecorder& stats) const;
  ResponseCache::Key KeyOf(const InferRequest& request) const;

 private:
  const std::shared_ptr<ResponseCache> cache_;
  const uint64_t load_;
};

// From `--cache-config local,size=BYTES`; null when there is none. Errors: kInvalidArgument.
Result<std::shared_ptr<ResponseCache>> CreateCache(const std::vector<std::string>& configs);

}  // namespace dunlin::serve
