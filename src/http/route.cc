#include "http/route.h"

#include <algorithm>
#include <array>
#include <span>

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

struct Segments {
  std::array<std::string_view, kMaxSegments> parts;
  size_t count = 0;
};
using Parts = std::span<const std::string_view>;

// "/v2/models/x" → v2, models, x. None when there are empty or too many segments.
Segments Split(std::string_view path) {
  Segments s;
  if (path.empty() || path[0] != '/') return {};
  path.remove_prefix(1);
  for (;;) {
    const size_t slash = path.find('/');
    const std::string_view part = path.substr(0, slash);
    if (part.empty() || s.count == kMaxSegments) return {};
    s.parts[s.count++] = part;
    if (slash == std::string_view::npos) return s;
    path.remove_prefix(slash + 1);
  }
}

// What the last segment of a path means, and the method that goes with it.
struct Action {
  std::string_view name;
  Endpoint endpoint;
  std::string_view method;
};
constexpr Action kModelActions[] = {
    {"infer", Endpoint::kInfer, "POST"},
    {"ready", Endpoint::kModelReady, "GET"},
    {"config", Endpoint::kModelConfig, "GET"},
    {"stats", Endpoint::kModelStats, "GET"},
    {"generate", Endpoint::kGenerate, "POST"},
    {"generate_stream", Endpoint::kGenerateStream, "POST"},
};
constexpr Action kSharedMemoryActions[] = {
    {"status", Endpoint::kSharedMemoryStatus, "GET"},
    {"register", Endpoint::kSharedMemoryRegister, "POST"},
    {"unregister", Endpoint::kSharedMemoryUnregister, "POST"},
};
constexpr Action kV1Actions[] = {
    {"predict", Endpoint::kV1Predict, "POST"},
    {"classify", Endpoint::kV1Other, "POST"},
    {"regress", Endpoint::kV1Other, "POST"},
};

// Whether `name` is one of them; sets what it means.
bool Match(std::span<const Action> actions, std::string_view name, std::string_view method,
           Route& route) {
  for (const Action& a : actions) {
    if (name != a.name) continue;
    route.endpoint = a.endpoint;
    route.method_allowed = method == a.method;
    return true;
  }
  return false;
}
void Set(Route& route, Endpoint endpoint, bool method_allowed) {
  route.endpoint = endpoint;
  route.method_allowed = method_allowed;
}

bool IsNumber(std::string_view s) {
  return !s.empty() && std::all_of(s.begin(), s.end(), [](char c) { return c >= '0' && c <= '9'; });
}

// parts: after "/v2/models".
void ParseModel(std::string_view method, Parts parts, Route& route) {
  if (parts.size() == 1 && parts[0] == "stats")
    return Set(route, Endpoint::kAllStats, method == "GET");
  if (parts.empty()) return;
  route.model = PercentDecode(parts[0]);
  parts = parts.subspan(1);
  if (parts.size() >= 2 && parts[0] == "versions" && IsNumber(parts[1])) {
    route.version = parts[1];
    parts = parts.subspan(2);
  }
  if (parts.empty()) return Set(route, Endpoint::kModel, method == "GET");
  if (parts.size() == 2 && parts[0] == "trace" && parts[1] == "setting")
    return Set(route, Endpoint::kTraceSetting, method == "GET" || method == "POST");
  if (parts.size() == 1) Match(kModelActions, parts[0], method, route);
}

// parts: after "/v2/repository".
void ParseRepository(std::string_view method, Parts parts, Route& route) {
  const auto is_index = [](const auto& p) { return p.size() == 1 && p[0] == "index"; };
  const auto is_model = [](const auto& p) {
    return p.size() == 3 && p[0] == "models" && (p[2] == "load" || p[2] == "unload");
  };
  if (!is_index(parts) && !is_model(parts)) {
    if (parts.empty()) return;
    route.repository = PercentDecode(parts[0]);
    parts = parts.subspan(1);
    if (!is_index(parts) && !is_model(parts)) return;
  }
  if (is_index(parts)) return Set(route, Endpoint::kIndex, method == "POST");
  Set(route, parts[2] == "load" ? Endpoint::kLoad : Endpoint::kUnload, method == "POST");
  route.model = PercentDecode(parts[1]);
}

// parts: "systemsharedmemory" or "cudasharedmemory", and what follows.
void ParseSharedMemory(std::string_view method, Parts parts, Route& route) {
  const bool region = parts.size() == 4 && parts[1] == "region";
  if (!region && parts.size() != 2) return;
  if (region) route.region = PercentDecode(parts[2]);
  if (Match(kSharedMemoryActions, parts.back(), method, route) && parts[0] == "cudasharedmemory")
    route.endpoint = Endpoint::kCudaSharedMemory;
}

// parts: after "/v1/models". The verb follows the last segment behind a colon.
void ParseV1(std::string_view method, Parts parts, Route& route) {
  if (parts.empty()) return Set(route, Endpoint::kV1Models, method == "GET");
  const std::string_view last = parts.back();
  std::string_view verb;
  const bool metadata = parts.size() > 1 && last == "metadata";
  if (metadata) parts = parts.first(parts.size() - 1);
  const size_t colon = metadata ? std::string_view::npos : last.rfind(':');
  if (colon != std::string_view::npos) verb = last.substr(colon + 1);
  const auto name = [&](std::string_view part) {
    return verb.empty() || part.data() != last.data() ? part : part.substr(0, colon);
  };
  if (parts.size() == 3 && parts[1] == "versions" && IsNumber(name(parts[2])))
    route.version = name(parts[2]);
  else if (parts.size() == 3 && parts[1] == "labels")
    route.label = PercentDecode(name(parts[2]));
  else if (parts.size() != 1)
    return;
  route.model = PercentDecode(name(parts[0]));
  if (verb.empty())
    return Set(route, metadata ? Endpoint::kV1Metadata : Endpoint::kV1Model, method == "GET");
  Match(kV1Actions, verb, method, route);
}

void ParseV2(std::string_view method, Parts parts, Route& route) {
  if (parts.empty()) return Set(route, Endpoint::kServer, method == "GET");
  const std::string_view first = parts[0];
  if (first == "models") return ParseModel(method, parts.subspan(1), route);
  if (first == "repository") return ParseRepository(method, parts.subspan(1), route);
  if (first == "systemsharedmemory" || first == "cudasharedmemory")
    return ParseSharedMemory(method, parts, route);
  if (parts.size() == 2 && first == "health" && parts[1] == "live")
    return Set(route, Endpoint::kLive, method == "GET");
  if (parts.size() == 2 && first == "health" && parts[1] == "ready")
    return Set(route, Endpoint::kReady, method == "GET");
  if (parts.size() == 2 && first == "trace" && parts[1] == "setting")
    return Set(route, Endpoint::kTraceSetting, method == "GET" || method == "POST");
  if (parts.size() == 1 && first == "logging")
    return Set(route, Endpoint::kLogging, method == "GET" || method == "POST");
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
  const Segments path = Split(target.substr(0, target.find_first_of("?#")));
  const Parts parts(path.parts.data(), path.count);
  if (method == "HEAD") method = "GET";
  if (parts.empty()) return route;
  if (parts[0] == "v2")
    ParseV2(method, parts.subspan(1), route);
  else if (parts[0] == "v1" && parts.size() >= 2 && parts[1] == "models")
    ParseV1(method, parts.subspan(2), route);
  return route;
}

}  // namespace dunlin::http
