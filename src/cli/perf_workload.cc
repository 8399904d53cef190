#include "cli/perf_workload.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <random>

namespace dunlin::cli {
namespace {

constexpr int kPayloads = 16;       // so that caches of answers do not answer everything
constexpr int kRangePayloads = 64;  // and that lengths are spread as drawn
constexpr uint64_t kPayloadBytes = uint64_t{256} << 20;  // all together

// "8-128" → (8, 128)
std::optional<std::pair<int64_t, int64_t>> RangeOf(std::string_view text) {
  int64_t low = 0, high = 0;
  const size_t dash = text.find('-', 1);
  if (dash == std::string_view::npos) return std::nullopt;
  const char* middle = text.data() + dash;
  const char* end = text.data() + text.size();
  const auto a = std::from_chars(text.data(), middle, low);
  const auto b = std::from_chars(middle + 1, end, high);
  if (a.ec != std::errc{} || b.ec != std::errc{} || a.ptr != middle || b.ptr != end || low < 0)
    return std::nullopt;
  return std::pair{low, high};
}

// The extents' part of "NAME=1,8-128".
size_t ExtentsAt(const std::string& shape) {
  const size_t equals = shape.rfind('=');
  return equals == std::string::npos ? 0 : equals + 1;
}

bool SameTensor(const Tensor& a, const Tensor& b, double tolerance) {
  if (!a.defined() || !b.defined()) return a.defined() == b.defined();
  const auto same = VisitDType(a.dtype(), "output", [&]<class T>(TypeTag<T>) -> Status {
    bool equal = true;
    const T* x = a.as<T>();
    const T* y = b.as<T>();
    for (int64_t i = 0; i < a.count() && equal; ++i) {
      if constexpr (kIsFloat<T>) {
        const double p = double(float(x[i])), q = double(float(y[i]));
        equal = std::abs(p - q) <= tolerance * std::max(1.0, std::abs(q)) || p == q ||
                (std::isnan(p) && std::isnan(q));
      } else {
        equal = x[i] == y[i];
      }
    }
    if (!equal) return Fail(Code::kInternal, "different");
    return {};
  });
  return same.has_value();
}

}  // namespace

bool HasRange(const std::string& shape) {
  return shape.find('-', ExtentsAt(shape)) != std::string::npos;
}

Result<std::string> DrawShape(const std::string& shape, uint64_t draw) {
  const size_t begin = ExtentsAt(shape);
  std::string out = shape.substr(0, begin);
  for (size_t at = begin; at <= shape.size();) {
    const size_t end = std::min(shape.find(',', at), shape.size());
    const std::string extent = shape.substr(at, end - at);
    if (at > begin) out += ',';
    at = end + 1;
    if (extent.find('-') == std::string::npos) {
      out += extent;
      continue;
    }
    const auto range = RangeOf(extent);
    if (!range || range->first > range->second)
      return Fail(Code::kInvalidArgument, "--shape {}: '{}' is no range such as 8-128", shape,
                  extent);
    std::seed_seq seed{uint32_t(draw), uint32_t(draw >> 32), uint32_t(range->first),
                       uint32_t(range->second)};
    std::mt19937_64 random(seed);
    const auto span = uint64_t(range->second - range->first) + 1;
    out += std::to_string(range->first + int64_t(random() % span));
  }
  return out;
}

bool SameResults(const std::vector<serve::CallResult>& a, const std::vector<serve::CallResult>& b,
                 double tolerance) {
  return std::ranges::equal(a, b, [&](const serve::CallResult& x, const serve::CallResult& y) {
    return x.name == y.name && x.dtype == y.dtype && x.dims == y.dims &&
           SameTensor(x.tensor, y.tensor, tolerance);
  });
}

Result<std::unique_ptr<PerfWorkload>> PerfWorkload::Create(Remote& remote,
                                                           const WorkloadOptions& options,
                                                           bool& input_failed) {
  std::unique_ptr<PerfWorkload> work(new PerfWorkload(remote, options));
  const serve::RemoteModel model = TRY(remote.Metadata(options.model, options.version));
  TRY(work->MakeCalls(model, input_failed));
  if (options.shared_memory) {
    TRY(work->MakeShared(model));
  } else {
    for (const serve::InferCall& call : work->calls_)
      work->requests_.push_back(TRY(remote.Request(call)));
  }
  work->first_.resize(work->calls_.size());
  work->first_outputs_.resize(work->calls_.size());
  work->slot_payload_.resize(options.slots);
  for (uint32_t slot = 0; slot < options.slots; ++slot)
    work->slot_payload_[slot] = slot % uint32_t(work->calls_.size());
  return work;
}

Status PerfWorkload::MakeCalls(const serve::RemoteModel& model, bool& input_failed) {
  const bool ranges = std::ranges::any_of(options_.inputs.shapes, HasRange);
  const bool fixed =
      options_.inputs.files.size() + options_.inputs.fills.size() >= model.inputs.size();
  int count = options_.payloads;
  if (count == 0) count = ranges ? kRangePayloads : fixed ? 1 : kPayloads;
  uint64_t bytes = 0;
  for (int i = 0; i < count && bytes < kPayloadBytes; ++i) {
    input_failed = true;
    InputOptions drawn = options_.inputs;
    drawn.seed += uint64_t(i);
    for (std::string& shape : drawn.shapes)
      if (HasRange(shape)) shape = TRY(DrawShape(shape, drawn.seed));
    const Inputs inputs = TRY(MakeInputs(model.inputs, drawn));
    if (i == 0) notes_ = inputs.notes;
    serve::InferCall call;
    call.model = options_.model;
    call.version = options_.version;
    call.parameters = options_.parameters;
    for (const std::string& name : options_.wanted) call.outputs.push_back({name, 0, {}});
    for (const NamedTensor& t : inputs.tensors) {
      bytes += StoredBytes(t.tensor);
      call.inputs.push_back({t.name, t.tensor, {}});
    }
    if (options_.inputs.batch > 0) batch_ = options_.inputs.batch;
    calls_.push_back(std::move(call));
    input_failed = false;
  }
  tensor_bytes_ = bytes / calls_.size();
  return {};
}

Status PerfWorkload::MakeShared(const serve::RemoteModel& model) {
  std::vector<serve::CallOutput> outputs;
  for (const PortInfo& port : model.outputs)
    if (options_.wanted.empty() || std::ranges::count(options_.wanted, port.name) > 0)
      outputs.push_back({port.name, 0, {}});
  // What each answer holds, and so how much room the largest takes.
  std::vector<uint64_t> rooms(outputs.size());
  uint64_t input_bytes = 0;
  for (serve::InferCall& call : calls_) {
    call.outputs = outputs;
    const auto results = TRY(remote_.Infer(call));
    if (results.size() != outputs.size())
      return Fail(Code::kInternal, "the server answers with {} outputs, not with {}",
                  results.size(), outputs.size());
    auto& bytes = expected_.emplace_back();
    for (size_t i = 0; i < outputs.size(); ++i) {
      bytes.emplace_back(StoredBytes(results[i].tensor), '\0');
      StoreTensor(results[i].tensor, reinterpret_cast<std::byte*>(bytes.back().data()));
      rooms[i] = std::max(rooms[i], AlignedUp(bytes.back().size()));
    }
    for (const serve::CallInput& input : call.inputs)
      input_bytes += AlignedUp(StoredBytes(input.tensor));
  }
  for (const uint64_t room : rooms) {
    output_offsets_.push_back(slot_stride_);
    slot_stride_ += room;
  }
  input_region_.emplace(TRY(SharedRegion::Create(remote_, "perf_in", input_bytes)));
  output_region_.emplace(
      TRY(SharedRegion::Create(remote_, "perf_out", slot_stride_ * options_.slots)));
  uint64_t at = 0;
  for (serve::InferCall& call : calls_) {
    for (serve::CallInput& input : call.inputs) {
      const uint64_t bytes = StoreTensor(input.tensor, input_region_->data() + at);
      input.memory = serve::SharedMemoryRange{input_region_->name(), at, bytes};
      at += AlignedUp(bytes);
    }
  }
  for (uint32_t slot = 0; slot < options_.slots; ++slot) {
    serve::InferCall call = calls_[slot % calls_.size()];
    for (size_t i = 0; i < outputs.size(); ++i)
      call.outputs[i].memory = serve::SharedMemoryRange{
          output_region_->name(), slot * slot_stride_ + output_offsets_[i], rooms[i]};
    requests_.push_back(TRY(remote_.Request(call)));
  }
  return {};
}

std::string_view PerfWorkload::Next(uint32_t slot) {
  if (!output_region_) {
    slot_payload_[slot] = next_;
    next_ = next_ + 1 == uint32_t(requests_.size()) ? 0 : next_ + 1;
    return requests_[slot_payload_[slot]];
  }
  // An answer that was never written must not look right.
  const auto& expected = expected_[slot_payload_[slot]];
  std::byte* place = output_region_->data() + slot * slot_stride_;
  for (size_t i = 0; options_.check && i < expected.size(); ++i) {
    if (!expected[i].empty())
      place[output_offsets_[i]] = std::byte(static_cast<unsigned char>(~expected[i].front()));
  }
  return requests_[slot];
}

bool PerfWorkload::IsRight(const http::LoadAnswer& answer) {
  if (!options_.check) return true;
  if (output_region_) return IsRightShared(answer);
  const uint32_t payload = slot_payload_[answer.slot];
  std::optional<std::string>& first = first_[payload];
  if (!first) {
    auto outputs = remote_.Outputs(answer);
    if (!outputs) return false;
    first = std::string(answer.body);
    first_outputs_[payload] = std::move(*outputs);
    return true;
  }
  if (*first == answer.body) return true;
  const auto outputs = remote_.Outputs(answer);
  const bool same = outputs && SameResults(*outputs, first_outputs_[payload], options_.tolerance);
  rounded_ += same ? 1 : 0;
  return same;
}

bool PerfWorkload::IsRightShared(const http::LoadAnswer& answer) {
  const uint32_t payload = slot_payload_[answer.slot];
  const auto& expected = expected_[payload];
  const std::byte* place = output_region_->data() + answer.slot * slot_stride_;
  bool equal = true;
  for (size_t i = 0; i < expected.size() && equal; ++i)
    equal = std::memcmp(place + output_offsets_[i], expected[i].data(), expected[i].size()) == 0;
  if (equal) return true;
  auto outputs = remote_.Outputs(answer);
  if (!outputs || outputs->size() != expected.size()) return false;
  std::vector<serve::CallResult> wanted = *outputs;
  for (size_t i = 0; i < expected.size(); ++i) {
    const std::span<const std::byte> got(place + output_offsets_[i],
                                         slot_stride_ - output_offsets_[i]);
    auto mine = LoadTensor((*outputs)[i], got);
    auto theirs = LoadTensor(wanted[i], std::as_bytes(std::span(expected[i])));
    if (!mine || !theirs) return false;
    (*outputs)[i].tensor = std::move(*mine);
    wanted[i].tensor = std::move(*theirs);
  }
  const bool same = SameResults(*outputs, wanted, options_.tolerance);
  rounded_ += same ? 1 : 0;
  return same;
}

std::string PerfWorkload::ErrorText(const http::LoadAnswer& answer) {
  return remote_.ErrorText(answer);
}

}  // namespace dunlin::cli
