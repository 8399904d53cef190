#include "dunlin/engine.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "base/thread_pool.h"
#include "dunlin/describe.h"
#include "dunlin/extra_outputs.h"
#include "dunlin/ragged.h"
#include "dunlin/tuner.h"
#include "formats/onnx.h"
#include "kernels/bf16_product.h"
#include "kernels/simd_targets.h"
#include "passes/passes.h"
#include "runtime/execution.h"
#include "runtime/weight_cache.h"

namespace dunlin {
namespace {

// One pool and one set of arenas for the process: sessions share the cores, they do not multiply
// them.
ThreadPool& ProcessPool() {
  static ThreadPool pool(UsableCpus());
  return pool;
}
ArenaPool& ProcessArenas() {
  static ArenaPool arenas;
  return arenas;
}

}  // namespace

PortInfo Port(const Graph& g, const std::string& name, const Type& t) {
  PortInfo p;
  p.name = name;
  p.dtype = t.dtype;
  p.has_shape = t.ranked;
  p.sequence = t.kind == Type::Kind::kSequence;
  p.optional = t.kind == Type::Kind::kOptional;
  p.key = t.key;
  if (t.ranked) {
    p.dims = t.dims;
    for (int64_t& d : p.dims) {
      p.dim_names.push_back(IsSymbol(d) ? g.symbols().names[size_t(SymbolIndex(d))] : "");
      if (!IsKnown(d)) d = kUnknownDim;
    }
  }
  return p;
}

struct Model::Impl {
  std::shared_ptr<const Program> program;
  std::shared_ptr<PackedWeights> weights;
  std::unique_ptr<Tuner> tuner;  // none: the cost models decide
  std::shared_ptr<CountedAllocator> allocator;
  std::unique_ptr<ArenaPool> arenas;  // none: the process's
  std::vector<PortInfo> inputs, outputs, defaults;
  std::vector<NamedTensor> fed_defaults;
  std::map<std::string, std::string> metadata;
  int64_t parameters = 0;
  OptimizationReport optimization;

  // Made when it is first asked for.
  std::once_flag ragged_once;
  Result<std::unique_ptr<const RaggedModel>> ragged;
  const Result<std::unique_ptr<const RaggedModel>>& Ragged() {
    std::call_once(ragged_once,
                   [&] { ragged = RaggedModel::Create(program->graph(), program->context()); });
    return ragged;
  }

  // Inputs in the model's order. Checks everything a caller can get wrong.
  template <class Named>  // NamedValue or NamedTensor
  Result<std::vector<RunValue>> Bind(std::span<const Named> given) const;
  tl::unexpected<Error> UnknownInput(const std::string& name) const;
};

namespace {
// Values as a run takes them; borrows from the values.
struct Borrowed {
  std::vector<TensorView> views;
  std::vector<RunInput> inputs;
  Borrowed() = default;
  explicit Borrowed(std::span<const RunValue> values) { Set(values); }
  void Set(std::span<const RunValue> values) {
    views.resize(values.size());
    inputs.assign(values.size(), {});
    for (size_t i = 0; i < values.size(); ++i) {
      if (values[i].sequence) inputs[i].sequence = &values[i].sequence;
      if (!values[i].tensor.defined()) continue;
      views[i] = values[i].tensor.view();
      inputs[i].view = &views[i];
    }
  }
};

// Outputs made by ZipMap become what it was made of, unless something in the graph needs the maps.
void TakeScoresOfMaps(ImportedModel& m) {
  Graph& g = *m.graph;
  for (size_t i = 0; i < m.outputs.size(); ++i) {
    const ValueId maps = g.outputs()[i];
    const Node* n = g.producer(maps);
    if (n == nullptr || n->op->name != "ZipMap" || !g.value(maps).uses.empty()) continue;
    const ValueId scores = n->inputs[0];
    g.ReplaceAllUses(maps, scores);
    m.outputs[i].type = g.value(scores).type;
  }
}
}  // namespace

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;

Result<std::shared_ptr<const Model>> Model::Load(const std::string& path,
                                                 const LoadOptions& options) {
  auto file = TRY(Buffer::MapFile(path));
  const size_t slash = path.find_last_of('/');
  const std::string dir = !options.external_data_dir.empty() ? options.external_data_dir
                          : slash == std::string::npos       ? "."
                                                             : path.substr(0, slash + 1);
  std::error_code error;
  const auto real = std::filesystem::canonical(path, error);
  auto model = Parse({file->data(), file->bytes()}, file, dir,
                     error ? std::string() : real.parent_path().string(), options);
  if (!model) return FailAt(path, model.error());
  return model;
}

Result<std::shared_ptr<const Model>> Model::LoadBytes(std::span<const std::byte> bytes,
                                                      const LoadOptions& options) {
  auto copy = TRY(Buffer::Allocate(bytes.size()));
  if (!bytes.empty()) std::memcpy(copy->data(), bytes.data(), bytes.size());
  return Parse({copy->data(), bytes.size()}, copy, options.external_data_dir, "", options);
}

Result<std::shared_ptr<const Model>> Model::Parse(std::span<const std::byte> bytes,
                                                  std::shared_ptr<Buffer> backing,
                                                  const std::string& dir,
                                                  const std::string& real_dir,
                                                  const LoadOptions& options) {
  BestSimdTarget();  // before weights are packed for it
  if (options.threads < 0)
    return Fail(Code::kInvalidArgument, "threads is {}; give 0 for all", options.threads);
  if (options.allocator && (!options.allocator->allocate || !options.allocator->free))
    return Fail(Code::kInvalidArgument, "an allocator needs both allocate and free");
  ImportedModel m = TRY(ImportOnnx(
      bytes, std::move(backing), dir,
      {.real_dir = real_dir, .fed = {options.fed_defaults.begin(), options.fed_defaults.end()}}));
  if (options.scores_of_maps) TakeScoresOfMaps(m);
  TRY(AddExtraOutputs(m, options.extra_outputs));
  auto impl = std::make_unique<Impl>();
  if (options.allocator) {
    impl->allocator = std::make_shared<CountedAllocator>(*options.allocator);
    impl->arenas = std::make_unique<ArenaPool>(impl->allocator);
  }
  const Graph& g = *m.graph;
  for (size_t i = 0; i < m.inputs.size(); ++i)
    impl->inputs.push_back(Port(g, m.inputs[i].name, m.inputs[i].type));
  for (const DeclaredPort& d : m.defaults) impl->defaults.push_back(Port(g, d.name, d.type));
  for (auto& [name, value] : m.fed_values) impl->fed_defaults.push_back({name, std::move(value)});
  impl->optimization =
      TRY(options.opt == OptLevel::kNone ? FoldOnly(*m.graph) : OptimizeModel(*m.graph));
  const bool bf16_products = options.compute == Compute::kBF16 && WantsBf16Products();
  if (options.compute == Compute::kBF16 && !bf16_products) {  // those round as they pack
    RuleCounts rounded;
    TRY(RoundWeights(*m.graph, rounded));
  }
  if (options.compute == Compute::kInt8) {
    RuleCounts quantised;
    TRY(QuantiseProducts(*m.graph, quantised));
  }
  for (size_t i = 0; i < m.outputs.size(); ++i) {
    // What inference found; the file's word where it found less.
    Type t = g.value(g.outputs()[i]).type;
    const Type& declared = m.outputs[i].type;
    if (t.dtype == DType::kUndefined) t.dtype = declared.dtype;
    if (!t.ranked && declared.ranked && t.kind == declared.kind)
      t = Type{t.kind, t.dtype, true, declared.dims};
    else if (t.ranked && declared.ranked && t.dims.size() == declared.dims.size())
      for (size_t d = 0; d < t.dims.size(); ++d)
        if (t.dims[d] == kUnknownDim) t.dims[d] = declared.dims[d];
    impl->outputs.push_back(Port(g, m.outputs[i].name, t));
  }
  impl->metadata = std::move(m.metadata);
  for (size_t v = 0; v < g.value_count(); ++v) {
    const GraphValue& x = g.value(ValueId(v));
    if (x.is_constant() && !x.uses.empty()) impl->parameters += x.constant.count();
  }
  ProgramContext context;
  context.bf16_products = bf16_products;
  context.mode = options.opt == OptLevel::kNone ? PlanMode::kReference : PlanMode::kFast;
  context.threads =
      options.threads == 0 ? UsableCpus() : std::min(options.threads, ProcessPool().threads());
  context.weights = impl->weights = MakeWeightCache(&ProcessPool(), impl->allocator);
  if (options.tune && options.opt != OptLevel::kNone) {
    impl->tuner = std::make_unique<Tuner>(*options.tune);
    context.ways = impl->tuner->ways();
  }
  impl->program = std::make_shared<const Program>(std::move(m.graph), std::move(context));
  return std::shared_ptr<const Model>(new Model(std::move(impl)));
}

std::span<const PortInfo> Model::inputs() const { return impl_->inputs; }
std::span<const PortInfo> Model::default_inputs() const { return impl_->defaults; }
std::span<const NamedTensor> Model::fed_defaults() const { return impl_->fed_defaults; }
std::span<const PortInfo> Model::outputs() const { return impl_->outputs; }
const std::map<std::string, std::string>& Model::metadata() const { return impl_->metadata; }
const OptimizationReport& Model::optimization() const { return impl_->optimization; }
MemoryUse Model::memory() const {
  return impl_->allocator == nullptr ? MemoryUse{} : impl_->allocator->use();
}
int64_t Model::parameters() const { return impl_->parameters; }
std::string Model::Text() const { return impl_->program->graph().ToText(); }

namespace {
void CountOperators(const Graph& g, std::map<std::string, int>& counts) {
  for (const NodeId id : g.SoundOrder()) {
    const Node& n = g.node(id);
    ++counts[n.op->domain.empty() ? std::string(n.op->name)
                                  : std::string(n.op->domain) + "." + std::string(n.op->name)];
    for (const auto& s : n.subgraphs) CountOperators(*s, counts);
  }
}
}  // namespace

std::vector<OperatorCount> Model::operators() const {
  std::map<std::string, int> counts;
  CountOperators(impl_->program->graph(), counts);
  std::vector<OperatorCount> out;
  for (const auto& [name, count] : counts) out.push_back({name, count});
  return out;
}

namespace {

std::string KindName(const PortInfo& p) {
  if (p.key == DType::kUndefined) return p.sequence ? "a sequence" : "a tensor";
  return fmt::format("a {} of {} to {}", p.sequence ? "sequence of maps" : "map", DTypeName(p.key),
                     DTypeName(p.dtype));
}

Status CheckMap(const PortInfo& port, const Tensor& keys, const Tensor& values) {
  if (!keys.defined() || !values.defined() || keys.dtype() != port.key ||
      values.dtype() != port.dtype)
    return Fail(Code::kInvalidArgument, "input '{}' takes {}, a map of {} to {} was given",
                port.name, KindName(port), DTypeName(keys.dtype()), DTypeName(values.dtype()));
  if (keys.count() != values.count())
    return Fail(Code::kInvalidArgument, "input '{}' has {} keys and {} values", port.name,
                keys.count(), values.count());
  return VisitDType(keys.dtype(), port.name, [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (std::is_same_v<T, std::string> || std::is_integral_v<T>) {
      const auto given = keys.values<T>();
      std::vector<T> sorted(given.begin(), given.end());
      std::sort(sorted.begin(), sorted.end());
      if (const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
          twice != sorted.end())
        return Fail(Code::kInvalidArgument, "input '{}' has the key '{}' twice", port.name, *twice);
    }
    return {};
  });
}

// What a caller gives for an input that is no tensor. What an optional holds shows in the value.
Result<SequenceValue> BindSequence(const PortInfo& port, const Value& v) {
  const bool map = v.kind == Value::Kind::kMap,
             maps = map || !v.keys.empty() || (v.sequence.empty() && port.key != DType::kUndefined);
  if (!port.optional && (port.sequence == map || maps != (port.key != DType::kUndefined)))
    return Fail(Code::kInvalidArgument, "input '{}' takes {}, a {} was given", port.name,
                KindName(port),
                map    ? "map"
                : maps ? "sequence of maps"
                       : "sequence");
  SequenceValue s;
  s.dtype = port.dtype;
  s.items = map ? std::vector<Tensor>{v.tensor} : v.sequence;
  if (!maps) return s;
  s.key = port.key;
  s.keys = v.keys;
  s.is_map = map;
  if (s.keys.size() != s.items.size())
    return Fail(Code::kInvalidArgument, "input '{}' has keys for {} of {} maps", port.name,
                s.keys.size(), s.items.size());
  for (size_t i = 0; i < s.items.size(); ++i) TRY(CheckMap(port, s.keys[i], s.items[i]));
  return s;
}

const Tensor& TensorOf(const NamedTensor& t) { return t.tensor; }
const Tensor& TensorOf(const NamedValue& v) { return v.value.tensor; }
const Value* SequenceOf(const NamedTensor&) { return nullptr; }
const Value* SequenceOf(const NamedValue& v) {
  const bool is = v.value.kind == Value::Kind::kSequence || v.value.kind == Value::Kind::kMap;
  return is ? &v.value : nullptr;
}

Status CheckTensor(const PortInfo& port, const Tensor& t) {
  if (port.sequence || (port.key != DType::kUndefined && !port.optional))
    return Fail(Code::kInvalidArgument, "input '{}' takes {}, a tensor was given", port.name,
                KindName(port));
  if (port.dtype != DType::kUndefined && t.dtype() != port.dtype)
    return Fail(Code::kInvalidArgument, "input '{}' takes elements of {}, {} was given", port.name,
                DTypeName(port.dtype), DTypeName(t.dtype()));
  if (!port.has_shape) return {};
  const bool fits = std::equal(port.dims.begin(), port.dims.end(), t.dims().begin(), t.dims().end(),
                               [](int64_t p, int64_t d) { return !IsKnown(p) || p == d; });
  if (fits) return {};
  return Fail(Code::kInvalidArgument, "input '{}' takes shape {}, {} was given", port.name,
              ToString(port.dims), ToString(t.dims()));
}

// The values of symbols, of which a model has a few.
using Symbols = std::vector<std::pair<const std::string*, int64_t>>;

Status CheckSymbols(const PortInfo& port, const Tensor& t, Symbols& symbols) {
  if (!port.has_shape) return {};
  for (size_t d = 0; d < port.dims.size(); ++d) {
    const std::string& name = port.dim_names[d];
    if (name.empty()) continue;
    const auto s = std::find_if(symbols.begin(), symbols.end(),
                                [&](const auto& symbol) { return *symbol.first == name; });
    if (s == symbols.end())
      symbols.emplace_back(&name, t.dims()[d]);
    else if (s->second != t.dims()[d])
      return Fail(Code::kInvalidArgument, "extent '{}' is {} in input '{}' and {} in another input",
                  name, t.dims()[d], port.name, s->second);
  }
  return {};
}

}  // namespace

template <class Named>
Result<std::vector<RunValue>> Model::Impl::Bind(std::span<const Named> given) const {
  std::vector<RunValue> bound(inputs.size());
  thread_local Symbols symbols;  // its memory is used again
  symbols.clear();
  for (size_t i = 0; i < given.size(); ++i) {
    const Named& v = given[i];
    // Mostly they are in order.
    const auto it = i < inputs.size() && inputs[i].name == v.name
                        ? inputs.begin() + ptrdiff_t(i)
                        : std::find_if(inputs.begin(), inputs.end(),
                                       [&](const PortInfo& p) { return p.name == v.name; });
    if (it == inputs.end()) return UnknownInput(v.name);
    RunValue& slot = bound[size_t(it - inputs.begin())];
    if (slot.present()) return Fail(Code::kInvalidArgument, "input '{}' is given twice", v.name);
    if (const Value* sequence = SequenceOf(v)) {
      slot.sequence = std::make_shared<const SequenceValue>(TRY(BindSequence(*it, *sequence)));
      continue;
    }
    const Tensor& t = TensorOf(v);
    if (!t.defined()) {
      if (it->optional) continue;
      return Fail(Code::kInvalidArgument, "input '{}' has no value", v.name);
    }
    TRY(CheckTensor(*it, t));
    TRY(CheckSymbols(*it, t, symbols));
    slot.tensor = t;
  }
  for (size_t i = 0; i < inputs.size(); ++i)
    if (!bound[i].present() && !inputs[i].optional)
      return Fail(Code::kInvalidArgument, "input '{}' is missing", inputs[i].name);
  return bound;
}

tl::unexpected<Error> Model::Impl::UnknownInput(const std::string& name) const {
  for (const PortInfo& p : defaults)
    if (p.name == name)
      return Fail(Code::kInvalidArgument,
                  "input '{}' has its value in the model; to give another one, load the model "
                  "with fed_defaults",
                  name);
  std::string names;
  for (const PortInfo& p : inputs) names += (names.empty() ? "'" : ", '") + p.name + "'";
  return Fail(Code::kInvalidArgument, "the model has no input '{}'; it has {}", name,
              names.empty() ? "none" : names);
}

Status Model::ragged() const {
  if (const auto& ragged = impl_->Ragged(); !ragged) return Fail(ragged.error());
  return {};
}

Status Model::CheckInputs(std::span<const NamedTensor> inputs) const {
  TRY(impl_->Bind(inputs));
  return {};
}

Status Model::CheckInputs(std::span<const NamedValue> inputs) const {
  TRY(impl_->Bind(inputs));
  return {};
}

namespace {

int64_t MacsOf(const Graph& g, const Node& n) {
  std::vector<Type> in, results;
  for (int i = 0; i < n.formal_inputs(); ++i)
    in.push_back(n.inputs[size_t(i)] == ValueId::kNone ? Type{}
                                                       : g.value(n.inputs[size_t(i)]).type);
  for (const ValueId v : n.outputs)
    results.push_back(v == ValueId::kNone ? Type{} : g.value(v).type);
  const bool known =
      std::all_of(results.begin(), results.end(), [](const Type& t) { return t.IsStatic(); });
  return n.op->impl->macs != nullptr && known ? n.op->impl->macs(*n.attrs, in, results) : 0;
}

}  // namespace

StepProfile DescribeStep(const Plan& plan, const Step& step) {
  const Graph& g = *plan.graph;
  StepProfile p;
  p.op = step.label;
  p.kernel = step.kernel ? std::string(step.kernel->name()) : "dynamic";
  if (step.node != NodeId::kNone) {
    p.name = g.node(step.node).name;
    p.macs = MacsOf(g, g.node(step.node));
    for (const NodeId id : step.more_nodes) p.macs += MacsOf(g, g.node(id));
  }
  const auto bytes = [&](int s) -> int64_t {
    if (s < 0 || !plan.slots[size_t(s)].type.IsStatic()) return 0;
    const Slot& slot = plan.slots[size_t(s)];
    if (slot.kind == Slot::Kind::kConstant) p.parameters += CountOf(slot.type.dims);
    return ByteSize(slot.type.dtype, CountOf(slot.type.dims));
  };
  for (const int s : step.inputs) p.bytes += bytes(s);
  for (const int s : step.outputs) p.bytes += bytes(s);
  for (const int s : step.outputs)
    if (s >= 0 && p.shape.empty())
      p.shape = plan.slots[size_t(s)].type.ranked ? ToString(plan.slots[size_t(s)].type.dims) : "?";
  return p;
}

namespace {
void DescribeSteps(const Plan& plan, std::vector<StepProfile>& out) {
  for (const Step& step : plan.steps) out.push_back(DescribeStep(plan, step));
}
}  // namespace

Result<CostReport> Model::Cost(std::span<const NamedTensor> inputs) const {
  const std::vector<RunValue> bound = TRY(impl_->Bind(inputs));
  Execution execution(impl_->program);
  const Plan* plan = TRY(execution.Prepare(Borrowed(bound).inputs));
  CostReport r;
  DescribeSteps(*plan, r.steps);
  std::map<const void*, std::pair<int64_t, int64_t>> weights;  // each once: (elements, bytes)
  for (const Slot& s : plan->slots)
    if (s.kind == Slot::Kind::kConstant)
      weights[s.constant.origin()] = {s.constant.count(), s.constant.bytes()};
  for (const auto& [data, size] : weights) {
    r.parameters += size.first;
    r.parameter_bytes += size.second;
  }
  for (const StepProfile& s : r.steps) {
    r.macs += s.macs;
    r.memory_access_bytes += s.bytes;
  }
  r.arena_bytes = plan->memory.arena_bytes;
  r.naive_bytes = plan->memory.total_bytes;
  r.max_live_bytes = plan->memory.max_live_bytes;
  r.optimization = plan->optimization;
  return r;
}

struct Session::Impl {
  std::shared_ptr<const Model> model;
  std::optional<Execution> execution;
  RaggedModel::Executions packed;
  const Plan* tuned = nullptr;  // the plan whose choices were measured, or known before
  RunEnvironment env;
  Borrowed borrowed;  // of the run in progress
  int64_t arena_bytes = 0;

  Result<std::vector<RunValue>> Run(std::span<const RunValue> bound, const RunOptions& options);
  template <class F>
  Status ForWanted(const RunOptions& options, const F& take) const;
  template <class Named>
  Result<std::vector<NamedValue>> RunNamed(std::span<const Named> inputs,
                                           const RunOptions& options);

  // Before a run: measures what is not known of the plan for such inputs.
  Status Tune(std::span<const RunInput> inputs) {
    const Model::Impl& m = *model->impl_;
    if (m.tuner == nullptr || !m.tuner->measures()) return {};
    if (TRY(execution->Prepare(inputs)) == tuned) return {};
    // A run tells what choices there are, in sub-graphs too.
    RunEnvironment timed = env;
    timed.timed = true;
    TRY(execution->Run(inputs, timed));
    const std::vector<Choice> unknown = UnknownChoices(execution->Times(), *m.tuner->ways());
    if (!unknown.empty()) {
      execution.emplace(m.program);  // lets go of the weights packed for the cost models' choice
      TRY(m.tuner->Measure(*m.program, *m.weights, unknown, inputs, env));
    }
    tuned = TRY(execution->Prepare(inputs));
    return {};
  }
};

Session::Session(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Session::Session(Session&&) noexcept = default;
Session& Session::operator=(Session&&) noexcept = default;
Session::~Session() = default;

Result<Session> Session::Create(std::shared_ptr<const Model> model, const SessionOptions& options) {
  if (!model) return Fail(Code::kInvalidArgument, "a session needs a model");
  if (options.threads < 0)
    return Fail(Code::kInvalidArgument, "threads is {}; give 0 for all", options.threads);
  auto impl = std::make_unique<Impl>();
  impl->execution.emplace(model->impl_->program);
  impl->model = std::move(model);
  impl->env.pool = &ProcessPool();
  ArenaPool* const own = impl->model->impl_->arenas.get();
  impl->env.arenas = own != nullptr ? own : &ProcessArenas();
  impl->env.threads = options.threads == 0 ? ProcessPool().threads()
                                           : std::min(options.threads, ProcessPool().threads());
  return Session(std::move(impl));
}

Result<std::vector<RunValue>> Session::Impl::Run(std::span<const RunValue> bound,
                                                 const RunOptions& options) {
  RunEnvironment run = env;
  run.cancelled = &options.cancelled;
  if (options.threads > 0) run.threads = std::min(run.threads, options.threads);
  borrowed.Set(bound);
  TRY(Tune(borrowed.inputs));
  std::vector<RunValue> results = TRY(execution->Run(borrowed.inputs, run));
  arena_bytes = std::max(arena_bytes, execution->plan()->memory.arena_bytes);
  return results;
}

// Calls take(index) for each output that is wanted, in the order asked for.
template <class F>
Status Session::Impl::ForWanted(const RunOptions& options, const F& take) const {
  const std::vector<PortInfo>& outputs = model->impl_->outputs;
  if (options.outputs.empty())
    for (size_t i = 0; i < outputs.size(); ++i) TRY(take(i));
  for (const std::string& name : options.outputs) {
    const auto it = std::find_if(outputs.begin(), outputs.end(),
                                 [&](const PortInfo& p) { return p.name == name; });
    if (it == outputs.end())
      return Fail(Code::kInvalidArgument, "the model has no output '{}'", name);
    TRY(take(size_t(it - outputs.begin())));
  }
  return {};
}

template <class Named>
Result<std::vector<NamedValue>> Session::Impl::RunNamed(std::span<const Named> inputs,
                                                        const RunOptions& options) {
  const Model::Impl& m = *model->impl_;
  TRY(ForWanted(options, [](size_t) { return Status(); }));  // unknown names, before the work
  const std::vector<RunValue> bound = TRY(m.Bind(inputs));
  const std::vector<RunValue> results = TRY(Run(bound, options));
  std::vector<NamedValue> out;
  TRY(ForWanted(options, [&](size_t i) -> Status {
    Value v;
    if (const auto& s = results[i].sequence) {
      if (s->is_map) {
        v = Value::Map(s->keys[0], s->items[0]);
      } else {
        v.kind = Value::Kind::kSequence;
        v.sequence = s->items;
        v.keys = s->keys;
      }
    } else if (results[i].tensor.defined()) {
      v = Value(results[i].tensor);
    }
    out.push_back({m.outputs[i].name, std::move(v)});
    return {};
  }));
  return out;
}

Result<std::vector<NamedValue>> Session::RunValues(std::span<const NamedValue> inputs,
                                                   const RunOptions& options) {
  return impl_->RunNamed(inputs, options);
}

Result<std::vector<NamedValue>> Session::Run(std::span<const NamedTensor> inputs,
                                             const RunOptions& options) {
  return impl_->RunNamed(inputs, options);
}

Result<std::vector<NamedTensor>> Session::RunTensors(std::span<const NamedTensor> inputs,
                                                     const RunOptions& options) {
  const Model::Impl& m = *impl_->model->impl_;
  TRY(impl_->ForWanted(options, [](size_t) { return Status(); }));
  const std::vector<RunValue> bound = TRY(m.Bind(inputs));
  const std::vector<RunValue> results = TRY(impl_->Run(bound, options));
  std::vector<NamedTensor> out;
  out.reserve(results.size());
  TRY(impl_->ForWanted(options, [&](size_t i) -> Status {
    if (!results[i].tensor.defined())
      return Fail(Code::kInvalidArgument, "output '{}' is not a tensor", m.outputs[i].name);
    out.push_back({m.outputs[i].name, results[i].tensor});
    return {};
  }));
  return out;
}

Result<std::vector<std::vector<NamedTensor>>> Session::RunRagged(
    std::span<const std::span<const NamedTensor>> requests, const RunOptions& options) {
  Model::Impl& m = *impl_->model->impl_;
  if (!m.Ragged()) return Fail(m.Ragged().error());
  const RaggedModel& ragged = **m.Ragged();
  TRY(impl_->ForWanted(options, [](size_t) { return Status(); }));
  std::vector<std::vector<NamedTensor>> out(requests.size());
  std::vector<std::vector<Tensor>> packed;
  std::vector<size_t> places;
  for (size_t r = 0; r < requests.size(); ++r) {
    const std::vector<RunValue> bound = TRY(m.Bind(requests[r]));
    std::vector<Tensor> tensors;
    for (const RunValue& v : bound) tensors.push_back(v.tensor);
    if (ragged.TokensOf(tensors) == 0) {  // nothing to pack; the model itself says what that means
      out[r] = TRY(RunTensors(requests[r], options));
      continue;
    }
    packed.push_back(std::move(tensors));
    places.push_back(r);
  }
  if (packed.empty()) return out;
  RunEnvironment env = impl_->env;
  env.cancelled = &options.cancelled;
  if (options.threads > 0) env.threads = std::min(env.threads, options.threads);
  const auto results = TRY(ragged.Run(impl_->packed, packed, env));
  impl_->arena_bytes = std::max(impl_->arena_bytes, impl_->packed.arena_bytes);
  for (size_t i = 0; i < results.size(); ++i)
    TRY(impl_->ForWanted(options, [&](size_t o) -> Status {
      out[places[i]].push_back({m.outputs[o].name, results[i][o]});
      return {};
    }));
  return out;
}

Status Session::Prepare(std::span<const NamedTensor> inputs) {
  TRY(Run(inputs));
  return {};
}

namespace {
// Steps with their own times: what a sub-graph took stands in its own rows, behind the step that
// ran it.
double AppendTimes(const RunTimes& t, std::vector<StepProfile>& out) {
  std::vector<StepProfile> rows;
  DescribeSteps(*t.plan, rows);
  double total = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    total += t.microseconds[i];
    const size_t at = out.size();
    out.push_back(std::move(rows[i]));
    out[at].microseconds = t.microseconds[i];
    for (const RunTimes& body : t.bodies[i]) out[at].microseconds -= AppendTimes(body, out);
  }
  return total;
}
}  // namespace

Result<std::vector<StepProfile>> Session::Profile(std::span<const NamedTensor> inputs) {
  const std::vector<RunValue> bound = TRY(impl_->model->impl_->Bind(inputs));
  const Borrowed borrowed(bound);
  TRY(impl_->Tune(borrowed.inputs));
  RunEnvironment env = impl_->env;
  env.timed = true;
  // An execution of its own: times add up over the runs of one.
  Execution execution(impl_->execution->program());
  for (const bool warm : {false, true}) {
    env.timed = warm;
    TRY(execution.Run(borrowed.inputs, env));
  }
  std::vector<StepProfile> steps;
  AppendTimes(execution.Times(), steps);
  return steps;
}

Result<std::vector<TunedStep>> Session::Tuning(std::span<const NamedTensor> inputs) {
  std::vector<TunedStep> steps;
  const Model::Impl& m = *impl_->model->impl_;
  if (m.tuner == nullptr) return steps;
  const std::vector<RunValue> bound = TRY(m.Bind(inputs));
  const Borrowed borrowed(bound);
  TRY(impl_->Tune(borrowed.inputs));
  const Plan* plan = TRY(impl_->execution->Prepare(borrowed.inputs));
  for (const Choice& c : plan->choices) {
    const auto found = m.tuner->ways()->Find(c.key);
    if (!found || found->times.empty()) continue;
    TunedStep step;
    step.name = plan->graph->node(c.node).name;
    step.model_way = found->times[0].way;
    step.model_microseconds = found->times[0].microseconds;
    step.way = c.ways[c.way];
    for (const WayTime& t : found->times)
      if (t.way == step.way) step.microseconds = t.microseconds;
    steps.push_back(std::move(step));
  }
  return steps;
}

int64_t Session::arena_bytes() const { return impl_->arena_bytes; }
const Model& Session::model() const { return *impl_->model; }

std::string_view Version() { return "0.1.0"; }
std::string SimdTarget() { return BestSimdTarget(); }

}  // namespace dunlin
