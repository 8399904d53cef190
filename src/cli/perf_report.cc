#include "cli/perf_report.h"

#include <algorithm>
#include <functional>
#include <map>

#include "base/json_writer.h"
#include "cli/text.h"

namespace dunlin::cli {
namespace {

struct Percentile {
  double percent;
  const char* name;
};
constexpr Percentile kPercentiles[] = {
    {50, "p50"}, {90, "p90"}, {95, "p95"}, {99, "p99"}, {99.9, "p99.9"}};

double Micros(Histogram::Duration d) { return double(d.count()) / 1000; }
double Ratio(double a, double b) { return b > 0 ? a / b : 0; }
double Throughput(const LoadResult& r) { return Ratio(double(r.answered), r.seconds); }
bool IsOpen(const PerfReport& report) { return report.kind != LoadKind::kConcurrency; }

const char* KindName(LoadKind kind) {
  return kind == LoadKind::kConcurrency ? "concurrency"
         : kind == LoadKind::kRate      ? "rate"
                                        : "speed";
}

std::string Short(double value) {
  return value >= 1000 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}
std::string Millis(Histogram::Duration d) { return Short(Micros(d) / 1000); }

// CPU microseconds per right answer.
double ClientCpu(const PerfLevel& l) {
  return Ratio(l.run.total.client_cpu_seconds * 1e6, double(l.run.total.answered));
}
std::optional<double> ServerCpu(const PerfLevel& l) {
  if (!l.server_cpu_seconds) return std::nullopt;
  return Ratio(*l.server_cpu_seconds * 1e6, double(l.run.total.answered));
}

std::vector<std::string> LatencyCells(const Histogram& h) {
  std::vector<std::string> cells;
  for (const Percentile& p : kPercentiles) cells.push_back(Millis(h.Percentile(p.percent)));
  cells.push_back(Millis(h.max()));
  return cells;
}

std::string LoadTable(const PerfReport& report) {
  const bool open = IsOpen(report);
  std::vector<std::string> head = {KindName(report.kind), "answers/s"};
  if (open) head.push_back("ms from");
  for (const Percentile& p : kPercentiles) head.push_back(p.name + std::string(open ? "" : " ms"));
  for (const char* name : {"max", "errors", "wrong"}) head.push_back(name);
  if (open) head.push_back("not sent");
  for (const char* name : {"client CPU us", "server CPU us", "steady"}) head.push_back(name);
  Table table(head);
  for (const PerfLevel& level : report.levels) {
    const LoadResult& r = level.run.total;
    std::vector<std::string> row = {Short(level.asked), Short(Throughput(r))};
    if (open) row.push_back("due");
    for (std::string& cell : LatencyCells(r.latency)) row.push_back(std::move(cell));
    row.push_back(std::to_string(r.failed));
    row.push_back(report.checked ? std::to_string(r.wrong) : "-");
    if (open) row.push_back(std::to_string(r.not_sent));
    row.push_back(fmt::format("{:.1f}", ClientCpu(level)));
    const auto cpu = ServerCpu(level);
    row.push_back(cpu ? fmt::format("{:.1f}", *cpu) : "-");
    row.push_back(level.run.stable ? "yes" : "NO");
    const size_t columns = row.size();
    table.Add(std::move(row));
    if (!open) continue;
    row = {"", "", "sent"};
    for (std::string& cell : LatencyCells(r.from_sent)) row.push_back(std::move(cell));
    row.resize(columns);
    table.Add(std::move(row));
  }
  return table.Text();
}

// "1 x 80 %, 4 x 20 %" of executions.
std::string BatchText(const serve::ModelStatistics& s) {
  std::vector<std::pair<uint64_t, int64_t>> sizes;
  uint64_t total = 0;
  for (const auto& [size, batch] : s.batches) {
    sizes.emplace_back(batch.compute_infer.count, size);
    total += batch.compute_infer.count;
  }
  std::ranges::sort(sizes, std::greater<>());
  std::string text;
  for (size_t i = 0; i < std::min<size_t>(sizes.size(), 4); ++i)
    text += fmt::format("{}{} in {:.0f} %", text.empty() ? "" : ", ", sizes[i].second,
                        100 * Ratio(double(sizes[i].first), double(total)));
  return text + (sizes.size() > 4 ? ", …" : "");
}

std::string ServerTable(const PerfReport& report) {
  Table table({KindName(report.kind), "requests", "executions", "items each", "queue us",
               "input us", "infer us", "output us", "batch sizes"});
  for (const PerfLevel& level : report.levels) {
    if (!level.server) continue;
    const serve::ModelStatistics& s = *level.server;
    const auto mean = [](const serve::DurationStat& d) {
      return fmt::format("{:.1f}", Ratio(double(d.ns) / 1000, double(d.count)));
    };
    table.Add({Short(level.asked), std::to_string(s.success.count),
               std::to_string(s.execution_count),
               fmt::format("{:.2f}", Ratio(double(s.inference_count), double(s.execution_count))),
               mean(s.queue), mean(s.compute_input), mean(s.compute_infer), mean(s.compute_output),
               BatchText(s)});
  }
  if (table.empty()) return "";
  return "\nThe server's own statistics, mean per request:\n" + table.Text();
}

std::string ErrorLines(const PerfReport& report) {
  std::map<std::string, uint64_t> errors;
  for (const PerfLevel& level : report.levels)
    for (const auto& [text, count] : level.run.total.errors) errors[text] += count;
  std::string lines;
  for (const auto& [text, count] : errors) lines += fmt::format("  {:>8} x {}\n", count, text);
  return lines.empty() ? "" : "\nErrors; they are not among the latencies:\n" + lines;
}

// Sentences that tell how far the figures may be trusted.
std::string Remarks(const PerfReport& report) {
  std::string text = "\n";
  if (IsOpen(report)) {
    text +=
        "Open loop: 'due' counts from when a request was due, so a stall of the server, or of "
        "this\n"
        "program, is in every latency it delayed; 'sent' counts from when it was really sent.\n";
  } else {
    text +=
        "Closed loop: service times of requests that were sent when the one before was answered. "
        "A\n"
        "stall delays requests unseen; for response times under an arrival rate use "
        "--request-rate.\n";
  }
  for (const PerfLevel& level : report.levels) {
    const LoadResult& r = level.run.total;
    const std::string at = fmt::format("{} {}", KindName(report.kind), Short(level.asked));
    if (r.not_sent > 0)
      text += fmt::format(
          "At {} {} requests were due and not sent (--max-outstanding): the "
          "percentiles are too low.\n",
          at, r.not_sent);
    if (r.lag.count() > 0 && r.lag.Percentile(99) > r.from_sent.Percentile(50) &&
        r.lag.Percentile(99) > std::chrono::milliseconds(1))
      text += fmt::format("At {} this program itself was late: p99 {} ms. It needs more CPU.\n", at,
                          Millis(r.lag.Percentile(99)));
    if (!level.run.stable)
      text += fmt::format(
          "At {} throughput or p99 was not steady after {} windows; these are the "
          "last {}.\n",
          at, level.run.all.size(), level.run.windows);
  }
  if (report.rounded > 0)
    text +=
        fmt::format("{} answers differed from the first to the same request by rounding only.\n",
                    report.rounded);
  text += fmt::format("Percentiles are exact to {:.1f} % (never too low). CPU is per answer.\n",
                      Histogram::kErrorBound * 100);
  return text;
}

void LatencyJson(JsonWriter& json, std::string_view key, const Histogram& h) {
  json.Key(key).BeginObject();
  json.Key("count").Number(h.count()).Key("mean").Double(Micros(h.mean()));
  json.Key("min").Double(Micros(h.min()));
  for (const Percentile& p : kPercentiles) json.Key(p.name).Double(Micros(h.Percentile(p.percent)));
  json.Key("max").Double(Micros(h.max()));
  json.Key("buckets").BeginArray();  // upper end and count, so that runs can be added up
  h.ForEach([&json](Histogram::Duration, Histogram::Duration upper, uint64_t count) {
    json.BeginArray().Double(Micros(upper)).Number(count).End();
  });
  json.End().End();
}

void ServerJson(JsonWriter& json, const serve::ModelStatistics& s) {
  json.Key("server").BeginObject();
  json.Key("requests").Number(s.success.count).Key("failed").Number(s.fail.count);
  json.Key("inferences").Number(s.inference_count).Key("executions").Number(s.execution_count);
  const auto mean = [&json](std::string_view key, const serve::DurationStat& d) {
    json.Key(key).Double(Ratio(double(d.ns) / 1000, double(d.count)));
  };
  mean("queue_us", s.queue);
  mean("compute_input_us", s.compute_input);
  mean("compute_infer_us", s.compute_infer);
  mean("compute_output_us", s.compute_output);
  json.Key("batches").BeginObject();
  for (const auto& [size, batch] : s.batches)
    json.Key(std::to_string(size)).Number(batch.compute_infer.count);
  json.End().End();
}

void LevelJson(JsonWriter& json, const PerfReport& report, const PerfLevel& level) {
  const LoadResult& r = level.run.total;
  json.BeginObject().Key(KindName(report.kind)).Double(level.asked);
  json.Key("answers_per_s").Double(Throughput(r));
  json.Key("items_per_s").Double(Throughput(r) * double(report.batch));
  LatencyJson(json, "latency_us", r.latency);
  if (IsOpen(report)) {
    LatencyJson(json, "latency_from_sent_us", r.from_sent);
    LatencyJson(json, "send_lag_us", r.lag);
    json.Key("not_sent").Number(r.not_sent);
  }
  json.Key("sent").Number(r.sent).Key("answered").Number(r.answered);
  json.Key("failed").Number(r.failed).Key("wrong").Number(r.wrong);
  json.Key("errors").BeginObject();
  for (const auto& [text, count] : r.errors) json.Key(text).Number(count);
  json.End().Key("seconds").Double(r.seconds).Key("stable").Bool(level.run.stable);
  json.Key("client_cpu_us").Double(ClientCpu(level));
  if (const auto cpu = ServerCpu(level)) json.Key("server_cpu_us").Double(*cpu);
  if (level.server) ServerJson(json, *level.server);
  json.Key("windows").BeginArray();
  for (const LoadResult& w : level.run.all) {
    json.BeginObject().Key("answers_per_s").Double(Throughput(w));
    json.Key("p99_us").Double(Micros(w.latency.Percentile(99))).End();
  }
  json.End().End();
}

}  // namespace

std::string PerfText(const PerfReport& report) {
  std::string text = fmt::format("{} at {}: ", report.model, report.url);
  text += fmt::format("{} different request{} in turn, {} of tensors each{}\n", report.payloads,
                      report.payloads == 1 ? "" : "s", HumanBytes(int64_t(report.tensor_bytes)),
                      report.shared_memory ? ", in shared memory" : "");
  if (report.batch > 1) text += fmt::format("a request holds {} items\n", report.batch);
  return text + LoadTable(report) + ServerTable(report) + ErrorLines(report) + Remarks(report);
}

std::string PerfJson(const PerfReport& report) {
  JsonWriter json;
  json.BeginObject().Key("url").String(report.url).Key("model").String(report.model);
  json.Key("load").String(IsOpen(report) ? "open loop" : "closed loop");
  if (!report.arrival.empty()) json.Key("arrival").String(report.arrival);
  json.Key("shared_memory").Bool(report.shared_memory).Key("batch").Int(report.batch);
  json.Key("payloads").Number(report.payloads).Key("tensor_bytes").Number(report.tensor_bytes);
  json.Key("checked").Bool(report.checked).Key("rounded").Number(report.rounded);
  json.Key("percentile_error").Double(Histogram::kErrorBound);
  json.Key("levels").BeginArray();
  for (const PerfLevel& level : report.levels) LevelJson(json, report, level);
  return json.End().End().Take() + "\n";
}

std::string PerfCsv(const PerfReport& report) {
  std::string csv = fmt::format("{},answers_per_s", KindName(report.kind));
  for (const Percentile& p : kPercentiles) csv += fmt::format(",{}_us", p.name);
  csv +=
      ",max_us,sent_p50_us,sent_p99_us,failed,wrong,not_sent,client_cpu_us,server_cpu_us,stable\n";
  for (const PerfLevel& level : report.levels) {
    const LoadResult& r = level.run.total;
    const Histogram& sent = IsOpen(report) ? r.from_sent : r.latency;
    csv += fmt::format("{:g},{:.1f}", level.asked, Throughput(r));
    for (const Percentile& p : kPercentiles)
      csv += fmt::format(",{:.1f}", Micros(r.latency.Percentile(p.percent)));
    const auto cpu = ServerCpu(level);
    csv += fmt::format(",{:.1f},{:.1f},{:.1f},{},{},{},{:.2f},{},{}\n", Micros(r.latency.max()),
                       Micros(sent.Percentile(50)), Micros(sent.Percentile(99)), r.failed, r.wrong,
                       r.not_sent, ClientCpu(level), cpu ? fmt::format("{:.2f}", *cpu) : "",
                       level.run.stable ? 1 : 0);
  }
  return csv;
}

}  // namespace dunlin::cli
