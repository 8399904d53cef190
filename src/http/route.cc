#include "http/route.h"

#include <algorithm>
#include <vector>

namespace dunlin::http {
namespace {

int HexValue(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

// No path of the protocol has more segments; what is longer is not found.
constexpr size_t kMaxSegments = 8;

// "/v2/models/x" → v2, models, x. Empty when there are empty or too many segments.
std::vector<std::string_view> Split(std::string_view path) {
  std::vector<std::string_view> parts;
  if (path.empty() || path[0] != '/') return {};
  path.remove_prefix(1);
  for (;;) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || parts.size() == kMaxSegments) return {};
    parts.push_back(part);
    if (slash == std::string_view::npos) return parts;
    path.remove_prefix(slash + 1);
  }
}

struct Action {
  std::string_view name;
  Endpoint endpoint;
  std::string_view method;  // "" any
};
constexpr Action kModelActions[] = {
    {"infer", Endpoint::kInfer, "POST"},       {"ready", Endpoint::kModelReady, "GET"},
    {"config", Endpoint::kModelConfig, "GET"}, {"stats", Endpoint::kModelStats, "GET"},
    {"generate", Endpoint::kUnsupported, ""},  {"generate_stream", Endpoint::kUnsupported, ""},
};

bool IsNumber(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// parts: after "models".
void ParseModel(std::string_view method, std::vector<std::string_view> parts, Route& route) {
  if (parts.size() == 1 && parts[0] == "stats") {
    route.endpoint = Endpoint::kAllStats;
    route.method_allowed = method == "GET";
    return;
  }
  if (parts.empty()) return;
  route.model = PercentDecode(parts[0]);
  parts.erase(parts.begin());
  if (parts.size() >= 2 && parts[0] == "versions" && IsNumber(parts[1])) {
    route.version = parts[1];
    parts.erase(parts.begin(), parts.begin() + 2);
  }
  if (parts.empty()) {
    route.endpoint = Endpoint::kModel;
    route.method_allowed = method == "GET";
    return;
  }
  if (parts.size() == 2 && parts[0] == "trace" && parts[1] == "setting") {
    route.endpoint = Endpoint::kUnsupported;
    route.what = "trace setting";
    return;
  }
  if (parts.size() != 1) return;
  for (const Action& a : kModelActions) {
    if (parts[0] != a.name) continue;
    route.endpoint = a.endpoint;
    route.what = a.name;
    route.method_allowed = a.method.empty() || method == a.method;
  }
}

// parts: after "repository".
void ParseRepository(std::string_view method, std::vector<std::string_view> parts, Route& route) {
  const auto is_index = [](const auto& p) { return p.size() == 1 && p[0] == "index"; };
  const auto is_model = [](const auto& p) {
    return p.size() == 3 && p[0] == "models" && (p[2] == "load" || p[2] == "unload");
  };
  if (!is_index(parts) && !is_model(parts)) {
    if (parts.empty()) return;
    route.repository = PercentDecode(parts[0]);
    parts.erase(parts.begin());
    if (!is_index(parts) && !is_model(parts)) return;
  }
  route.method_allowed = method == "POST";
  if (is_index(parts)) {
    route.endpoint = Endpoint::kIndex;
  } else {
    route.endpoint = parts[2] == "load" ? Endpoint::kLoad : Endpoint::kUnload;
    route.model = PercentDecode(parts[1]);
  }
}

// .../status, .../register, .../unregister, with or without a region's name.
bool IsSharedMemory(const std::vector<std::string_view>& parts) {
  const std::string_view last = parts.back();
  return (parts[1] == "systemsharedmemory" || parts[1] == "cudasharedmemory") &&
         (last == "status" || last == "register" || last == "unregister") &&
         (parts.size() == 3 || (parts.size() == 5 && parts[2] == "region"));
}

}  // namespace

std::string PercentDecode(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && HexValue(text[i + 1]) >= 0 &&
        HexValue(text[i + 2]) >= 0) {
      out += char(HexValue(text[i + 1]) * 16 + HexValue(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

Route ParseRoute(std::string_view method, std::string_view target) {
  Route route;
  std::vector<std::string_view> parts = Split(target.substr(0, target.find_first_of("?#")));
  if (parts.empty() || parts[0] != "v2") return route;
  if (parts.size() == 1) {
    route.endpoint = Endpoint::kServer;
    route.method_allowed = method == "GET";
  } else if (parts.size() == 3 && parts[1] == "health" &&
             (parts[2] == "live" || parts[2] == "ready")) {
    route.endpoint = parts[2] == "live" ? Endpoint::kLive : Endpoint::kReady;
    route.method_allowed = method == "GET";
  } else if (parts[1] == "models") {
    ParseModel(method, {parts.begin() + 2, parts.end()}, route);
  } else if (parts[1] == "repository") {
    ParseRepository(method, {parts.begin() + 2, parts.end()}, route);
  } else if (IsSharedMemory(parts)) {
    route.endpoint = Endpoint::kUnsupported;
    route.what = parts[1] == "systemsharedmemory" ? "system shared memory" : "cuda shared memory";
  } else if (parts.size() == 3 && parts[1] == "trace" && parts[2] == "setting") {
    route.endpoint = Endpoint::kUnsupported;
    route.what = "trace setting";
  } else if (parts.size() == 2 && parts[1] == "logging") {
    route.endpoint = Endpoint::kUnsupported;
    route.what = "logging";
  }
  return route;
}

}  // namespace dunlin::http
