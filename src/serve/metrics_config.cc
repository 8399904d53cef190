#include <charconv>
#include <string_view>

#include "serve/metrics.h"

namespace dunlin::serve {
namespace {

Result<bool> ParseBool(std::string_view key, std::string_view value) {
  if (value == "true" || value == "1") return true;
  if (value == "false" || value == "0") return false;
  return Fail(Code::kInvalidArgument, "--metrics-config: {} must be true or false, got '{}'", key,
              value);
}

// "0.5:0.05,0.99:0.001". The errors are accepted and not needed: ours are 3 % of the value.
Result<std::vector<double>> ParseQuantiles(std::string_view text) {
  std::vector<double> quantiles;
  const auto number = [](std::string_view s, double& value) {
    const auto [end, error] = std::from_chars(s.data(), s.data() + s.size(), value);
    return !s.empty() && error == std::errc() && end == s.data() + s.size() && value >= 0 &&
           value <= 1;
  };
  while (!text.empty()) {
    const std::string_view pair = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), pair.size() + 1));
    const size_t colon = pair.find(':');
    double quantile = 0, error = 0;
    if (!number(pair.substr(0, colon), quantile) ||
        (colon != pair.npos && !number(pair.substr(colon + 1), error)))
      return Fail(Code::kInvalidArgument,
                  "--metrics-config: summary_quantiles must be <quantile>:<error>[,…], each from 0 "
                  "to 1, got '{}'",
                  pair);
    for (const double q : quantiles)
      if (q == quantile)
        return Fail(Code::kInvalidArgument,
                    "--metrics-config: summary_quantiles names {} more than once", quantile);
    quantiles.push_back(quantile);
  }
  if (quantiles.empty())
    return Fail(Code::kInvalidArgument, "--metrics-config: summary_quantiles is empty");
  return quantiles;
}

}  // namespace

Status ParseMetricsConfig(const std::vector<std::string>& flags, MetricsOptions& options) {
  for (const std::string& flag : flags) {
    std::string_view key = std::string_view(flag).substr(0, flag.find('='));
    if (key.size() == flag.size())
      return Fail(Code::kInvalidArgument, "--metrics-config must be <key>=<value>, got '{}'", flag);
    const std::string_view value = std::string_view(flag).substr(key.size() + 1);
    for (const std::string_view prefix : {"counter,", "histogram,", "summary,"})
      if (key.starts_with(prefix)) key.remove_prefix(prefix.size());
    if (key == "counter_latencies")
      options.counter_latencies = TRY(ParseBool(key, value));
    else if (key == "histogram_latencies")
      options.histogram_latencies = TRY(ParseBool(key, value));
    else if (key == "summary_latencies")
      options.summary_latencies = TRY(ParseBool(key, value));
    else if (key == "summary_quantiles" || key == "quantiles")
      options.summary_quantiles = TRY(ParseQuantiles(value));
    else
      return Fail(Code::kInvalidArgument, "--metrics-config: unknown setting '{}'", key);
  }
  return {};
}

}  // namespace dunlin::serve
