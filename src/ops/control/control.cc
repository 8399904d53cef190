#include "ops/control/control.h"

#include <algorithm>

#include "tensor/memory.h"

namespace dunlin {
namespace control {

Status NeedTensor(const Type& t, std::string_view what) {
  if (t.kind == Type::Kind::kTensor) return {};
  return Fail(Code::kInvalidArgument, "{} is {}, not a tensor", what, ToString(t));
}
Result<Tensor> NeedTensor(RunValue v, std::string_view what) {
  if (v.tensor.defined()) return std::move(v.tensor);
  return Fail(Code::kInvalidArgument, "{} is not a tensor", what);
}

Result<std::vector<Type>> InferBody(InferContext& ctx, std::vector<Type>& formal, size_t first,
                                    size_t count, size_t first_out) {
  const std::vector<Type> initial(formal.begin() + long(first),
                                  formal.begin() + long(first + count));
  for (size_t i = 0; i < count; ++i)
    formal[first + i] = Type{initial[i].kind, initial[i].dtype, false, {}, initial[i].key};
  std::vector<Type> out;
  // Round 0 assumes nothing; what it finds holds always, so round 1 may assume it.
  for (int round = 0; round < 2; ++round) {
    out = TRY(ctx.InferSubgraph(0, formal));
    if (out.size() < first_out + count)
      return Fail(Code::kInvalidArgument,
                  "body has {} outputs, fewer than its {} carried values need", out.size(), count);
    for (size_t i = 0; i < count; ++i) {
      formal[first + i] =
          TRY(Merge(initial[i], out[first_out + i], fmt::format("carried value {}", i)));
    }
  }
  return out;
}

namespace {

Result<bool> TruthOf(const Tensor& t, std::string_view what) {
  if (t.dtype() != DType::kBool || t.count() != 1)
    return Fail(Code::kInvalidArgument, "{} is {}{}, not one bool", what, DTypeName(t.dtype()),
                ToString(std::span<const int64_t>(t.dims())));
  return t.as<bool>()[0];
}

Status HasOutputs(size_t got, int want, std::string_view what) {
  if (int(got) == want) return {};
  return Fail(Code::kInvalidArgument, "{} has {} outputs instead of {}", what, got, want);
}

// ---- If: outputs = (cond ? sub-graph 0 : sub-graph 1)() ----
struct If {
  using Attrs = NoAttrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    const DType cond = ctx.dtype(0);
    if (cond != DType::kUndefined && cond != DType::kBool)
      return Fail(Code::kInvalidArgument, "the condition is {}, not bool", DTypeName(cond));
    // A branch may make no sense for the shapes at hand when the condition never leads there.
    // Should it be entered all the same, that run fails; so what is computed is what the other
    // branch says.
    const auto then_types = ctx.InferSubgraph(0, {});
    const auto else_types = ctx.InferSubgraph(1, {});
    if (!then_types && !else_types) return Fail(then_types.error());
    for (const auto* types : {&then_types, &else_types})
      if (*types) TRY(HasOutputs((*types)->size(), ctx.output_count(), "a branch"));
    const Tensor* known = ctx.value(0);
    for (int o = 0; o < ctx.output_count(); ++o) {
      const Type& a = (then_types ? *then_types : *else_types)[size_t(o)];
      const Type& b = (else_types ? *else_types : *then_types)[size_t(o)];
      if (!then_types || !else_types)
        ctx.Set(o, a);
      else if (known == nullptr)
        ctx.Set(o, TRY(Merge(a, b, fmt::format("output {}", o))));
      else
        ctx.Set(o, TRY(TruthOf(*known, "the condition")) ? a : b);
    }
    return {};
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    const Tensor cond = TRY(ctx.TakeInput(0));
    const int branch = TRY(TruthOf(cond, "the condition")) ? 0 : 1;
    auto outputs = TRY(ctx.subgraph(branch)->Run({}));
    TRY(HasOutputs(outputs.size(), ctx.output_count(), "a branch"));
    for (int o = 0; o < ctx.output_count(); ++o)
      if (ctx.wants(o)) TRY(SetValue(ctx, o, std::move(outputs[size_t(o)])));
    return {};
  }
};

// What the smallest slice of a scan output takes, with all around it.
constexpr size_t kSliceBytes = 512;
constexpr int64_t kTripsBetweenChecks = 1 << 16;

// ---- Loop: inputs M, cond, carried…; body(iteration, cond, carried…) -> cond, carried…, scanned…
// ----
struct Loop {
  using Attrs = NoAttrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    if (!ctx.has(0) && !ctx.has(1))
      return Fail(Code::kInvalidArgument,
                  "neither a trip count nor a condition: the loop would never end");
    const auto carried = size_t(std::max(0, ctx.input_count() - 2));
    std::vector<Type> formal = {Type::Of(DType::kI64, {}), Type::Of(DType::kBool, {})};
    for (size_t i = 0; i < carried; ++i) {
      formal.push_back(ctx.has(int(i) + 2) ? ctx.input(int(i) + 2)
                                           : Type{.kind = Type::Kind::kOptional});
    }
    const std::vector<Type> initial = formal;
    const auto body = TRY(InferBody(ctx, formal, 2, carried, 1));
    const auto trips = ctx.ints(0);
    const Tensor* cond = ctx.value(1);
    const bool never = (trips && trips->size() == 1 && (*trips)[0] <= 0) ||
                       (cond != nullptr && !TRY(TruthOf(*cond, "the condition")));
    if (ctx.output_count() + 1 > int(body.size()))
      return Fail(Code::kInvalidArgument, "body has {} outputs, too few for {} outputs of the loop",
                  body.size(), ctx.output_count());
    for (int o = 0; o < ctx.output_count(); ++o) {
      if (size_t(o) < carried) {
        ctx.Set(o, (never ? initial : formal)[size_t(o) + 2]);
        continue;
      }
      Type scanned = body[size_t(o) + 1];
      TRY(NeedTensor(scanned, "a scan output"));
      if (scanned.ranked) scanned.dims.insert(0, never ? 0 : kUnknownDim);
      ctx.Set(o, scanned);
    }
    return {};
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    int64_t trips = INT64_MAX;
    if (ctx.has(0)) {
      const Tensor m = TRY(ctx.TakeInput(0));
      if (m.dtype() != DType::kI64 || m.count() != 1)
        return Fail(Code::kInvalidArgument, "the trip count is not one i64");
      trips = m.as<int64_t>()[0];
    } else if (!ctx.has(1)) {
      return Fail(Code::kInvalidArgument,
                  "neither a trip count nor a condition: the loop would never end");
    }
    bool go = true;
    if (ctx.has(1)) {
      const Tensor cond = TRY(ctx.TakeInput(1));
      go = TRY(TruthOf(cond, "the condition"));
    }
    const int carried = std::max(0, ctx.input_count() - 2);
    std::vector<RunValue> state;
    for (int i = 0; i < carried; ++i) state.push_back(TRY(TakeValue(ctx, i + 2)));
    const int scanned = std::max(0, ctx.output_count() - carried);
    std::vector<std::vector<Tensor>> scans;
    scans.resize(size_t(scanned));
    for (int64_t i = 0; i < trips && go; ++i) {
      std::vector<RunValue> formal = {{Tensor::Scalar<int64_t>(i), nullptr},
                                      {Tensor::Scalar<bool>(go), nullptr}};
      std::move(state.begin(), state.end(), std::back_inserter(formal));
      auto out = TRY(ctx.subgraph(0)->Run(std::move(formal)));
      if (int(out.size()) < 1 + carried + scanned)
        return Fail(Code::kInvalidArgument, "body gave {} outputs instead of {}", out.size(),
                    1 + carried + scanned);
      go = TRY(TruthOf(out[0].tensor, "the body's condition"));
      state.assign(std::make_move_iterator(out.begin() + 1),
                   std::make_move_iterator(out.begin() + 1 + carried));
      // Trips without end would collect results until memory is gone.
      if (i % kTripsBetweenChecks == kTripsBetweenChecks - 1)
        TRY(CheckMemory(size_t(i) * size_t(scanned) * kSliceBytes));
      for (int s = 0; s < scanned; ++s)
        if (ctx.wants(carried + s))
          scans[size_t(s)].push_back(
              TRY(NeedTensor(std::move(out[size_t(1 + carried + s)]), "a scan output")));
    }
    for (int o = 0; o < std::min(carried, ctx.output_count()); ++o)
      if (ctx.wants(o)) TRY(SetValue(ctx, o, std::move(state[size_t(o)])));
    for (int s = 0; s < scanned; ++s) {
      if (!ctx.wants(carried + s)) continue;
      const auto& slices = scans[size_t(s)];
      auto stacked = slices.empty() ? EmptyStack(ctx.out(carried + s), 0) : Stack(slices, 0, false);
      if (!stacked) return Fail(stacked.error());
      TRY(ctx.SetOutput(carried + s, std::move(*stacked)));
    }
    return {};
  }
};

// ---- Scan: body(states…, slices…) -> states…, scanned… for each position of the scan axis ----
struct Scan {
  struct Attrs {
    int64_t num_scan_inputs = 0;
    std::vector<int64_t> input_axes, input_directions, output_axes, output_directions;
    template <class V>
    void Visit(V& v) {
      v("num_scan_inputs", num_scan_inputs);
      v("scan_input_axes", input_axes);
      v("scan_input_directions", input_directions);
      v("scan_output_axes", output_axes);
      v("scan_output_directions", output_directions);
    }
  };

  static int64_t At(const std::vector<int64_t>& list, int i) {
    return size_t(i) < list.size() ? list[size_t(i)] : 0;
  }

  static Result<int> Axis(int64_t axis, int rank, std::string_view what) {
    if (axis < -rank || axis >= rank)
      return Fail(Code::kInvalidArgument, "{} axis {} outside rank {}", what, axis, rank);
    return int(axis < 0 ? axis + rank : axis);
  }

  static Result<int> States(const Attrs& a, int inputs) {
    if (a.num_scan_inputs < 1 || a.num_scan_inputs > inputs)
      return Fail(Code::kInvalidArgument, "num_scan_inputs is {} where there are {} inputs",
                  a.num_scan_inputs, inputs);
    return inputs - int(a.num_scan_inputs);
  }

  static Status Infer(const Attrs& a, InferContext& ctx) {
    const int states = TRY(States(a, ctx.input_count()));
    std::vector<Type> formal;
    int64_t steps = kUnknownDim;
    for (int i = 0; i < ctx.input_count(); ++i) {
      if (!ctx.has(i)) return Fail(Code::kInvalidArgument, "input {} is absent", i);
      Type t = ctx.input(i);
      TRY(NeedTensor(t, "an input"));
      if (i >= states && t.ranked) {
        const int axis = TRY(Axis(At(a.input_axes, i - states), t.dims.rank(), "scan input"));
        const int64_t extent = t.dims[size_t(axis)];
        if (IsKnown(steps) && IsKnown(extent) && steps != extent)
          return Fail(Code::kInvalidArgument, "scan inputs have {} and {} steps", steps, extent);
        if (!IsKnown(steps)) steps = extent;
        t.dims.erase(size_t(axis));
      }
      formal.push_back(std::move(t));
    }
    const auto body = TRY(InferBody(ctx, formal, 0, size_t(states), 0));
    if (ctx.output_count() > int(body.size()))
      return Fail(Code::kInvalidArgument, "body has {} outputs instead of {}", body.size(),
                  ctx.output_count());
    for (int o = 0; o < ctx.output_count(); ++o) {
      if (o < states) {
        ctx.Set(o, formal[size_t(o)]);
        continue;
      }
      Type t = body[size_t(o)];
      TRY(NeedTensor(t, "a scan output"));
      if (t.ranked)
        t.dims.insert(
            size_t(TRY(Axis(At(a.output_axes, o - states), t.dims.rank() + 1, "scan output"))),
            steps);
      ctx.Set(o, t);
    }
    return {};
  }

  static Status Reference(const Attrs& a, RunContext& ctx) {
    const int states = TRY(States(a, ctx.input_count()));
    const int scanned = std::max(0, ctx.output_count() - states);
    std::vector<RunValue> state;
    for (int i = 0; i < states; ++i) state.push_back(TRY(TakeValue(ctx, i)));
    std::vector<int> axes;
    int64_t steps = -1;
    for (int i = states; i < ctx.input_count(); ++i) {
      axes.push_back(TRY(Axis(At(a.input_axes, i - states), ctx.in(i).rank(), "scan input")));
      const int64_t extent = ctx.in(i).dims[size_t(axes.back())];
      if (steps >= 0 && extent != steps)
        return Fail(Code::kInvalidArgument, "scan inputs have {} and {} steps", steps, extent);
      steps = extent;
    }
    std::vector<std::vector<Tensor>> scans;
    scans.resize(size_t(scanned));
    for (int64_t t = 0; t < steps; ++t) {
      std::vector<RunValue> formal = std::move(state);
      for (int i = states; i < ctx.input_count(); ++i) {
        const int64_t at = At(a.input_directions, i - states) != 0 ? steps - 1 - t : t;
        formal.push_back({TRY(SliceAt(ctx.in(i), axes[size_t(i - states)], at)), nullptr});
      }
      auto out = TRY(ctx.subgraph(0)->Run(std::move(formal)));
      if (int(out.size()) < states + scanned)
        return Fail(Code::kInvalidArgument, "body gave {} outputs instead of {}", out.size(),
                    states + scanned);
      state.assign(std::make_move_iterator(out.begin()),
                   std::make_move_iterator(out.begin() + states));
      for (int s = 0; s < scanned; ++s)
        scans[size_t(s)].push_back(
            TRY(NeedTensor(std::move(out[size_t(states + s)]), "a scan output")));
    }
    for (int o = 0; o < std::min(states, ctx.output_count()); ++o)
      if (ctx.wants(o)) TRY(SetValue(ctx, o, std::move(state[size_t(o)])));
    for (int s = 0; s < scanned; ++s) {
      if (!ctx.wants(states + s)) continue;
      const auto& slices = scans[size_t(s)];
      const bool reverse = At(a.output_directions, s) != 0;
      const int rank =
          slices.empty() ? std::max(1, ctx.out(states + s).rank()) : slices[0].rank() + 1;
      const int axis = TRY(Axis(At(a.output_axes, s), rank, "scan output"));
      auto stacked =
          slices.empty() ? EmptyStack(ctx.out(states + s), axis) : Stack(slices, axis, reverse);
      if (!stacked) return Fail(stacked.error());
      TRY(ctx.SetOutput(states + s, std::move(*stacked)));
    }
    return {};
  }
};

// ---- SequenceMap: body on each item of a sequence; further inputs are sequences, taken item by
// item too, or tensors, the same for every item ----
struct SequenceMap {
  using Attrs = NoAttrs;

  static Status Infer(const Attrs&, InferContext& ctx) {
    std::vector<Type> formal;
    for (int i = 0; i < ctx.input_count(); ++i) {
      if (!ctx.has(i)) return Fail(Code::kInvalidArgument, "input {} is absent", i);
      formal.push_back(ctx.input(i));
      formal.back().kind = Type::Kind::kTensor;
    }
    const auto body = TRY(ctx.InferSubgraph(0, formal));
    TRY(HasOutputs(body.size(), ctx.output_count(), "body"));
    for (int o = 0; o < ctx.output_count(); ++o) {
      Type t = body[size_t(o)];
      t.kind = Type::Kind::kSequence;
      ctx.Set(o, t);
    }
    return {};
  }

  static Status Reference(const Attrs&, RunContext& ctx) {
    std::vector<RunValue> inputs;
    for (int i = 0; i < ctx.input_count(); ++i) inputs.push_back(TRY(TakeValue(ctx, i)));
    if (!inputs[0].sequence) return Fail(Code::kInvalidArgument, "input 0 is not a sequence");
    const size_t length = inputs[0].sequence->items.size();
    for (const RunValue& v : inputs) {
      if (v.sequence) TRY(NeedTensors(*v.sequence));
      if (v.sequence && v.sequence->items.size() != length)
        return Fail(Code::kInvalidArgument, "sequences of {} and {} items", length,
                    v.sequence->items.size());
    }
    std::vector<SequenceValue> outputs;
    outputs.resize(size_t(ctx.output_count()));
    for (size_t at = 0; at < length; ++at) {
      std::vector<RunValue> formal;
      for (const RunValue& v : inputs)
        formal.push_back({v.sequence ? v.sequence->items[at] : v.tensor, nullptr});
      auto out = TRY(ctx.subgraph(0)->Run(std::move(formal)));
      TRY(HasOutputs(out.size(), ctx.output_count(), "body"));
      for (size_t o = 0; o < out.size(); ++o) {
        outputs[o].items.push_back(TRY(NeedTensor(std::move(out[o]), "an output of the body")));
        outputs[o].dtype = outputs[o].items.back().dtype();
      }
    }
    for (int o = 0; o < ctx.output_count(); ++o)
      if (ctx.wants(o)) TRY(ctx.SetSequence(o, std::move(outputs[size_t(o)])));
    return {};
  }
};

}  // namespace
}  // namespace control

std::span<const OpDef> ControlOps() {
  static const OpDef ops[] = {
      Declare<control::If>("If",
                           {.min_inputs = 1, .max_inputs = 1, .max_outputs = -1, .subgraphs = 2}),
      Declare<control::Loop>(
          "Loop", {.min_inputs = 0, .max_inputs = -1, .max_outputs = -1, .subgraphs = 1}),
      Declare<control::SequenceMap>(
          "SequenceMap", {.min_inputs = 1, .max_inputs = -1, .max_outputs = -1, .subgraphs = 1}),
      Declare<control::BatchScan>("BatchScan", {.domain = "dunlin",
                                                .min_inputs = 0,
                                                .max_inputs = -1,
                                                .max_outputs = -1,
                                                .subgraphs = 1}),
      Declare<control::Scan>(
          "Scan", {.min_inputs = 1, .max_inputs = -1, .max_outputs = -1, .subgraphs = 1}),
  };
  return ops;
}

}  // namespace dunlin
