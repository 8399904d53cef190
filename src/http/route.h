// From method and path to what is asked for.
#pragma once

#include <string>
#include <string_view>

namespace dunlin::http {

enum class Endpoint : unsigned char {
  kNotFound,
  kServer,
  kLive,
  kReady,
  kModel,
  kModelReady,
  kModelConfig,
  kModelStats,
  kAllStats,
  kInfer,
  kGenerate,
  kGenerateStream,
  kIndex,
  kLoad,
  kUnload,
  kSharedMemoryStatus,
  kSharedMemoryRegister,
  kSharedMemoryUnregister,
  kCudaSharedMemory,
  kTraceSetting,
  kLogging,
  // TensorFlow Serving's and KServe's first protocol.
  kV1Models,
  kV1Model,
  kV1Metadata,
  kV1Predict,
  kV1Other,  // :classify, :regress
};

struct Route {
  Endpoint endpoint = Endpoint::kNotFound;
  bool method_allowed = true;
  std::string model;       // percent-decoded
  std::string version;     // digits, or ""
  std::string label;       // of a version, percent-decoded; v1 only
  std::string repository;  // "" unless the path names one
  std::string region;      // of shared memory, percent-decoded; "" all
};

// HEAD is allowed wherever GET is.
Route ParseRoute(std::string_view method, std::string_view target);

// %41 → A. A '%' that is not followed by two hex digits stays as it is.
std::string PercentDecode(std::string_view text);

}  // namespace dunlin::http
