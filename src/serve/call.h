// One inference as a client asks for it, and what a client learns of a model, before and after
// either protocol has its form of them. Not used by the server.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "dunlin/engine.h"
#include "serve/shared_memory.h"

namespace dunlin::serve {

struct CallInput {
  std::string name;
  Tensor tensor;  // its type and extents count; its bytes only without `memory`
  std::optional<SharedMemoryRange> memory;
};

struct CallOutput {
  std::string name;
  uint64_t classes = 0;  // > 0: only the best ones, as text
  std::optional<SharedMemoryRange> memory;
};

struct InferCall {
  std::string model;
  std::string version;  // empty: the server's choice
  std::string id;
  std::vector<CallInput> inputs;
  std::vector<CallOutput> outputs;  // empty: all of them
  std::map<std::string, std::variant<bool, int64_t, uint64_t, double, std::string>> parameters;
};

struct CallResult {
  std::string name;
  DType dtype = DType::kUndefined;
  Dims dims;
  Tensor tensor;  // undefined when the bytes went to shared memory
};

struct RemoteModel {
  std::string name;
  std::vector<PortInfo> inputs, outputs;  // open extents are -1, each its own
};

}  // namespace dunlin::serve
