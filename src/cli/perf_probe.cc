#include "cli/perf_probe.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "cli/files.h"
#include "http/client.h"

namespace dunlin::cli {

Result<double> ProcessCpuSeconds(int pid) {
  const auto text = ReadText(fmt::format("/proc/{}/stat", pid));
  if (!text) return Fail(Code::kNotFound, "no process has the number {}", pid);
  // The second field is a name in brackets that may hold anything; utime and stime are fields 14
  // and 15.
  const size_t bracket = text->rfind(')');
  std::string_view rest = *text;
  rest.remove_prefix(bracket == std::string::npos ? rest.size() : bracket + 1);
  double ticks = 0;
  for (int field = 3; field <= 15; ++field) {
    rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
    const std::string_view word = rest.substr(0, rest.find(' '));
    rest.remove_prefix(word.size());
    uint64_t value = 0;
    std::from_chars(word.data(), word.data() + word.size(), value);
    if (field >= 14) ticks += double(value);
  }
  return ticks / double(::sysconf(_SC_CLK_TCK));
}

std::optional<double> MetricValue(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    if (!line.starts_with(name) || line.substr(name.size(), 1) != " ") continue;
    line.remove_prefix(name.size() + 1);
    double value = 0;
    if (std::from_chars(line.data(), line.data() + line.size(), value).ec == std::errc{})
      return value;
  }
  return std::nullopt;
}

namespace {

void Subtract(serve::DurationStat& from, const serve::DurationStat& what) {
  from.count -= std::min(from.count, what.count);
  from.ns -= std::min(from.ns, what.ns);
}

}  // namespace

serve::ModelStatistics Difference(const serve::ModelStatistics& later,
                                  const serve::ModelStatistics& earlier) {
  serve::ModelStatistics d = later;
  d.inference_count -= std::min(d.inference_count, earlier.inference_count);
  d.execution_count -= std::min(d.execution_count, earlier.execution_count);
  Subtract(d.success, earlier.success);
  Subtract(d.fail, earlier.fail);
  Subtract(d.queue, earlier.queue);
  Subtract(d.compute_input, earlier.compute_input);
  Subtract(d.compute_infer, earlier.compute_infer);
  Subtract(d.compute_output, earlier.compute_output);
  for (const auto& [size, batch] : earlier.batches) {
    serve::BatchStat& to = d.batches[size];
    Subtract(to.compute_input, batch.compute_input);
    Subtract(to.compute_infer, batch.compute_infer);
    Subtract(to.compute_output, batch.compute_output);
  }
  std::erase_if(d.batches, [](const auto& b) { return b.second.compute_infer.count == 0; });
  return d;
}

Result<std::unique_ptr<Probe>> Probe::Start(const ProbeOptions& options) {
  std::unique_ptr<Probe> probe(new Probe(options, TRY(Remote::Connect(options.server))));
  if (options.pid > 0 || !options.metrics_url.empty()) TRY(probe->CpuSeconds());
  probe->thread_ = std::jthread([p = probe.get()] { p->Work(); });
  return probe;
}

Probe::~Probe() {
  const std::scoped_lock lock(mutex_);
  stopping_ = true;
  changed_.notify_all();
}

void Probe::Sample() {
  const std::scoped_lock lock(mutex_);
  ++wanted_;
  changed_.notify_all();
}

std::vector<ProbeSample> Probe::Samples() {
  std::unique_lock lock(mutex_);
  changed_.wait(lock, [this] { return samples_.size() == wanted_; });
  return samples_;
}

void Probe::Work() {
  std::unique_lock lock(mutex_);
  for (;;) {
    changed_.wait(lock, [this] { return stopping_ || samples_.size() < wanted_; });
    if (stopping_) return;
    lock.unlock();
    ProbeSample sample = Take();
    lock.lock();
    samples_.push_back(std::move(sample));
    changed_.notify_all();
  }
}

ProbeSample Probe::Take() {
  ProbeSample sample;
  if (auto cpu = CpuSeconds()) sample.cpu_seconds = *cpu;
  if (auto statistics = remote_->Statistics(options_.model, options_.version))
    sample.statistics = std::move(*statistics);
  return sample;
}

Result<double> Probe::CpuSeconds() const {
  if (options_.pid > 0) return ProcessCpuSeconds(options_.pid);
  if (options_.metrics_url.empty()) return Fail(Code::kNotFound, "nobody was named");
  // The URL's path goes to the server as it stands.
  std::string base = options_.metrics_url, path = "/metrics";
  const size_t scheme = base.find("://");
  const size_t slash = base.find('/', scheme == std::string::npos ? 0 : scheme + 3);
  if (slash != std::string::npos) {
    path = base.substr(slash);
    base.resize(slash);
  }
  http::Client client = TRY(http::Client::Connect(base, {.tls = options_.server.tls}));
  const std::string text = TRY(client.Get(path));
  const auto value = MetricValue(text, "process_cpu_seconds_total");
  if (!value)
    return Fail(Code::kNotFound, "{} has no process_cpu_seconds_total", options_.metrics_url);
  return *value;
}

}  // namespace dunlin::cli
