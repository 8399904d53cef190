#include "runtime/execution.h"

#include <algorithm>
#include <chrono>
#include <cstring>

#include "ops/kinds.h"
#include "tensor/memory.h"

namespace dunlin {

namespace {
constexpr int64_t kLargeOutputs = int64_t{64} << 20;

Type TypeOf(const RunValue& v) {
  if (v.sequence) return v.sequence->type();
  if (!v.tensor.defined()) return Type{Type::Kind::kOptional, DType::kUndefined, false, {}};
  return Type::Of(v.tensor.dtype(), v.tensor.dims());
}
Type TypeOf(const RunInput& v) {
  if (v.view != nullptr) return Type::Of(v.view->dtype, v.view->dims);
  if (v.sequence != nullptr) return (*v.sequence)->type();
  return Type{Type::Kind::kOptional, DType::kUndefined, false, {}};
}
// Without building a Type: this runs for every input of every run.
bool IsOfType(const RunInput& v, const Type& t) {
  if (v.view != nullptr)
    return t.kind == Type::Kind::kTensor && t.dtype == v.view->dtype && t.dims == v.view->dims;
  return t == TypeOf(v);
}
}  // namespace

// The bindings of one plan.
struct Execution::State {
  std::shared_ptr<const Plan> plan;
  std::vector<TensorView> views;                               // per slot
  std::vector<RunValue> dynamic;                               // per slot; used by kDynamic ones
  std::vector<Tensor> outputs;                                 // per graph output, of the last run
  std::vector<std::pair<int, int>> input_slots, output_slots;  // (slot, index)
  std::vector<int> arena_slots;
  int64_t output_bytes = 0;
  std::byte* arena = nullptr;
  // Sub-graphs of a step: one execution each, made when first entered.
  std::vector<std::vector<std::unique_ptr<Execution>>> bodies;
  // The last kernel a dynamic step used, and for what.
  struct Lowered {
    std::vector<Type> types;
    KernelPtr kernel;
    LayoutPlan layouts;
  };
  std::vector<Lowered> lowered;
  std::vector<double> microseconds;  // per step, of timed runs

  explicit State(std::shared_ptr<const Plan> p)
      : plan(std::move(p)),
        views(plan->slots.size()),
        dynamic(plan->slots.size()),
        outputs(plan->output_slots.size()),
        bodies(plan->steps.size()),
        lowered(plan->steps.size()) {
    for (size_t i = 0; i < plan->slots.size(); ++i) {
      const Slot& s = plan->slots[i];
      TensorView& v = views[i];
      v.dtype = s.type.dtype;
      v.layout = s.layout;
      v.dims = s.type.dims;
      v.pixel_stride = s.pixel_stride;
      switch (s.kind) {
        case Slot::Kind::kConstant:
          // What is only packed stays in the file; memcpy reads it from there.
          v.data = s.use == InputUse::kValues  ? s.constant.raw()
                   : s.use == InputUse::kBytes ? const_cast<std::byte*>(s.constant.source())
                                               : nullptr;
          break;
        case Slot::Kind::kInput:
          input_slots.emplace_back(int(i), s.index);
          break;
        case Slot::Kind::kOutput:
          output_slots.emplace_back(int(i), s.index);
          if (s.root == int(i)) output_bytes += ByteSize(s.type.dtype, CountOf(s.type.dims));
          break;
        case Slot::Kind::kArena:
          arena_slots.push_back(int(i));
          break;
        case Slot::Kind::kDynamic:
          break;
      }
    }
    for (size_t i = 0; i < plan->steps.size(); ++i) bodies[i].resize(plan->steps[i].bodies.size());
  }
};

// ---- sub-graphs ----

class Execution::Subgraph final : public SubgraphRunner {
 public:
  Subgraph(Execution& e, State& s, const Step& step, int index, int branch,
           const RunEnvironment& env)
      : e_(e), s_(s), step_(step), index_(index), branch_(branch), env_(env) {}
  Result<std::vector<RunValue>> Run(std::vector<RunValue> formal) override;

 private:
  Execution& e_;
  State& s_;
  const Step& step_;
  int index_, branch_;
  const RunEnvironment& env_;
};

// ---- what a step sees ----

class Execution::Context final : public RunContext {
 public:
  Context(Execution& e, State& s, const Step& step, int index, const RunEnvironment& env)
      : e_(e), s_(s), step_(step), index_(index), env_(env) {}

  int input_count() const override { return int(step_.inputs.size()); }
  int output_count() const override { return int(step_.outputs.size()); }
  bool has(int i) const override {
    if (i >= int(step_.inputs.size()) || step_.inputs[size_t(i)] < 0) return false;
    const int s = step_.inputs[size_t(i)];
    return s_.plan->slots[size_t(s)].kind != Slot::Kind::kDynamic ||
           s_.dynamic[size_t(s)].present();
  }
  bool wants(int o) const override {
    return o < int(step_.outputs.size()) && step_.outputs[size_t(o)] >= 0;
  }
  const TensorView& in(int i) const override {
    if (!in_override.empty()) return in_override[size_t(i)];
    return has(i) && sequence(i) == nullptr ? s_.views[size_t(step_.inputs[size_t(i)])] : Nothing();
  }
  // What an operator finds where there is no tensor: no elements, of no type.
  static const TensorView& Nothing() {
    alignas(Buffer::kAlignment) static std::byte data[Buffer::kAlignment] = {};
    static const TensorView nothing{DType::kUndefined, Layout::kRowMajor, {0}, data, 0};
    return nothing;
  }
  TensorView& out(int i) override {
    if (!out_override.empty()) return out_override[size_t(i)];
    return s_.views[size_t(step_.outputs[size_t(i)])];
  }
  Result<TensorView*> Allocate(int o, DType dtype, const Dims& dims) override {
    DUNLIN_CHECK(wants(o), "a kernel allocates an output nobody wants");
    const int s = step_.outputs[size_t(o)];
    TensorView& v = out_override.empty() ? s_.views[size_t(s)] : out_override[size_t(o)];
    if (!out_override.empty() || s_.plan->slots[size_t(s)].kind != Slot::Kind::kDynamic) {
      if (v.dims != dims || v.dtype != dtype)
        return Fail(Code::kInternal, "an output of extents {} where {} was planned", ToString(dims),
                    ToString(v.dims));
      return &v;
    }
    const auto count = ElementCount(dims);
    if (!count || uint64_t(ByteSize(dtype, *count)) > MemoryLimit())
      return Fail(Code::kResourceExhausted, "its result {}{} does not fit into memory",
                  DTypeName(dtype), ToString(dims));
    s_.dynamic[size_t(s)] = {TRY(Tensor::Create(dtype, dims)), nullptr};
    v = s_.dynamic[size_t(s)].tensor.view();
    return &v;
  }
  Result<Tensor> TakeInput(int i) override {
    const int s = step_.inputs[size_t(i)];
    const Slot& slot = s_.plan->slots[size_t(s)];
    if (slot.kind == Slot::Kind::kDynamic) {
      if (!s_.dynamic[size_t(s)].tensor.defined())
        return Fail(Code::kInvalidArgument, "input {} is not a tensor", i);
      return s_.dynamic[size_t(s)].tensor;
    }
    if (slot.kind == Slot::Kind::kConstant && slot.layout == Layout::kRowMajor)
      return slot.constant.Reshaped(slot.type.dims);
    return Copy(s_.views[size_t(s)]);
  }
  static Result<Tensor> Copy(const TensorView& v) {
    Tensor t = TRY(Tensor::Create(v.dtype, v.dims));
    if (v.dtype == DType::kString)
      std::copy_n(v.as<std::string>(), v.count(), t.mut<std::string>());
    else if (v.bytes() > 0)
      std::memcpy(t.raw(), v.data, size_t(v.bytes()));
    return t;
  }
  Status SetOutput(int o, Tensor t) override {
    if (!wants(o)) return {};
    const int s = step_.outputs[size_t(o)];
    TensorView& v = s_.views[size_t(s)];
    if (s_.plan->slots[size_t(s)].kind == Slot::Kind::kDynamic) {
      v = t.view();
      s_.dynamic[size_t(s)] = {std::move(t), nullptr};
      return {};
    }
    if (v.dims != t.dims() || v.dtype != t.dtype())
      return Fail(Code::kInternal, "an output of extents {} where {} was planned",
                  ToString(t.dims()), ToString(v.dims));
    if (t.bytes() > 0 && v.data != t.raw()) std::memcpy(v.data, t.raw(), size_t(t.bytes()));
    return {};
  }
  const SequenceValue* sequence(int i) const override {
    return has(i) ? s_.dynamic[size_t(step_.inputs[size_t(i)])].sequence.get() : nullptr;
  }
  Status SetSequence(int o, SequenceValue q) override {
    if (!wants(o)) return {};
    const int s = step_.outputs[size_t(o)];
    if (s_.plan->slots[size_t(s)].kind != Slot::Kind::kDynamic)
      return Fail(Code::kInternal, "a sequence where a tensor was planned");
    s_.dynamic[size_t(s)] = {Tensor(), std::make_shared<const SequenceValue>(std::move(q))};
    return {};
  }
  SubgraphRunner* subgraph(int branch) override {
    if (branch < 0 || branch >= int(step_.bodies.size())) return nullptr;
    runners_.push_back(std::make_unique<Subgraph>(e_, s_, step_, index_, branch, env_));
    return runners_.back().get();
  }
  void* scratch() override {
    return scratch_override ? scratch_override : s_.arena + step_.scratch_offset;
  }
  void ParallelFor(int64_t count, int64_t grain, RangeFn fn) override {
    if (env_.threads <= 1 || count <= grain) {
      // The same chunks one after another: results do not depend on the number of threads.
      for (int64_t b = 0; b < count; b += std::max<int64_t>(1, grain))
        fn(b, std::min(count, b + std::max<int64_t>(1, grain)));
      return;
    }
    env_.pool->ParallelFor(count, grain, fn, env_.threads);
  }
  int threads() const override { return env_.threads; }

  // For dynamic steps, whose values are moved to other layouts or scratch for one call.
  std::vector<TensorView> in_override, out_override;
  void* scratch_override = nullptr;

 private:
  Execution& e_;
  State& s_;
  const Step& step_;
  int index_;
  const RunEnvironment& env_;
  std::vector<std::unique_ptr<Subgraph>> runners_;
};

Result<std::vector<RunValue>> Execution::Subgraph::Run(std::vector<RunValue> formal) {
  std::unique_ptr<Execution>& body = s_.bodies[size_t(index_)][size_t(branch_)];
  if (!body) body = std::make_unique<Execution>(step_.bodies[size_t(branch_)]);
  const size_t given = formal.size();
  std::vector<TensorView> views;  // of the formal inputs
  views.reserve(given);
  std::vector<RunInput> inputs;
  inputs.reserve(given + step_.captures.size());
  for (const RunValue& v : formal) {
    views.push_back(v.tensor.view());
    inputs.push_back(
        {v.tensor.defined() ? &views.back() : nullptr, v.sequence ? &v.sequence : nullptr});
  }
  // The parent's memory outlives this call.
  for (const int c : step_.captures) {
    const bool dynamic = s_.plan->slots[size_t(c)].kind == Slot::Kind::kDynamic;
    const RunValue& d = s_.dynamic[size_t(c)];
    if (!dynamic || d.tensor.defined())
      inputs.push_back({&s_.views[size_t(c)], nullptr});
    else
      inputs.push_back({nullptr, d.sequence ? &d.sequence : nullptr});
  }
  if (inputs.size() != step_.bodies[size_t(branch_)]->graph().inputs().size())
    return Fail(Code::kInvalidArgument, "a sub-graph takes {} inputs, {} were given",
                step_.bodies[size_t(branch_)]->graph().inputs().size() - step_.captures.size(),
                given);
  return body->Run(inputs, env_);
}

// ---- dynamic steps ----

namespace {

// Inference with everything known that a running step can know.
class LiveInfer final : public InferContext {
 public:
  LiveInfer(const Node& n, std::span<const Type> types, std::span<const Tensor> values, int outputs)
      : n_(n), types_(types), values_(values), out(size_t(outputs)) {}
  int input_count() const override { return n_.formal_inputs(); }
  int output_count() const override { return int(out.size()); }
  bool has(int i) const override { return i < int(types_.size()) && present(i); }
  bool wants(int o) const override {
    return o < int(out.size()) && n_.outputs[size_t(o)] != ValueId::kNone;
  }
  const Type& input(int i) const override {
    static const Type absent;
    return i < int(types_.size()) ? types_[size_t(i)] : absent;
  }
  const Tensor* value(int i) const override {
    return i < int(values_.size()) && values_[size_t(i)].defined() ? &values_[size_t(i)] : nullptr;
  }
  std::optional<Dims> shape_value(int i) const override {
    const Tensor* t = value(i);
    if (t == nullptr || t->rank() > 1 || t->count() > 64 || !IsInteger(t->dtype()))
      return std::nullopt;
    const auto v = ToInts(*t);
    if (!v || std::any_of(v->begin(), v->end(), [](int64_t d) { return d < 0; }))
      return std::nullopt;
    return Dims(std::span<const int64_t>(*v));
  }
  void Set(int o, Type t) override {
    if (o < int(out.size())) out[size_t(o)] = std::move(t);
  }
  void SetShapeValue(int, Dims) override {}
  Result<std::vector<Type>> InferSubgraph(int, std::span<const Type>) override {
    return Fail(Code::kInternal, "sub-graphs are inferred when they run");
  }

 private:
  bool present(int i) const {
    return n_.inputs[size_t(i)] != ValueId::kNone &&
           !(types_[size_t(i)].kind == Type::Kind::kOptional);
  }
  const Node& n_;
  std::span<const Type> types_;
  std::span<const Tensor> values_;

 public:
  std::vector<Type> out;
};

class LiveLower final : public LowerContext {
 public:
  LiveLower(const Node& n, std::span<const Type> in, std::span<const Type> out,
            std::span<const Tensor> constants, const LayoutPlan& layouts,
            const ProgramContext& context, int threads)
      : n_(n),
        in_(in),
        out_(out),
        constants_(constants),
        layouts_(layouts),
        context_(context),
        threads_(threads) {}
  int input_count() const override { return n_.formal_inputs(); }
  int output_count() const override { return int(out_.size()); }
  bool has(int i) const override {
    return i < n_.formal_inputs() && n_.inputs[size_t(i)] != ValueId::kNone;
  }
  bool wants(int o) const override {
    return o < int(out_.size()) && n_.outputs[size_t(o)] != ValueId::kNone;
  }
  const Type& input(int i) const override { return in_[size_t(i)]; }
  const Type& output(int o) const override { return out_[size_t(o)]; }
  const Tensor* value(int i) const override {
    return constants_[size_t(i)].defined() ? &constants_[size_t(i)] : nullptr;
  }
  Layout input_layout(int i) const override { return layouts_.inputs[size_t(i)]; }
  Layout output_layout(int o) const override { return layouts_.outputs[size_t(o)]; }
  WeightCache& weights() override { return *context_.weights; }
  int threads() const override { return threads_; }
  bool bf16_products() const override { return context_.bf16_products; }

 private:
  const Node& n_;
  std::span<const Type> in_, out_;
  std::span<const Tensor> constants_;
  const LayoutPlan& layouts_;
  const ProgramContext& context_;
  int threads_;
};

}  // namespace

Status Execution::RunDynamic(State& state, int index, const RunEnvironment& env) {
  const Step& step = state.plan->steps[size_t(index)];
  const Node& n = state.plan->graph->node(step.node);
  Context ctx(*this, state, step, index, env);
  if (n.op->subgraphs > 0) return n.op->impl->reference(*n.attrs, ctx);

  // What the inputs are now.
  std::vector<Type> types(step.inputs.size());
  std::vector<Tensor> values(step.inputs.size()), constants(step.inputs.size());
  bool tensors_only = true;
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    const int s = step.inputs[i];
    if (s < 0) continue;
    const Slot& slot = state.plan->slots[size_t(s)];
    if (slot.kind == Slot::Kind::kDynamic) {
      types[i] = TypeOf(state.dynamic[size_t(s)]);
      values[i] = state.dynamic[size_t(s)].tensor;
      tensors_only &= types[i].kind == Type::Kind::kTensor;
      continue;
    }
    const TensorView& v = state.views[size_t(s)];
    types[i] = Type::Of(v.dtype, v.dims);
    values[i] =
        slot.kind == Slot::Kind::kConstant
            ? slot.constant.Reshaped(slot.type.dims)
            : Tensor::Over(v.dtype, v.dims, Buffer::Borrow(v.data, size_t(v.bytes()), nullptr));
    if (slot.kind == Slot::Kind::kConstant) constants[i] = values[i];
  }
  if (!tensors_only) TRY(CheckKinds(*n.op, types));
  LiveInfer infer(n, types, values, int(step.outputs.size()));
  TRY(n.op->infer(*n.attrs, infer));
  if (n.op->is_view && tensors_only && infer.out[0].IsStatic() && step.outputs[0] >= 0) {
    Tensor t = TRY(ctx.TakeInput(0));
    return ctx.SetOutput(0, t.Reshaped(infer.out[0].dims));
  }
  bool complete = tensors_only;
  for (size_t o = 0; o < step.outputs.size(); ++o) {
    if (step.outputs[o] < 0) continue;
    if (!infer.out[o].IsStatic()) {
      complete = false;
      // An operator that allocates what it makes replaces it; others find no elements to write.
      const int s = step.outputs[o];
      if (state.plan->slots[size_t(s)].kind == Slot::Kind::kDynamic)
        state.views[size_t(s)] = Context::Nothing();
      continue;
    }
    TRY(ctx.Allocate(int(o), infer.out[o].dtype, infer.out[o].dims));
  }
  const PlanMode mode = program_->context().mode;
  if (!complete || n.op->impl->lower == nullptr || mode == PlanMode::kReference)
    return n.op->impl->reference(*n.attrs, ctx);

  State::Lowered& last = state.lowered[size_t(index)];
  std::vector<Type> key = types;
  key.insert(key.end(), infer.out.begin(), infer.out.end());
  if (last.types != key) {
    last.layouts = {};
    if (n.op->impl->layouts != nullptr) {
      const std::vector<Layout> current(types.size(), Layout::kRowMajor);
      LayoutQuery q{types, infer.out, current, {}};
      for (const Tensor& c : constants) q.constant.push_back(c.defined());
      last.layouts = n.op->impl->layouts(*n.attrs, q);
    }
    last.layouts.inputs.resize(types.size(), Layout::kRowMajor);
    last.layouts.outputs.resize(step.outputs.size(), Layout::kRowMajor);
    LiveLower lower(n, types, infer.out, constants, last.layouts, program_->context(), env.threads);
    last.kernel = TRY(n.op->impl->lower(*n.attrs, lower));
    last.types = std::move(key);
  }
  if (!last.kernel) return n.op->impl->reference(*n.attrs, ctx);

  return RunLowered(state, step, *last.kernel, last.layouts, ctx);
}

// Moves inputs and outputs to the layouts the kernel wants, for this call only.
Status Execution::RunLowered(State& state, const Step& step, const Kernel& kernel,
                             const LayoutPlan& layouts, Context& ctx) {
  std::vector<std::shared_ptr<Buffer>> keep;
  const auto moved = [&](const TensorView& v, Layout to) -> Result<TensorView> {
    TensorView y = v;
    y.layout = to;
    if (v.layout == to || LayoutsCoincide(v.dims)) return y;
    keep.push_back(TRY(Buffer::Allocate(size_t(v.bytes()))));
    y.data = keep.back()->data();
    return y;
  };
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    TensorView y;
    if (step.inputs[i] >= 0) {
      const TensorView& v = state.views[size_t(step.inputs[i])];
      y = TRY(moved(v, layouts.inputs[i]));
      if (y.data != v.data) CopyView(v, y);
    }
    ctx.in_override.push_back(y);
  }
  for (size_t o = 0; o < step.outputs.size(); ++o) {
    TensorView y;
    if (step.outputs[o] >= 0)
      y = TRY(moved(state.views[size_t(step.outputs[o])], layouts.outputs[o]));
    ctx.out_override.push_back(y);
  }
  std::shared_ptr<Buffer> scratch;
  if (kernel.scratch_bytes() > 0) {
    scratch = TRY(Buffer::Allocate(kernel.scratch_bytes()));
    ctx.scratch_override = scratch->data();
  }
  TRY(kernel.Run(ctx));
  for (size_t o = 0; o < step.outputs.size(); ++o) {
    if (step.outputs[o] < 0) continue;
    TensorView& v = state.views[size_t(step.outputs[o])];
    if (ctx.out_override[o].data != v.data) CopyView(ctx.out_override[o], v);
  }
  return {};
}

// ---- runs ----

// Enough for the sizes of batches that occur in turns.
constexpr size_t kKeptStates = 4;

Execution::Execution(std::shared_ptr<const Program> program) : program_(std::move(program)) {}
Execution::~Execution() = default;

Result<const Plan*> Execution::Prepare(std::span<const RunInput> inputs) {
  bool same = state_ != nullptr && inputs.size() == last_types_.size();
  for (size_t i = 0; same && i < inputs.size(); ++i) same = IsOfType(inputs[i], last_types_[i]);
  if (!same) {
    std::vector<Type> types;
    for (const RunInput& v : inputs) types.push_back(TypeOf(v));
    const auto it =
        std::find_if(kept_.begin(), kept_.end(), [&](const Kept& k) { return k.types == types; });
    Kept next{std::move(types), nullptr};
    if (it != kept_.end()) {
      next.state = std::move(it->state);
      kept_.erase(it);
    } else {
      next.state = std::make_unique<State>(TRY(program_->PlanFor(next.types)));
    }
    if (state_ != nullptr) {
      for (Tensor& t : state_->outputs) t = {};  // its buffers are the caller's alone now
      if (kept_.size() == kKeptStates) kept_.erase(kept_.begin());
      kept_.push_back({std::move(last_types_), std::move(state_)});
    }
    state_ = std::move(next.state);
    last_types_ = std::move(next.types);
  }
  return state_->plan.get();
}

const Plan* Execution::plan() const { return state_ ? state_->plan.get() : nullptr; }

RunTimes Execution::Times() const {
  RunTimes t;
  if (!state_) return t;
  t.plan = state_->plan.get();
  t.microseconds = state_->microseconds;
  t.microseconds.resize(t.plan->steps.size());
  t.bodies.resize(t.plan->steps.size());
  for (size_t i = 0; i < state_->bodies.size(); ++i)
    for (const auto& body : state_->bodies[i])
      if (body && body->state_ && !body->state_->microseconds.empty())
        t.bodies[i].push_back(body->Times());
  return t;
}

Status Execution::RunStep(State& state, int index, const RunEnvironment& env) {
  const Step& step = state.plan->steps[size_t(index)];
  if (!step.kernel) return RunDynamic(state, index, env);
  Context ctx(*this, state, step, index, env);
  return step.kernel->Run(ctx);
}

Result<std::vector<RunValue>> Execution::Run(std::span<const RunInput> inputs,
                                             const RunEnvironment& env) {
  TRY(Prepare(inputs));
  State& s = *state_;
  const Plan& plan = *s.plan;
  for (const auto& [slot, index] : s.input_slots)
    s.views[size_t(slot)].data = inputs[size_t(index)].view->data;
  for (size_t i = 0; i < plan.input_slots.size(); ++i) {
    const int slot = plan.input_slots[i];
    if (slot < 0 || plan.slots[size_t(slot)].kind != Slot::Kind::kDynamic) continue;
    if (inputs[i].sequence != nullptr)
      s.dynamic[size_t(slot)] = {Tensor(), *inputs[i].sequence};
    else
      s.dynamic[size_t(slot)] = {};
  }
  ArenaPool::Lease arena = TRY(env.arenas->Borrow(size_t(plan.memory.arena_bytes)));
  if (arena->data() != s.arena) {
    s.arena = arena->data();
    for (const int slot : s.arena_slots)
      s.views[size_t(slot)].data = s.arena + plan.slots[size_t(slot)].offset;
  }
  // Each may fit where all together do not.
  if (s.output_bytes >= kLargeOutputs) TRY(CheckMemory(size_t(s.output_bytes)));
  // Results go to the caller; a buffer it has let go of is used again.
  for (size_t i = 0; i < plan.output_slots.size(); ++i) {
    const Slot& slot = plan.slots[size_t(plan.output_slots[i])];
    if (slot.kind != Slot::Kind::kOutput || slot.index != int(i)) continue;
    // Another owner would see later results. Copied, not only asked for its count: that waits for
    // what another thread did before it let go.
    const auto owner = s.outputs[i].defined() ? s.outputs[i].buffer() : nullptr;
    if (owner == nullptr || owner.use_count() > 2)
      s.outputs[i] = TRY(Tensor::Create(slot.type.dtype, slot.type.dims));
  }
  for (const auto& [slot, index] : s.output_slots)
    s.views[size_t(slot)].data =
        s.outputs[size_t(index)].raw() + plan.slots[size_t(slot)].part_offset;

  if (env.timed) s.microseconds.resize(plan.steps.size());
  const auto cancelled = [&] {
    return env.cancelled != nullptr && *env.cancelled && (*env.cancelled)();
  };
  // Once more than there are steps: an empty loop body must be interruptible too.
  if (cancelled()) return Fail(Code::kCancelled, "the run was cancelled");
  for (int i = 0; i < int(plan.steps.size()); ++i) {
    if (i > 0 && cancelled()) return Fail(Code::kCancelled, "the run was cancelled");
    const auto start =
        env.timed ? std::chrono::steady_clock::now() : std::chrono::steady_clock::time_point();
    if (auto st = RunStep(s, i, env); !st) {
      const Step& step = plan.steps[size_t(i)];
      if (step.node == NodeId::kNone) return Fail(st.error());
      const Node& n = plan.graph->node(step.node);
      return FailAt(fmt::format("node '{}' ({})", n.name, n.op->name), st.error());
    }
    if (env.timed)
      s.microseconds[size_t(i)] +=
          std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - start)
              .count();
  }

  std::vector<RunValue> results;
  results.reserve(plan.output_slots.size());
  for (size_t i = 0; i < plan.output_slots.size(); ++i) {
    const int slot = plan.output_slots[i];
    if (plan.slots[size_t(slot)].kind == Slot::Kind::kDynamic)
      results.push_back(s.dynamic[size_t(slot)]);
    else
      results.push_back({s.outputs[size_t(plan.slots[size_t(slot)].index)].Reshaped(
                             plan.slots[size_t(slot)].type.dims),
                         nullptr});
  }
  // Nothing of this run is kept but its buffers.
  for (RunValue& d : s.dynamic) d = {};
  return results;
}

}  // namespace dunlin
