// What stands between the server and an engine. The server knows engines only through these three
// classes, so another engine, or a test's fake, can take Dunlin's place.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "dunlin/engine.h"

namespace dunlin::serve {

// One place where a request of one model executes. For one thread at a time.
class Instance {
 public:
  virtual ~Instance() = default;
  // `outputs` empty: all. `cancelled` may be polled at any time during the call.
  virtual Result<std::vector<NamedTensor>> Execute(std::span<const NamedTensor> inputs,
                                                   const std::vector<std::string>& outputs,
                                                   const std::function<bool()>& cancelled) = 0;
  // Bytes this instance holds on to between requests.
  virtual int64_t memory_bytes() const = 0;
};

// A model file in memory. Immutable and shared by its instances.
class LoadedModel {
 public:
  virtual ~LoadedModel() = default;
  virtual std::span<const PortInfo> inputs() const = 0;
  virtual std::span<const PortInfo> outputs() const = 0;
  virtual Result<std::unique_ptr<Instance>> CreateInstance(int threads) = 0;
  virtual int64_t memory_bytes() const = 0;
};

struct BackendLoadOptions {
  bool optimize = true;
};

class Backend {
 public:
  virtual ~Backend() = default;
  // Blocks; called from several loader threads at once.
  virtual Result<std::shared_ptr<LoadedModel>> Load(const std::string& path,
                                                    const BackendLoadOptions& options) = 0;
};

// Dunlin's own engine; with measured choices of kernels if `tune` is given.
std::unique_ptr<Backend> CreateEngineBackend(std::optional<TuneOptions> tune = {});

}  // namespace dunlin::serve
