#include "cli/profile.h"

#include <algorithm>
#include <map>
#include <vector>

#include "base/json_writer.h"
#include "cli/text.h"

namespace dunlin::cli {
namespace {

// Node names of exported models run to hundreds of characters; the end tells them apart.
std::string Short(const std::string& name) {
  constexpr size_t kMost = 40;
  if (name.size() <= kMost) return name;
  size_t from = name.size() - kMost + 1;
  while (from < name.size() && (static_cast<unsigned char>(name[from]) & 0xc0) == 0x80) ++from;
  return "…" + name.substr(from);
}

// Two floating-point operations per multiply-accumulate; microseconds to giga per second.
std::string GigaFlops(const StepProfile& s) {
  return s.macs > 0 && s.microseconds > 0
             ? fmt::format("{:.1f}", 2e-3 * double(s.macs) / s.microseconds)
             : "";
}
std::string GigaBytes(const StepProfile& s) {
  return s.microseconds > 0 ? fmt::format("{:.1f}", 1e-3 * double(s.bytes) / s.microseconds) : "";
}
std::string Percent(double part, double whole) {
  return fmt::format("{:.1f}", whole > 0 ? 100 * part / whole : 0);
}

double TotalMicros(std::span<const StepProfile> steps) {
  double total = 0;
  for (const StepProfile& s : steps) total += s.microseconds;
  return total;
}

std::string PerOperator(std::span<const StepProfile> steps, double total, const MachinePeak& peak) {
  struct Sum {
    StepProfile step;
    int count = 0;
    double ideal = 0;  // microseconds, had every step reached its roof
  };
  std::map<std::pair<std::string, std::string>, Sum> sums;
  for (const StepProfile& s : steps) {
    Sum& sum = sums[{s.op, s.kernel}];
    sum.step.op = s.op;
    sum.step.kernel = s.kernel;
    sum.step.microseconds += s.microseconds;
    sum.step.macs += s.macs;
    sum.step.bytes += s.bytes;
    sum.ideal += s.microseconds * peak.RoofShare(s.macs, s.bytes, s.microseconds);
    ++sum.count;
  }
  std::vector<Sum> order;
  for (auto& [key, sum] : sums) order.push_back(std::move(sum));
  std::ranges::stable_sort(order, std::greater{}, [](const Sum& s) { return s.step.microseconds; });
  Table table({"us", "%", "steps", "operator", "kernel", "GFLOP/s", "GB/s", "% of roof"});
  for (const Sum& s : order)
    table.Add({fmt::format("{:.1f}", s.step.microseconds), Percent(s.step.microseconds, total),
               fmt::format("{}", s.count), s.step.op, s.step.kernel, GigaFlops(s.step),
               GigaBytes(s.step), Percent(s.ideal, s.step.microseconds)});
  return table.Text();
}

}  // namespace

std::string ProfileText(std::span<const StepProfile> steps, const MachinePeak& peak) {
  const double total = TotalMicros(steps);
  std::vector<const StepProfile*> order;
  for (const StepProfile& s : steps) order.push_back(&s);
  std::ranges::stable_sort(order, std::greater{},
                           [](const StepProfile* s) { return s->microseconds; });
  Table table({"us", "%", "operator", "kernel", "shape", "GFLOP/s", "GB/s", "% of roof", "node"});
  for (const StepProfile* s : order)
    table.Add({fmt::format("{:.1f}", s->microseconds), Percent(s->microseconds, total), s->op,
               s->kernel, s->shape, GigaFlops(*s), GigaBytes(*s),
               Percent(peak.RoofShare(s->macs, s->bytes, s->microseconds), 1), Short(s->name)});
  std::string roof = fmt::format("{:.1f} GFLOP/s", peak.gflops);
  for (const MachinePeak::Level& level : peak.levels)
    roof += fmt::format(", {:.1f} GB/s up to {}", level.gbps, HumanBytes(level.bytes));
  return fmt::format("{}\nBy operator ({} steps, {:.1f} us):\n{}\nRoof, measured: {}\n",
                     table.Text(), steps.size(), total, PerOperator(steps, total, peak), roof);
}

std::string TraceJson(std::span<const StepProfile> steps, const std::string& process) {
  JsonWriter json;
  json.BeginObject().Key("displayTimeUnit").String("ms").Key("traceEvents").BeginArray();
  json.BeginObject().Key("name").String("process_name").Key("ph").String("M").Key("pid").Int(1);
  json.Key("args").BeginObject().Key("name").String(process).End().End();
  double start = 0;
  for (const StepProfile& s : steps) {
    json.BeginObject().Key("name").String(s.op).Key("cat").String(s.kernel).Key("ph").String("X");
    json.Key("pid").Int(1).Key("tid").Int(1).Key("ts").Double(start, 12).Key("dur").Double(
        s.microseconds, 9);
    json.Key("args")
        .BeginObject()
        .Key("node")
        .String(s.name)
        .Key("kernel")
        .String(s.kernel)
        .Key("shape")
        .String(s.shape);
    json.Key("macs").Int(s.macs).Key("bytes").Int(s.bytes).End().End();
    start += s.microseconds;
  }
  json.End().End();
  return json.text() + '\n';
}

std::string LayersText(std::span<const StepProfile> steps) {
  Table table({"#", "operator", "kernel", "shape", "parameters", "MACs", "memory access", "node"});
  for (size_t i = 0; i < steps.size(); ++i) {
    const StepProfile& s = steps[i];
    table.Add({fmt::format("{}", i), s.op, s.kernel, s.shape, HumanCount(double(s.parameters)),
               HumanCount(double(s.macs)), HumanBytes(s.bytes), Short(s.name)});
  }
  return table.Text();
}

}  // namespace dunlin::cli
