#include "cli/perf_arrivals.h"

#include <charconv>
#include <cmath>
#include <string_view>

namespace dunlin::cli {
namespace {

Arrivals::Duration FromSeconds(double seconds) {
  return Arrivals::Duration(std::llround(seconds * 1e9));
}

class Constant final : public Arrivals {
 public:
  explicit Constant(double rate) : rate_(rate) {}
  std::optional<Duration> Next() override { return FromSeconds(double(n_++) / rate_); }

 private:
  double rate_;
  uint64_t n_ = 0;
};

class Poisson final : public Arrivals {
 public:
  Poisson(double rate, uint64_t seed) : random_(seed), gap_(rate) {}
  std::optional<Duration> Next() override { return FromSeconds(at_ += gap_(random_)); }

 private:
  std::mt19937_64 random_;
  std::exponential_distribution<double> gap_;
  double at_ = 0;
};

class Replayed final : public Arrivals {
 public:
  Replayed(std::vector<double> seconds, double speed)
      : seconds_(std::move(seconds)), speed_(speed) {}
  std::optional<Duration> Next() override {
    if (n_ == seconds_.size()) return std::nullopt;
    return FromSeconds(seconds_[n_++] / speed_);
  }

 private:
  std::vector<double> seconds_;
  double speed_;
  size_t n_ = 0;
};

// Takes a number of at most `digits` digits off the front of `text`.
std::optional<int> TakeInt(std::string_view& text, size_t digits) {
  int value = 0;
  const char* end = text.data() + std::min(digits, text.size());
  const auto [at, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc{}) return std::nullopt;
  text.remove_prefix(size_t(at - text.data()));
  return value;
}

bool Take(std::string_view& text, std::string_view any_of) {
  if (text.empty() || any_of.find(text.front()) == std::string_view::npos) return false;
  text.remove_prefix(1);
  return true;
}

std::optional<double> PlainSeconds(std::string_view text) {
  double value = 0;
  const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || at != text.data() + text.size() || !std::isfinite(value))
    return std::nullopt;
  return value;
}

// "2023-11-16 18:17:03.9799600", 'T' and a final 'Z' are fine.
std::optional<double> DateSeconds(std::string_view text) {
  const auto year = TakeInt(text, 4);
  if (!year || !Take(text, "-")) return std::nullopt;
  const auto month = TakeInt(text, 2);
  if (!month || !Take(text, "-")) return std::nullopt;
  const auto day = TakeInt(text, 2);
  if (!day || !Take(text, " T")) return std::nullopt;
  const auto hour = TakeInt(text, 2);
  if (!hour || !Take(text, ":")) return std::nullopt;
  const auto minute = TakeInt(text, 2);
  if (!minute || !Take(text, ":")) return std::nullopt;
  if (text.ends_with('Z')) text.remove_suffix(1);
  const auto second = PlainSeconds(text);
  const std::chrono::year_month_day date{std::chrono::year(*year),
                                         std::chrono::month(unsigned(*month)),
                                         std::chrono::day(unsigned(*day))};
  if (!second || !date.ok()) return std::nullopt;
  const auto days = std::chrono::sys_days(date).time_since_epoch();
  return double(std::chrono::seconds(days).count()) + *hour * 3600.0 + *minute * 60.0 + *second;
}

}  // namespace

std::unique_ptr<Arrivals> ConstantArrivals(double rate) { return std::make_unique<Constant>(rate); }

std::unique_ptr<Arrivals> PoissonArrivals(double rate, uint64_t seed) {
  return std::make_unique<Poisson>(rate, seed);
}

std::unique_ptr<Arrivals> ReplayedArrivals(std::vector<double> seconds, double speed) {
  return std::make_unique<Replayed>(std::move(seconds), speed);
}

Result<std::vector<double>> ParseTrace(const std::string& text) {
  std::vector<double> times;
  std::string_view rest = text;
  for (int line_number = 1; !rest.empty(); ++line_number) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    std::string_view line = rest.substr(0, end);
    rest.remove_prefix(std::min(end + 1, rest.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    line = line.substr(0, line.find(','));
    if (line.empty() || line.front() == '#') continue;
    auto at = PlainSeconds(line);
    if (!at) at = DateSeconds(line);
    if (!at) {
      if (times.empty() && line_number == 1) continue;  // a heading
      return Fail(Code::kInvalidArgument, "line {}: '{}' is no time", line_number, line);
    }
    if (!times.empty() && *at < times.back())
      return Fail(Code::kInvalidArgument, "line {}: it is earlier than the line before",
                  line_number);
    times.push_back(*at);
  }
  if (times.empty()) return Fail(Code::kInvalidArgument, "there are no times in it");
  for (size_t i = times.size(); i-- > 0;) times[i] -= times[0];
  return times;
}

}  // namespace dunlin::cli
