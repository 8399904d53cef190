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
  // `options.cancelled` may be polled at any time during the call.
  virtual Result<std::vector<NamedTensor>> Execute(std::span<const NamedTensor> inputs,
                                                   const RunOptions& options) = 0;
  // Several requests at once whose inputs differ in length (`allow_ragged_batch`), packed, without
  // padding: the outputs of each. Each has the inputs a call of Execute takes, of any batch size.
  // Called only where LoadedModel::ragged().
  virtual Result<std::vector<std::vector<NamedTensor>>> ExecuteRagged(
      std::span<const std::span<const NamedTensor>> requests, const RunOptions& options);
  // Bytes this instance holds on to between requests.
  virtual int64_t memory_bytes() const = 0;
};

inline Result<std::vector<std::vector<NamedTensor>>> Instance::ExecuteRagged(
    std::span<const std::span<const NamedTensor>>, const RunOptions&) {
  return Fail(Code::kUnimplemented, "this model cannot run inputs of different lengths together");
}

// A model file in memory. Immutable and shared by its instances.
class LoadedModel {
 public:
  virtual ~LoadedModel() = default;
  virtual std::span<const PortInfo> inputs() const = 0;
  virtual std::span<const PortInfo> outputs() const = 0;
  // For at most so many threads. Thread-safe.
  virtual Result<std::unique_ptr<Instance>> CreateInstance(int threads) = 0;
  // Whether its instances can run requests of different lengths together.
  virtual bool ragged() const { return false; }
  virtual int64_t memory_bytes() const = 0;
};

struct BackendLoadOptions {
  bool optimize = true;
  dunlin::Compute compute = dunlin::Compute::kF32;
  // Inputs that the configuration lists. Those with a value in the model are then inputs(), too,
  // and may be left out of a request.
  std::vector<std::string> inputs = {};
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
