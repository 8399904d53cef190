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
  kIndex,
  kLoad,
  kUnload,
  kUnsupported,  // a route of the protocol that is not served: `what` names it
};

struct Route {
  Endpoint endpoint = Endpoint::kNotFound;
  bool method_allowed = true;
  std::string model;        // percent-decoded
  std::string version;      // digits, or ""
  std::string repository;   // "" unless the path names one
  std::string_view what{};  // for kUnsupported
};

Route ParseRoute(std::string_view method, std::string_view target);

// %41 → A. A '%' that is not followed by two hex digits stays as it is.
std::string PercentDecode(std::string_view text);

}  // namespace dunlin::http
