#include "cli/roofline.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <vector>

#include "cli/svg.h"

namespace dunlin::cli {
namespace {

constexpr double kWidth = 900, kHeight = 560;
constexpr double kLeft = 70, kRight = 680, kTop = 50, kBottom = 470;  // of the plot
// Okabe and Ito's palette, which stays apart for the colour-blind; the last is for all others.
constexpr const char* kColours[] = {"#0072B2", "#E69F00", "#009E73", "#CC79A7",
                                    "#56B4E9", "#D55E00", "#999999"};
constexpr size_t kNamed = std::size(kColours) - 1;

// Logarithmic axes: decades of GFLOP/s up, powers of two of FLOP per byte to the right.
struct Axes {
  double x0, x1, y0, y1;  // log2 and log10 of the borders
  double X(double intensity) const {
    const double at = std::clamp(std::log2(intensity), x0, x1);
    return kLeft + (at - x0) / (x1 - x0) * (kRight - kLeft);
  }
  double Y(double gflops) const {
    const double at = std::clamp(std::log10(gflops), y0, y1);
    return kBottom - (at - y0) / (y1 - y0) * (kBottom - kTop);
  }
};

double Intensity(const StepProfile& s) {
  return 2 * double(s.macs) / double(std::max<int64_t>(1, s.bytes));
}
double Rate(const StepProfile& s) { return 2e-3 * double(s.macs) / s.microseconds; }
bool Multiplies(const StepProfile& s) { return s.macs > 0 && s.microseconds > 0; }

std::string Grid(const Axes& a) {
  std::string svg;
  constexpr const char* kThin = "stroke=\"#e4e4e4\"";
  for (double p = a.y0; p <= a.y1; ++p) {
    const double y = a.Y(std::pow(10, p));
    svg += SvgLine(kLeft, y, kRight, y, kThin);
    svg += SvgText(kLeft - 8, y + 4, fmt::format("{:g}", std::pow(10, p)), "text-anchor=\"end\"");
  }
  for (double p = a.x0; p <= a.x1; p += 2) {
    const double x = a.X(std::exp2(p));
    svg += SvgLine(x, kTop, x, kBottom, kThin);
    svg += SvgText(x, kBottom + 18, fmt::format("{:g}", std::exp2(p)), "text-anchor=\"middle\"");
  }
  svg += SvgText((kLeft + kRight) / 2, kBottom + 40, "arithmetic intensity, FLOP per byte",
                 "text-anchor=\"middle\"");
  return svg + SvgText(kLeft, kTop - 10, "GFLOP/s");
}

std::string Roofs(const Axes& a, const MachinePeak& peak) {
  std::string svg;
  constexpr const char* kBold = "stroke=\"#333\" stroke-width=\"1.5\"";
  const double top = a.Y(peak.gflops);
  const double low = std::exp2(a.x0);
  double left = kRight;  // where the steepest roof meets the flat one
  for (const MachinePeak::Level& level : peak.levels) {
    // Where the slope leaves the plot's lower border, and where it meets the peak.
    const double from = std::max(low, std::pow(10, a.y0) / level.gbps);
    const double to = peak.gflops / level.gbps;
    svg += SvgLine(a.X(from), a.Y(from * level.gbps), a.X(to), top, kBold);
    svg += SvgText(a.X(from) + 14, a.Y(from * level.gbps) + 3,
                   fmt::format("{:.0f} GB/s", level.gbps), "font-size=\"11\"");
    left = std::min(left, a.X(to));
  }
  svg += SvgLine(left, top, kRight, top, kBold);
  return svg + SvgText(kRight, top - 6, fmt::format("{:.0f} GFLOP/s", peak.gflops),
                       "text-anchor=\"end\" font-size=\"11\"");
}

// "conv.winograd_4x4 (error 3e-06)" without what varies from step to step.
std::string Kind(const StepProfile& s) { return s.kernel.substr(0, s.kernel.find(' ')); }

// Kinds of kernel by time, the longest first.
std::vector<std::pair<std::string, double>> Kinds(std::span<const StepProfile> steps) {
  std::map<std::string, double> sums;
  for (const StepProfile& s : steps) sums[Kind(s)] += s.microseconds;
  std::vector<std::pair<std::string, double>> order(sums.begin(), sums.end());
  std::ranges::stable_sort(order, std::greater{}, &std::pair<std::string, double>::second);
  return order;
}

}  // namespace

std::string RooflineSvg(std::span<const StepProfile> steps, const MachinePeak& peak,
                        const std::string& title) {
  double total = 0, lowest = peak.gflops, highest = peak.gflops;
  for (const StepProfile& s : steps) {
    total += s.microseconds;
    if (!Multiplies(s)) continue;
    lowest = std::min(lowest, Rate(s));
    highest = std::max(highest, Rate(s));
  }
  const Axes axes{-4, 10, std::clamp(std::floor(std::log10(lowest)), -2.0, 0.0),
                  std::ceil(std::log10(highest) + 0.1)};
  const auto kinds = Kinds(steps);
  std::map<std::string, const char*> colours;
  for (size_t i = 0; i < kinds.size(); ++i) colours[kinds[i].first] = kColours[std::min(i, kNamed)];

  std::string svg = SvgBegin(kWidth, kHeight, kLeft, title);
  svg += Grid(axes) + Roofs(axes, peak);
  double unplotted = 0;
  for (const StepProfile& s : steps) {
    if (!Multiplies(s)) {
      unplotted += s.microseconds;
      continue;
    }
    const double radius = std::max(2.0, 40 * std::sqrt(s.microseconds / total));
    const char* colour = colours[Kind(s)];
    svg += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" fill=\"{}\" fill-opacity=\"0.55\" "
        "stroke=\"{}\"><title>{}</title></circle>\n",
        axes.X(Intensity(s)), axes.Y(Rate(s)), radius, colour, colour,
        SvgEscaped(fmt::format("{} {} {}: {:.1f} us, {:.1f} GFLOP/s, {:.0f} % of the roof", s.op,
                               s.kernel, s.shape, s.microseconds, Rate(s),
                               100 * peak.RoofShare(s.macs, s.bytes, s.microseconds))));
  }
  double y = kTop + 10, others = 0;
  const auto legend = [&](const char* colour, const std::string& name, double micros) {
    svg += fmt::format("<circle cx=\"{:.0f}\" cy=\"{:.0f}\" r=\"6\" fill=\"{}\"/>\n", kRight + 25,
                       y - 4, colour);
    svg += SvgText(kRight + 38, y, fmt::format("{} {:.1f} %", name, 100 * micros / total));
    y += 20;
  };
  for (size_t i = 0; i < kinds.size(); ++i) {
    if (i < kNamed)
      legend(kColours[i], kinds[i].first, kinds[i].second);
    else
      others += kinds[i].second;
  }
  if (others > 0) legend(kColours[kNamed], "others", others);
  svg +=
      SvgText(kLeft, kHeight - 20,
              fmt::format("Area: share of {:.2f} ms. Steps without multiply-adds take {:.1f} % and "
                          "are not shown. Winograd's method can pass the roof.",
                          total / 1000, 100 * unplotted / total));
  return svg + "</svg>\n";
}

}  // namespace dunlin::cli
