#include "serve/cache.h"

#include <atomic>
#include <charconv>
#include <string_view>

#include "base/sha256.h"

namespace dunlin::serve {
namespace {

// What an entry takes beside the elements: nodes of the list and the map, tensors, names.
constexpr size_t kEntryBytes = 256;
constexpr size_t kTensorBytes = 256;

size_t BytesOf(const ResponseCache::Outputs& outputs) {
  size_t bytes = kEntryBytes;
  for (const NamedTensor& output : outputs) {
    bytes += kTensorBytes + output.name.size();
    if (output.tensor.dtype() != DType::kString) {
      bytes += size_t(output.tensor.bytes());
    } else {
      for (const std::string& s : output.tensor.values<std::string>())
        bytes += sizeof(std::string) + s.size();
    }
  }
  return bytes;
}

// Numbers and texts in a form that no other sequence of them has.
class Hash {
 public:
  void Add(uint64_t n) { sha_.Update(&n, sizeof n); }
  void Add(std::string_view text) {
    Add(uint64_t(text.size()));
    sha_.Update(text.data(), text.size());
  }
  void Add(const Tensor& t) {
    Add(uint64_t(t.dtype()));
    Add(uint64_t(t.rank()));
    for (const int64_t d : t.dims()) Add(uint64_t(d));
    if (t.dtype() == DType::kString)
      for (const std::string& s : t.values<std::string>()) Add(s);
    else
      sha_.Update(t.raw(), size_t(t.bytes()));
  }
  Sha256::Digest Final() { return sha_.Final(); }

 private:
  Sha256 sha_;
};

}  // namespace

std::optional<ResponseCache::Outputs> ResponseCache::Find(const Key& key) {
  const std::lock_guard lock(mutex_);
  const auto it = by_key_.find(key);
  if (it == by_key_.end()) return std::nullopt;
  entries_.splice(entries_.begin(), entries_, it->second);
  return it->second->outputs;
}

void ResponseCache::Insert(const Key& key, uint64_t load, const Outputs& outputs) {
  const size_t bytes = BytesOf(outputs);
  if (bytes > max_bytes_) return;
  Outputs copies;
  for (const NamedTensor& output : outputs) {
    // A tensor may be a part of a batch's, which must not be kept for its sake.
    auto copy = output.tensor.Clone();
    if (!copy) return;
    copies.push_back({output.name, std::move(*copy)});
  }
  const std::lock_guard lock(mutex_);
  if (by_key_.contains(key)) return;  // another request was as quick
  while (bytes_ + bytes > max_bytes_) Erase(std::prev(entries_.end()));
  entries_.push_front({key, load, std::move(copies), bytes});
  by_key_[key] = entries_.begin();
  bytes_ += bytes;
}

void ResponseCache::Erase(Entries::iterator entry) {
  bytes_ -= entry->bytes;
  by_key_.erase(entry->key);
  entries_.erase(entry);
}

void ResponseCache::Forget(uint64_t load) {
  const std::lock_guard lock(mutex_);
  for (auto it = entries_.begin(); it != entries_.end();) {
    const auto entry = it++;
    if (entry->load == load) Erase(entry);
  }
}

size_t ResponseCache::bytes() const {
  const std::lock_guard lock(mutex_);
  return bytes_;
}

VersionCache::VersionCache(std::shared_ptr<ResponseCache> cache)
    : cache_(std::move(cache)), load_([] {
        static std::atomic<uint64_t> loads{0};
        return ++loads;
      }()) {}

VersionCache::~VersionCache() { cache_->Forget(load_); }

ResponseCache::Key VersionCache::KeyOf(const InferRequest& request) const {
  Hash hash;
  hash.Add(load_);  // stands for the model, its version and its configuration
  hash.Add(uint64_t(request.outputs.size()));
  for (const std::string& output : request.outputs) hash.Add(output);
  std::map<std::string_view, const Tensor*> inputs;
  for (const NamedTensor& input : request.inputs) inputs[input.name] = &input.tensor;
  for (const auto& [name, tensor] : inputs) {
    hash.Add(name);
    hash.Add(*tensor);
  }
  return hash.Final();
}

bool VersionCache::Answer(const ModelSpec& model, const InferRequest& request, InferCallback& done,
                          StatsRecorder& stats) const {
  const TimePoint start = Clock::now();
  const ResponseCache::Key key = KeyOf(request);
  auto outputs = cache_->Find(key);
  const TimePoint found = Clock::now();
  if (outputs) {
    stats.CacheHit(found - request.arrival, found - start);
    done(InferResponse{.model = model.name,
                       .version = model.version,
                       .id = request.id,
                       .outputs = std::move(*outputs)});
    return true;
  }
  done = [cache = cache_, load = load_, key, lookup = found - start, &stats,
          done = std::move(done)](Result<InferResponse> response) {
    if (response) {
      const TimePoint begin = Clock::now();
      cache->Insert(key, load, response->outputs);
      stats.CacheMiss(lookup + (Clock::now() - begin));
    }
    done(std::move(response));
  };
  return false;
}

Result<std::shared_ptr<ResponseCache>> CreateCache(const std::vector<std::string>& configs) {
  std::shared_ptr<ResponseCache> cache;
  for (const std::string& config : configs) {
    constexpr std::string_view kSize = "local,size=";
    size_t bytes = 0;
    const char* end = config.data() + config.size();
    const auto [stop, error] =
        std::from_chars(config.data() + std::min(kSize.size(), config.size()), end, bytes);
    if (!config.starts_with(kSize) || error != std::errc() || stop != end || bytes == 0)
      return Fail(
          Code::kInvalidArgument,
          "--cache-config must be local,size=BYTES, got '{}'; other caches are not supported",
          config);
    cache = std::make_shared<ResponseCache>(bytes);
  }
  return cache;
}

}  // namespace dunlin::serve
