#include <algorithm>
#include <cmath>
#include <map>

#include "cli/perf_report.h"

namespace dunlin::cli {
namespace {

constexpr double kWidth = 760, kLeft = 20, kRight = 20, kPanel = 170, kBars = 105;
constexpr int kPerDecade = 40;  // bars; those of the histogram itself are three times finer

double Log(Histogram::Duration d) { return std::log10(std::max(1.0, double(d.count()))); }

struct Axis {
  double low = 0, high = 1;  // log10 of nanoseconds
  double X(double log) const {
    return kLeft + (log - low) / (high - low) * (kWidth - kLeft - kRight);
  }
};

std::string TickName(int power) {
  static constexpr const char* kUnits[] = {"ns", "us", "ms", "s"};
  const int unit = std::min(power / 3, 3);
  return fmt::format("{:g} {}", std::pow(10.0, power - 3 * unit), kUnits[unit]);
}

std::string Label(double x, double y, const std::string& text, const char* anchor,
                  const char* fill) {
  return fmt::format("<text x='{:.1f}' y='{:.1f}' text-anchor='{}' fill='{}'>{}</text>\n", x, y,
                     anchor, fill, text);
}

std::string Line(double x, double y1, double y2, const char* stroke, const char* dash) {
  return fmt::format(
      "<line x1='{0:.1f}' x2='{0:.1f}' y1='{1:.1f}' y2='{2:.1f}' stroke='{3}' "
      "stroke-dasharray='{4}'/>\n",
      x, y1, y2, stroke, dash);
}

std::string Bars(const Histogram& h, const Axis& axis, double bottom) {
  std::map<int, uint64_t> bars;
  h.ForEach([&bars](Histogram::Duration low, Histogram::Duration high, uint64_t count) {
    bars[int(std::floor((Log(low) + Log(high)) / 2 * kPerDecade))] += count;
  });
  uint64_t most = 1;
  for (const auto& [i, count] : bars) most = std::max(most, count);
  std::string svg;
  for (const auto& [i, count] : bars) {
    const double x = axis.X(double(i) / kPerDecade);
    const double width = axis.X(double(i + 1) / kPerDecade) - x;
    // The one outlier among a million must be seen, too: at least a pixel.
    const double height = std::max(1.0, kBars * double(count) / double(most));
    svg +=
        fmt::format("<rect x='{:.1f}' y='{:.1f}' width='{:.2f}' height='{:.1f}' fill='#4878a8'/>\n",
                    x, bottom - height, width, height);
  }
  return svg;
}

std::string Panel(const PerfReport& report, const PerfLevel& level, const Axis& axis, double top) {
  const Histogram& h = level.run.total.latency;
  const char* kind = report.kind == LoadKind::kConcurrency ? "concurrency"
                     : report.kind == LoadKind::kRate      ? "requests due per second:"
                                                           : "trace at speed";
  const double bottom = top + 30 + kBars;
  std::string svg =
      Label(kLeft, top + 12, fmt::format("{} {:g}, {} answers", kind, level.asked, h.count()),
            "start", "#222");
  for (int power = int(std::ceil(axis.low)); power <= int(axis.high); ++power) {
    svg += Line(axis.X(power), top + 20, bottom, "#ddd", "none");
    svg += Label(axis.X(power), bottom + 14, TickName(power), "middle", "#666");
  }
  svg += Bars(h, axis, bottom);
  static constexpr struct {
    double percent;
    const char* name;
  } kMarks[] = {{50, "p50"}, {99, "p99"}, {99.9, "p99.9"}};
  double row = 0;
  for (const auto& mark : kMarks) {
    const auto value = h.Percentile(mark.percent);
    svg += Line(axis.X(Log(value)), top + 22 + row, bottom, "#c04030", "3 2");
    svg += Label(axis.X(Log(value)) + 3, top + 30 + row,
                 fmt::format("{} {:.3g} ms", mark.name, double(value.count()) / 1e6), "start",
                 "#c04030");
    row += 11;
  }
  return svg;
}

std::string Escaped(const std::string& text) {
  std::string out;
  for (const char c : text) out += c == '<' ? "&lt;" : c == '&' ? "&amp;" : std::string(1, c);
  return out;
}

}  // namespace

std::string PerfSvg(const PerfReport& report) {
  Axis axis{1e9, 0};
  for (const PerfLevel& level : report.levels) {
    const Histogram& h = level.run.total.latency;
    if (h.count() == 0) continue;
    axis.low = std::min(axis.low, std::floor(Log(h.min()) * 2) / 2);
    axis.high = std::max(axis.high, std::ceil(Log(h.max()) * 2) / 2 + 0.25);
  }
  if (axis.low >= axis.high) axis = {3, 9};
  const double height = 40 + kPanel * double(report.levels.size());
  std::string svg = fmt::format(
      "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {} {}' "
      "font-family='sans-serif' font-size='11'>\n"
      "<rect width='100%' height='100%' fill='white'/>\n",
      kWidth, height);
  const char* from = report.kind == LoadKind::kConcurrency ? "sent" : "due";
  svg += Label(kLeft, 20,
               fmt::format("{}: latency from when a request was {}", Escaped(report.model), from),
               "start", "#000");
  double top = 34;
  for (const PerfLevel& level : report.levels) {
    if (level.run.total.latency.count() > 0) svg += Panel(report, level, axis, top);
    top += kPanel;
  }
  return svg + "</svg>\n";
}

}  // namespace dunlin::cli
