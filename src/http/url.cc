#include "http/url.h"

#include <charconv>
#include <string_view>

namespace dunlin::http {

std::string ServerUrl::authority() const {
  const bool v6 = host.find(':') != std::string::npos;
  return fmt::format("{}{}{}:{}", v6 ? "[" : "", host, v6 ? "]" : "", port);
}

Result<ServerUrl> ParseServerUrl(const std::string& url) {
  static constexpr struct {
    std::string_view name;
    Scheme scheme;
    const char* port;
  } kSchemes[] = {{"http", Scheme::kHttp, "8000"},
                  {"https", Scheme::kHttps, "443"},
                  {"grpc", Scheme::kGrpc, "8001"},
                  {"grpcs", Scheme::kGrpcs, "443"}};
  ServerUrl parsed;
  parsed.port = "8000";
  std::string_view rest = url;
  if (const size_t end = rest.find("://"); end != std::string_view::npos) {
    const std::string_view name = rest.substr(0, end);
    const auto* found = std::begin(kSchemes);
    while (found != std::end(kSchemes) && found->name != name) ++found;
    if (found == std::end(kSchemes))
      return Fail(Code::kInvalidArgument, "{}: the scheme is http, https, grpc or grpcs", url);
    parsed.scheme = found->scheme;
    parsed.port = found->port;
    rest.remove_prefix(end + 3);
  }
  while (rest.ends_with('/')) rest.remove_suffix(1);
  // The last colon ends the host, unless it lies inside an IPv6 address's brackets.
  const size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && rest.find(']', colon) == std::string_view::npos) {
    parsed.port = std::string(rest.substr(colon + 1));
    rest = rest.substr(0, colon);
  }
  if (rest.starts_with('[') && rest.ends_with(']')) rest = rest.substr(1, rest.size() - 2);
  parsed.host = std::string(rest);
  int port = 0;
  const char* end = parsed.port.data() + parsed.port.size();
  const auto [at, error] = std::from_chars(parsed.port.data(), end, port);
  if (rest.empty() || rest.find_first_of("/?# \r\n") != std::string::npos || error != std::errc{} ||
      at != end || port < 1 || port > 65535)
    return Fail(Code::kInvalidArgument, "{}: give a URL such as http://localhost:8000", url);
  return parsed;
}

}  // namespace dunlin::http
