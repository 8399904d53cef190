#include "serve/trace.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <limits>
#include <random>

#include "base/json_writer.h"
#include "serve/datatype.h"

namespace dunlin::serve {
namespace {

constexpr std::string_view kPointNames[kTracePoints] = {
    "HTTP_RECV_START",      "HTTP_RECV_END", "GRPC_WAITREAD_START",     "GRPC_WAITREAD_END",
    "REQUEST_START",        "QUEUE_START",   "COMPUTE_START",           "COMPUTE_INPUT_END",
    "COMPUTE_OUTPUT_START", "COMPUTE_END",   "INFER_RESPONSE_COMPLETE", "REQUEST_END",
    "HTTP_SEND_START",      "HTTP_SEND_END", "GRPC_SEND_START",         "GRPC_SEND_END"};
constexpr std::string_view kTensorNames[] = {"TENSOR_QUEUE_INPUT", "TENSOR_BACKEND_INPUT",
                                             "TENSOR_BACKEND_OUTPUT"};

// Text of tensors: per tensor, per trace, and of all traces that wait to be written.
constexpr size_t kMaxTensorText = 1 << 20;
constexpr size_t kMaxTraceText = 4 << 20;
constexpr size_t kMaxQueuedText = 64 << 20;

template <size_t N>
void FillRandom(std::array<uint8_t, N>& bytes) {
  // Unique, not secret.
  thread_local std::mt19937_64 random{[] {
    std::random_device device;
    return (uint64_t(device()) << 32) ^ device();
  }()};
  for (size_t i = 0; i < N; i += 8) {
    const uint64_t word = random() | 1;  // never all zero, which would mean none
    std::memcpy(bytes.data() + i, &word, 8);
  }
}

template <size_t N>
bool ParseHex(std::string_view text, std::array<uint8_t, N>& bytes) {
  for (size_t i = 0; i < N; ++i) {
    for (const char c : text.substr(2 * i, 2))  // lower case only, says the specification
      if (!(c >= '0' && c <= '9') && !(c >= 'a' && c <= 'f')) return false;
    std::from_chars(text.data() + 2 * i, text.data() + 2 * i + 2, bytes[i], 16);
  }
  return true;
}

template <class T>
void AppendNumbers(std::string& out, const Tensor& t) {
  for (const T v : t.values<T>()) {
    if (out.size() > kMaxTensorText) return;
    fmt::format_to(std::back_inserter(out), "{},", v);
  }
}

// Comma-separated values; cut at the limit.
std::string ValueText(const Tensor& whole) {
  std::string out;
  // A value and its comma are two characters at least.
  constexpr int64_t kMaxCount = kMaxTensorText / 2 + 1;
  const Tensor t = whole.count() <= kMaxCount
                       ? whole
                       : Tensor::Over(whole.dtype(), {kMaxCount}, whole.buffer(), whole.offset());
  switch (t.dtype()) {
    case DType::kF32:
      AppendNumbers<float>(out, t);
      break;
    case DType::kF64:
      AppendNumbers<double>(out, t);
      break;
    case DType::kString:
      for (const std::string& s : t.values<std::string>()) {
        if (out.size() > kMaxTensorText) break;
        out.append(s, 0, kMaxTensorText).append(",");
      }
      break;
    default:
      if (IsFloat(t.dtype())) {
        if (auto f = Convert(t, DType::kF32)) AppendNumbers<float>(out, *f);
      } else if (t.dtype() == DType::kU64) {
        AppendNumbers<uint64_t>(out, t);
      } else if (auto ints = ToInts(t)) {
        for (const int64_t v : *ints) {
          if (out.size() > kMaxTensorText) break;
          fmt::format_to(std::back_inserter(out), "{},", v);
        }
      }
  }
  if (!out.empty()) out.pop_back();
  return out;
}

Result<int64_t> SettingNumber(const std::string& key, const std::vector<std::string>& values,
                              int64_t least, int64_t most) {
  const std::string& text = values[0];
  int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (values.size() != 1 || text.empty() || end != text.data() + text.size())
    return Fail(Code::kInvalidArgument, "Unable to parse '{}', got: {}", key, text);
  if (error != std::errc() || value < least || value > most)
    return Fail(Code::kInvalidArgument,
                "Unable to parse '{}', value is out of range [ {}, {} ], got: {}", key, least, most,
                text);
  return value;
}

}  // namespace

std::string_view TracePointName(TracePoint point) { return kPointNames[size_t(point)]; }

std::optional<TraceParent> ParseTraceParent(std::string_view header) {
  // version-traceid-span-flags; later versions may go on after another '-'.
  if (header.size() < 55 || header[2] != '-' || header[35] != '-' || header[52] != '-') return {};
  std::array<uint8_t, 1> version{}, flags{};
  TraceParent parent{};
  if (!ParseHex(header, version) || !ParseHex(header.substr(3), parent.trace_id) ||
      !ParseHex(header.substr(36), parent.span) || !ParseHex(header.substr(53), flags))
    return {};
  if (version[0] == 0xff || (version[0] == 0 && header.size() != 55) ||
      (header.size() > 55 && header[55] != '-'))
    return {};
  const auto zero = [](uint8_t b) { return b == 0; };
  if (std::all_of(parent.trace_id.begin(), parent.trace_id.end(), zero) ||
      std::all_of(parent.span.begin(), parent.span.end(), zero))
    return {};
  parent.sampled = (flags[0] & 1) != 0;
  return parent;
}

// ---------------------------------------------------------------------------------------- Trace

Trace::~Trace() {
  for (size_t i = 0; i < kTracePoints; ++i) record_.ns[i] = ns_[i].load(std::memory_order_relaxed);
  tracer_.Finish(std::move(record_));
}

void Trace::Note(TraceTensor what, const NamedTensor& tensor) {
  if (!wants_tensors_ || record_.tensors.size() > kMaxTraceText) return;
  std::string shape;
  for (const int64_t d : tensor.tensor.dims()) shape += fmt::format("{},", d);
  if (!shape.empty()) shape.pop_back();
  std::string data = ValueText(tensor.tensor);
  const bool cut = data.size() >= kMaxTensorText;
  if (cut) data.resize(std::min(data.rfind(',', kMaxTensorText), kMaxTensorText));
  JsonWriter json;
  json.BeginObject().Key("id").Number(record_.id);
  json.Key("activity").String(kTensorNames[size_t(what)]);
  json.Key("tensor").BeginObject();
  json.Key("name").String(tensor.name).Key("data").String(data);
  if (cut) json.Key("truncated").Bool(true);
  json.Key("shape").String(shape).Key("dtype").String(ProtocolName(tensor.tensor.dtype()));
  json.End().End();
  record_.tensors += json.Take() + ',';
}

std::shared_ptr<Trace> Trace::Child(const std::string& model, int64_t version) const {
  std::shared_ptr<Trace> child(new Trace(tracer_, wants_tensors_));
  TraceRecord& r = child->record_;
  r.id = tracer_.next_id_.fetch_add(1, std::memory_order_relaxed);
  r.parent_id = record_.id;
  r.model = model;
  r.version = version;
  r.request_id = record_.request_id;
  r.trace_id = record_.trace_id;
  r.parent_span = record_.request_span;
  FillRandom(r.request_span);
  r.group = record_.group;
  r.log_frequency = record_.log_frequency;
  r.timestamps = record_.timestamps;
  return child;
}

std::string Trace::trace_id() const {
  std::string hex;
  for (const uint8_t b : record_.trace_id) hex += fmt::format("{:02x}", b);
  return hex;
}

// -------------------------------------------------------------------------------------- settings

namespace {
// What one level of the tree (command line, global, model) says itself.
struct Overrides {
  std::optional<uint8_t> level;
  std::optional<uint32_t> rate;
  std::optional<int64_t> count;
  std::optional<uint32_t> log_frequency;
  bool empty() const { return !level && !rate && !count && !log_frequency; }
};
}  // namespace

struct Tracer::Setting {
  Setting(const Overrides& o, const TraceValues& base, uint64_t g)
      : own(o),
        level(o.level.value_or(base.level)),
        rate(o.rate.value_or(base.rate)),
        log_frequency(o.log_frequency.value_or(base.log_frequency)),
        group(g),
        left(o.count.value_or(base.count)) {}

  TraceValues values() const { return {level, rate, left.load(), log_frequency}; }
  bool Take(bool forced) {
    if (!forced && seen.fetch_add(1, std::memory_order_relaxed) % rate != rate - 1) return false;
    int64_t n = left.load(std::memory_order_relaxed);
    while (n > 0 && !left.compare_exchange_weak(n, n - 1, std::memory_order_relaxed)) {
    }
    return n != 0;
  }

  const Overrides own;
  const uint8_t level;
  const uint32_t rate, log_frequency;
  const uint64_t group;
  std::atomic<int64_t> left;
  std::atomic<uint64_t> seen{0};
};

Tracer::Tracer(TraceOptions options, std::unique_ptr<TraceSink> sink)
    : options_(std::move(options)), sink_(std::move(sink)) {
  global_ = std::make_shared<Setting>(Overrides{}, options_.values, next_group_++);
  active_ = sink_ != nullptr && global_->level != 0;
}

std::shared_ptr<Tracer::Setting> Tracer::SettingFor(const std::string& model) const {
  const std::lock_guard lock(mutex_);
  const auto it = models_.find(model);
  return it == models_.end() ? global_ : it->second;
}

Tracer::Settings Tracer::Get(const std::string& model) const {
  const TraceValues v = SettingFor(model)->values();
  Settings s = {{"trace_level", TraceLevelNames(v.level)},
                {"trace_rate", {std::to_string(v.rate)}},
                {"trace_count", {std::to_string(v.count)}}};
  if (options_.mode == TraceMode::kTriton) {
    s.push_back({"log_frequency", {std::to_string(v.log_frequency)}});
    s.push_back({"trace_file", {options_.file}});
    s.push_back({"trace_mode", {"triton"}});
  } else {
    s.push_back({"trace_mode", {"opentelemetry"}});
    s.push_back({"url", {options_.url}});
    s.push_back({"bsp_max_queue_size", {std::to_string(options_.max_queue_size)}});
    s.push_back({"bsp_max_export_batch_size", {std::to_string(options_.max_export_batch_size)}});
    s.push_back({"bsp_schedule_delay", {std::to_string(options_.schedule_delay.count())}});
  }
  return s;
}

Status Tracer::Check(const TraceValues& v) const {
  std::string_view reason;
  if (v.level != 0 && v.rate == 0) reason = "sample rate must be non-zero";
  if (v.level != 0 && options_.mode == TraceMode::kTriton && options_.file.empty())
    reason = "trace file name is not given";
  if (reason.empty()) return {};
  return Fail(Code::kInvalidArgument, "Attempting to set invalid trace setting :{}", reason);
}

namespace {
Status Apply(const std::pair<std::string, std::vector<std::string>>& change, Overrides& own) {
  const auto& [key, values] = change;
  const bool clear = values.empty();
  constexpr int64_t kMax32 = std::numeric_limits<int32_t>::max();
  constexpr int64_t kMaxU32 = std::numeric_limits<uint32_t>::max();
  if (key == "trace_file")
    return Fail(Code::kUnimplemented,
                "trace file location can not be updated through network protocol");
  if (key == "trace_level") {
    own.level.reset();
    if (!clear) own.level = TRY(ParseTraceLevel(values));
  } else if (key == "trace_rate") {
    own.rate.reset();
    if (!clear) own.rate = uint32_t(TRY(SettingNumber(key, values, 0, kMaxU32)));
  } else if (key == "trace_count") {
    own.count.reset();
    if (!clear) own.count = TRY(SettingNumber(key, values, -1, kMax32));
  } else if (key == "log_frequency") {
    own.log_frequency.reset();
    if (!clear) own.log_frequency = uint32_t(TRY(SettingNumber(key, values, 0, kMaxU32)));
  } else {
    return Fail(Code::kInvalidArgument, "unknown trace setting '{}'", key);
  }
  return {};
}
}  // namespace

Status Tracer::Update(const std::string& model, const Settings& changes) {
  const std::lock_guard lock(mutex_);
  const auto old = models_.find(model);
  const bool global = model.empty();
  Overrides own = global ? global_->own : old == models_.end() ? Overrides{} : old->second->own;
  // What has been used of a count stays used, unless the count is set anew.
  if (own.count) own.count = global ? global_->left.load() : old->second->left.load();
  for (const auto& change : changes) TRY(Apply(change, own));
  const auto base = global ? options_.values : global_->values();
  auto setting = std::make_shared<Setting>(own, base, next_group_++);
  TRY(Check(setting->values()));
  if (global) {
    global_ = std::move(setting);
    for (auto& [name, s] : models_) {
      Overrides o = s->own;
      if (o.count) o.count = s->left.load();
      s = std::make_shared<Setting>(o, global_->values(), next_group_++);
    }
  } else if (own.empty()) {
    models_.erase(model);
  } else {
    models_[model] = std::move(setting);
  }
  bool active = global_->level != 0;
  for (const auto& [name, s] : models_) active = active || s->level != 0;
  active_ = active && sink_ != nullptr;
  return {};
}

// ----------------------------------------------------------------------------------- collection

std::shared_ptr<Trace> Tracer::Sample(const Request& request) {
  const std::shared_ptr<Setting> setting = SettingFor(request.model);
  if (setting->level == 0 || setting->rate == 0) return nullptr;
  std::optional<TraceParent> parent;
  if (options_.mode == TraceMode::kOpenTelemetry && !request.traceparent.empty())
    parent = ParseTraceParent(request.traceparent);
  // Whoever began the trace has decided for all who take part.
  if (parent && !parent->sampled) return nullptr;
  if (!setting->Take(parent.has_value())) return nullptr;
  const bool tensors = options_.mode == TraceMode::kTriton && (setting->level & kTraceTensors) != 0;
  std::shared_ptr<Trace> trace(new Trace(*this, tensors));
  TraceRecord& r = trace->record_;
  r.id = next_id_.fetch_add(1, std::memory_order_relaxed);
  r.model = request.model;
  r.version = request.version;
  r.request_id = request.id;
  r.group = setting->group;
  r.log_frequency = setting->log_frequency;
  r.timestamps = (setting->level & kTraceTimestamps) != 0;
  FillRandom(r.request_span);
  if (parent) {
    r.trace_id = parent->trace_id;
    r.parent_span = parent->span;
  } else {
    FillRandom(r.trace_id);
  }
  return trace;
}

void Tracer::Finish(TraceRecord record) {
  bool wake = false;
  {
    const std::lock_guard lock(queue_mutex_);
    const size_t text = record.tensors.size();
    if (queue_.size() >= options_.max_queue_size || queued_bytes_ + text > kMaxQueuedText) {
      dropped_.fetch_add(1, std::memory_order_relaxed);
      return;
    }
    queued_bytes_ += text;
    queue_.push_back(std::move(record));
    wake = queue_.size() == options_.max_export_batch_size;
    if (!started_) thread_ = std::thread([this] { Loop(); });
    started_ = true;
  }
  if (wake) wake_.notify_one();
}

void Tracer::Loop() {
  std::unique_lock lock(queue_mutex_);
  const auto due = [this] { return stopping_ || queue_.size() >= options_.max_export_batch_size; };
  while (!stopping_ || !queue_.empty()) {
    wake_.wait_for(lock, options_.schedule_delay, due);
    if (queue_.empty()) continue;
    std::vector<TraceRecord> records(std::make_move_iterator(queue_.begin()),
                                     std::make_move_iterator(queue_.end()));
    queue_.clear();
    queued_bytes_ = 0;
    lock.unlock();
    sink_->Write(std::move(records));
    lock.lock();
  }
}

Tracer::~Tracer() {
  {
    const std::lock_guard lock(queue_mutex_);
    stopping_ = true;
  }
  wake_.notify_one();
  if (thread_.joinable()) thread_.join();
}

uint64_t Tracer::dropped() const {
  return dropped_.load(std::memory_order_relaxed) + (sink_ ? sink_->dropped() : 0);
}

}  // namespace dunlin::serve
