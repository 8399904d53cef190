// dunlin.BatchScan: the Scan of opset 8, which runs its body for every item of a batch by itself.
// Inputs: lengths [B] (optional, i64), states [B, …], scanned inputs [B, T, …]. Item b takes the
// first lengths[b] of its T slices; scanned outputs [B, T, …] are zero behind them.
#include "ops/control/control.h"

namespace dunlin::control {
namespace {

struct Roles {
  int first_state = 1, first_scan = 1, inputs = 1;
  int states() const { return first_scan - first_state; }
};

Result<Roles> RolesOf(const BatchScan::Attrs& a, int inputs) {
  if (a.num_scan_inputs < 1 || a.num_scan_inputs > inputs - 1)
    return Fail(Code::kInvalidArgument, "num_scan_inputs is {} where there are {} inputs",
                a.num_scan_inputs, inputs);
  return Roles{1, inputs - int(a.num_scan_inputs), inputs};
}

bool Backwards(const BatchScan::Attrs& a, int scan) {
  return size_t(scan) < a.directions.size() && a.directions[size_t(scan)] != 0;
}

// Takes `leading` extents off the front of t and merges them with those seen before.
Status TakeLeading(Type& t, std::span<int64_t> leading) {
  if (!t.ranked) return {};
  if (t.dims.size() < leading.size())
    return Fail(Code::kInvalidArgument, "a value {} has no {} extents", ToString(t),
                leading.size());
  for (int64_t& seen : leading) {
    const int64_t extent = t.dims[0];
    if (IsKnown(seen) && IsKnown(extent) && seen != extent)
      return Fail(Code::kInvalidArgument, "batches or sequences of {} and {}", seen, extent);
    if (!IsKnown(seen)) seen = extent;
    t.dims.erase(size_t(0));
  }
  return {};
}

// What all iterations of all items gave for one scanned output, as [B, steps, …].
Result<Tensor> StackPadded(const std::vector<std::vector<Tensor>>& items, int64_t steps) {
  const Tensor* sample = nullptr;
  for (const auto& item : items)
    if (!item.empty()) sample = &item[0];
  if (sample == nullptr) return Fail(Code::kInvalidArgument, "no item of the batch has any step");
  const Tensor zero = TRY(Tensor::Zeros(sample->dtype(), sample->dims()));
  std::vector<Tensor> rows;
  for (const auto& item : items) {
    std::vector<Tensor> padded = item;
    padded.resize(size_t(steps), zero);
    rows.push_back(TRY(Stack(padded, 0, false)));
  }
  return Stack(rows, 0, false);
}

}  // namespace

Status BatchScan::Infer(const Attrs& a, InferContext& ctx) {
  const Roles roles = TRY(RolesOf(a, ctx.input_count()));
  int64_t leading[2] = {kUnknownDim, kUnknownDim};  // of the batch, of time
  std::vector<Type> formal;
  for (int i = roles.first_state; i < roles.inputs; ++i) {
    if (!ctx.has(i)) return Fail(Code::kInvalidArgument, "input {} is absent", i);
    Type t = ctx.input(i);
    TRY(NeedTensor(t, "an input"));
    TRY(TakeLeading(t, std::span(leading, i < roles.first_scan ? 1 : 2)));
    formal.push_back(std::move(t));
  }
  const auto states = size_t(roles.states());
  const auto body = TRY(InferBody(ctx, formal, 0, states, 0));
  if (ctx.output_count() > int(body.size()))
    return Fail(Code::kInvalidArgument, "body has {} outputs instead of {}", body.size(),
                ctx.output_count());
  for (size_t o = 0; o < size_t(ctx.output_count()); ++o) {
    Type t = o < states ? formal[o] : body[o];
    TRY(NeedTensor(t, "an output"));
    if (t.ranked && o >= states) t.dims.insert(size_t(0), leading[1]);
    if (t.ranked) t.dims.insert(size_t(0), leading[0]);
    ctx.Set(int(o), t);
  }
  return {};
}

Status BatchScan::Reference(const Attrs& a, RunContext& ctx) {
  const Roles roles = TRY(RolesOf(a, ctx.input_count()));
  const int states = roles.states(), outputs = ctx.output_count();
  const TensorView& first = ctx.in(roles.first_scan);
  if (first.rank() < 2)
    return Fail(Code::kInvalidArgument, "a scanned input {} is not [batch, time, …]",
                ToString(first.dims));
  const int64_t batch = first.dims[0], steps = first.dims[1];
  // Extents of empty tensors can be beyond all memory.
  constexpr int64_t kMaxItems = int64_t{1} << 24;
  if (batch < 1 || steps < 1 || batch > kMaxItems / steps)
    return Fail(Code::kInvalidArgument, "a batch of {} with {} steps of time", batch, steps);
  for (int i = roles.first_state; i < roles.inputs; ++i) {
    const Dims& d = ctx.in(i).dims;
    const bool scan = i >= roles.first_scan;
    if (d.rank() < (scan ? 2 : 1) || d[0] != batch || (scan && d[1] != steps))
      return Fail(Code::kInvalidArgument, "input {} has extents {}, the batch is {}, time {}", i,
                  ToString(d), batch, steps);
  }
  std::vector<int64_t> lengths(size_t(batch), steps);
  if (ctx.has(0)) {
    const Tensor given = TRY(ctx.TakeInput(0));
    lengths = TRY(ToInts(given));
  }
  if (int64_t(lengths.size()) != batch)
    return Fail(Code::kInvalidArgument, "{} lengths for a batch of {}", lengths.size(), batch);
  // Of each output, of each item: the final state, or the slices.
  std::vector<std::vector<Tensor>> finals(static_cast<size_t>(states));
  std::vector<std::vector<std::vector<Tensor>>> scans(
      size_t(std::max(0, outputs - states)), std::vector<std::vector<Tensor>>(size_t(batch)));
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t length = lengths[size_t(b)];
    if (length < 0 || length > steps)
      return Fail(Code::kInvalidArgument, "a sequence of {} in {} steps of time", length, steps);
    std::vector<RunValue> state;
    for (int i = roles.first_state; i < roles.first_scan; ++i)
      state.push_back({TRY(SliceAt(ctx.in(i), 0, b)), nullptr});
    for (int64_t t = 0; t < length; ++t) {
      std::vector<RunValue> formal = std::move(state);
      for (int i = roles.first_scan; i < roles.inputs; ++i) {
        const Tensor item = TRY(SliceAt(ctx.in(i), 0, b));
        const int64_t at = Backwards(a, i - roles.first_scan) ? length - 1 - t : t;
        formal.push_back({TRY(SliceAt(item.view(), 0, at)), nullptr});
      }
      auto out = TRY(ctx.subgraph(0)->Run(std::move(formal)));
      if (int(out.size()) < std::max(states, outputs))
        return Fail(Code::kInvalidArgument, "body gave {} outputs instead of {}", out.size(),
                    std::max(states, outputs));
      state.assign(std::make_move_iterator(out.begin()),
                   std::make_move_iterator(out.begin() + states));
      for (int o = states; o < outputs; ++o)
        scans[size_t(o - states)][size_t(b)].push_back(
            TRY(NeedTensor(std::move(out[size_t(o)]), "a scan output")));
    }
    for (int s = 0; s < states; ++s)
      finals[size_t(s)].push_back(TRY(NeedTensor(std::move(state[size_t(s)]), "a state")));
  }
  for (int o = 0; o < outputs; ++o) {
    if (!ctx.wants(o)) continue;
    auto whole = o < states ? Stack(finals[size_t(o)], 0, false)
                            : StackPadded(scans[size_t(o - states)], steps);
    if (!whole) return Fail(whole.error());
    TRY(ctx.SetOutput(o, std::move(*whole)));
  }
  return {};
}

}  // namespace dunlin::control
