#include "runtime/plan.h"

#include <fmt/format.h>

#include <unordered_map>

#include "ops/choice.h"
#include "passes/passes.h"
#include "runtime/chain.h"
#include "runtime/parts.h"
#include "runtime/workspace.h"
#include "tensor/memory.h"

namespace dunlin {
namespace {

class Builder {
 public:
  Builder(std::unique_ptr<Graph> graph, const ProgramContext& context, OptimizationReport report)
      : g_(*graph), context_(context), plan_(std::make_shared<Plan>()) {
    plan_->graph = std::move(graph);
    plan_->optimization = std::move(report);
    slot_of_.assign(g_.value_count(), -1);
  }

  Result<std::shared_ptr<const Plan>> Build() {
    for (size_t i = 0; i < g_.inputs().size(); ++i) {
      const ValueId v = g_.inputs()[i];
      if (g_.UseCount(v) == 0 || g_.value(v).is_constant()) {
        plan_->input_slots.push_back(-1);
        continue;
      }
      const int s = NewSlot(g_.value(v).type.IsStatic() ? Slot::Kind::kInput : Slot::Kind::kDynamic,
                            g_.value(v).type);
      slot(s).index = int(i);
      Define(v, s);
      plan_->input_slots.push_back(s);
    }
    for (const NodeId id : TRY(g_.Order())) {
      const Node& n = g_.node(id);
      if (auto s = AddNode(n); !s)
        return FailAt(fmt::format("node '{}' ({})", n.name, n.op->name), s.error());
    }
    if (context_.mode == PlanMode::kFast) {
      PlaceParts(*plan_, pending_);
      MergeChains(*plan_, pending_, context_.chains, context_.threads);
    }
    AddOutputs();
    NoteUses();
    TRY(PlaceMemory());
    context_.weights->Trim();
    return std::shared_ptr<const Plan>(std::move(plan_));
  }

 private:
  Slot& slot(int s) { return plan_->slots[size_t(s)]; }
  int Root(int s) { return slot(s).root; }

  int NewSlot(Slot::Kind kind, const Type& type, Layout layout = Layout::kRowMajor) {
    Slot s;
    s.kind = kind;
    s.type = type;
    s.layout = layout;
    s.root = int(plan_->slots.size());
    plan_->slots.push_back(std::move(s));
    pending_.push_back(0);
    return int(plan_->slots.size()) - 1;
  }
  // Another slot on the memory of `of`.
  int AliasSlot(int of, const Type& type, Layout layout) {
    const int s = NewSlot(slot(of).kind, type, layout);
    slot(s).root = Root(of);
    slot(s).parent = of;
    slot(s).index = slot(of).index;
    slot(s).constant = slot(of).constant;
    return s;
  }
  void Define(ValueId v, int s) {
    slot_of_[size_t(v)] = s;
    pending_[size_t(Root(s))] += int(g_.UseCount(v));
  }
  int SlotOf(ValueId v) {
    int& s = slot_of_[size_t(v)];
    if (s < 0) {
      DUNLIN_CHECK(g_.value(v).is_constant(), "a value is used before it has a place");
      s = NewSlot(Slot::Kind::kConstant, g_.value(v).type);
      slot(s).constant = g_.value(v).constant;
      pending_[size_t(s)] += int(g_.UseCount(v));
    }
    return s;
  }

  // The value stored under this layout; a copy is made the first time it is asked for.
  Result<int> Request(ValueId v, Layout layout) {
    const int s = SlotOf(v);
    if (slot(s).layout == layout || slot(s).kind == Slot::Kind::kDynamic) return s;
    const auto key = std::make_pair(s, layout);
    if (const auto it = reordered_.find(key); it != reordered_.end()) return it->second;
    int t = -1;
    const Type type = slot(s).type;
    if (LayoutsCoincide(type.dims)) {
      t = AliasSlot(s, type, layout);
    } else if (slot(s).kind == Slot::Kind::kConstant) {
      t = NewSlot(Slot::Kind::kConstant, type, layout);
      slot(t).constant = TRY(context_.weights->Get(
          slot(s).constant, layout == Layout::kChannelsLast ? "channels-last" : "row-major",
          [&](const Tensor& w) -> Result<Tensor> {
            Tensor out = TRY(Tensor::Create(w.dtype(), w.dims()));
            ReorderConstant(w, out, layout);
            return out;
          }));
      pending_[size_t(t)] = 1 << 20;
    } else {
      t = NewSlot(Slot::Kind::kArena, type, layout);
      pending_[size_t(t)] = int(g_.UseCount(v));  // at most
      AddCopy(s, t);
    }
    reordered_[key] = t;
    return t;
  }
  static void ReorderConstant(const Tensor& w, const Tensor& out, Layout to);

  void AddCopy(int from, int to) {
    Step step;
    step.kernel = MakeReorderKernel();
    step.inputs = {from};
    step.outputs = {to};
    step.label = slot(from).layout == slot(to).layout ? "copy" : "reorder";
    plan_->steps.push_back(std::move(step));
  }

  bool IsStaticNode(const Node& n) {
    for (const ValueId v : n.inputs)
      if (v != ValueId::kNone && slot(SlotOf(v)).kind == Slot::Kind::kDynamic) return false;
    for (const ValueId v : n.inputs)
      if (v != ValueId::kNone && !g_.value(v).type.IsStatic()) return false;
    for (const ValueId v : n.outputs)
      if (v != ValueId::kNone && !g_.value(v).type.IsStatic()) return false;
    return true;
  }

  void Consume(const Node& n) {
    for (const ValueId v : n.inputs) {
      if (v == ValueId::kNone) continue;
      --pending_[size_t(Root(SlotOf(v)))];
      for (const Layout l : {Layout::kRowMajor, Layout::kChannelsLast})
        if (const auto it = reordered_.find({SlotOf(v), l});
            it != reordered_.end() && Root(it->second) != Root(SlotOf(v)))
          --pending_[size_t(Root(it->second))];
    }
  }

  Status AddNode(const Node& n) {
    Step step;
    step.node = n.id;
    step.label = std::string(n.op->name);
    for (const auto& body : n.subgraphs)
      step.bodies.push_back(std::make_shared<Program>(body->Clone(), context_));
    if (!IsStaticNode(n)) return AddDynamic(n, std::move(step));
    for (const ValueId v : n.outputs) {
      if (v == ValueId::kNone) continue;
      const auto count = ElementCount(g_.value(v).type.dims);
      if (!count || uint64_t(ByteSize(g_.value(v).type.dtype, *count)) > MemoryLimit())
        return Fail(Code::kResourceExhausted, "its result {} does not fit into memory",
                    ToString(g_.value(v).type));
    }
    if (n.op->is_view && n.inputs[0] != ValueId::kNone && n.outputs[0] != ValueId::kNone &&
        g_.value(n.inputs[0]).type.dtype == g_.value(n.outputs[0]).type.dtype) {
      const int in = TRY(Request(n.inputs[0], Layout::kRowMajor));
      const int out = AliasSlot(in, g_.value(n.outputs[0]).type, Layout::kRowMajor);
      Consume(n);
      Define(n.outputs[0], out);
      return {};
    }
    return AddStatic(n, std::move(step));
  }

  Status AddDynamic(const Node& n, Step step) {
    for (size_t i = 0; i < n.inputs.size(); ++i) {
      const int s =
          n.inputs[i] == ValueId::kNone ? -1 : TRY(Request(n.inputs[i], Layout::kRowMajor));
      (int(i) < n.formal_inputs() ? step.inputs : step.captures).push_back(s);
    }
    Consume(n);
    for (const ValueId v : n.outputs) {
      if (v == ValueId::kNone) {
        step.outputs.push_back(-1);
        continue;
      }
      const int s = NewSlot(Slot::Kind::kDynamic, g_.value(v).type);
      Define(v, s);
      step.outputs.push_back(s);
    }
    plan_->steps.push_back(std::move(step));
    return {};
  }

  class Lowering final : public LowerContext, public WayChooser {
   public:
    Lowering(Builder& b, const Node& n, const LayoutPlan& layouts)
        : b_(b), n_(n), layouts_(layouts) {}
    int input_count() const override { return n_.formal_inputs(); }
    int output_count() const override { return int(n_.outputs.size()); }
    bool has(int i) const override {
      return i < n_.formal_inputs() && n_.inputs[size_t(i)] != ValueId::kNone;
    }
    bool wants(int o) const override {
      return o < int(n_.outputs.size()) && n_.outputs[size_t(o)] != ValueId::kNone;
    }
    const Type& input(int i) const override { return b_.g_.value(n_.inputs[size_t(i)]).type; }
    const Type& output(int o) const override { return b_.g_.value(n_.outputs[size_t(o)]).type; }
    const Tensor* value(int i) const override {
      return has(i) && b_.g_.value(n_.inputs[size_t(i)]).is_constant()
                 ? &b_.g_.value(n_.inputs[size_t(i)]).constant
                 : nullptr;
    }
    Layout input_layout(int i) const override { return layouts_.inputs[size_t(i)]; }
    Layout output_layout(int o) const override { return layouts_.outputs[size_t(o)]; }
    WeightCache& weights() override { return *b_.context_.weights; }
    int threads() const override { return b_.context_.threads; }
    bool bf16_products() const override { return b_.context_.bf16_products; }
    size_t First(std::span<const Way> ways) override {
      if (b_.context_.ways == nullptr) return 0;
      choice_ = {n_.id, ChoiceKey(), {}, 0};
      for (const Way& w : ways) choice_.ways.push_back(w.name);
      return b_.context_.ways->First(choice_.key, choice_.ways);
    }
    void Took(std::span<const Way>, size_t way) override {
      if (b_.context_.ways == nullptr) return;
      choice_.way = way;
      b_.plan_->choices.push_back(std::move(choice_));
    }

   private:
    std::string ChoiceKey() const {
      std::string key = fmt::format("{} {} ", n_.op->name, Fingerprint(*n_.attrs));
      for (int i = 0; i < input_count(); ++i) {
        if (!has(i)) continue;
        key += fmt::format("{}:{}{}{} ", i, ToString(input(i)),
                           input_layout(i) == Layout::kChannelsLast ? " channels-last" : "",
                           value(i) != nullptr ? " constant" : "");
      }
      return key + fmt::format("threads {}{}", threads(), bf16_products() ? " bf16" : "");
    }
    Builder& b_;
    const Node& n_;
    const LayoutPlan& layouts_;
    Choice choice_;
  };

  LayoutPlan RowMajor(const Node& n) const {
    return {std::vector<Layout>(size_t(n.formal_inputs()), Layout::kRowMajor),
            std::vector<Layout>(n.outputs.size(), Layout::kRowMajor)};
  }

  LayoutPlan ChooseLayouts(const Node& n) {
    if (n.op->impl->layouts == nullptr || context_.mode == PlanMode::kReference) return RowMajor(n);
    std::vector<Type> in, out;
    std::vector<Layout> current;
    LayoutQuery q;
    for (int i = 0; i < n.formal_inputs(); ++i) {
      const ValueId v = n.inputs[size_t(i)];
      in.push_back(v == ValueId::kNone ? Type{} : g_.value(v).type);
      current.push_back(v == ValueId::kNone ? Layout::kRowMajor : slot(SlotOf(v)).layout);
      q.constant.push_back(v != ValueId::kNone && g_.value(v).is_constant());
    }
    for (const ValueId v : n.outputs)
      out.push_back(v == ValueId::kNone ? Type{} : g_.value(v).type);
    q.inputs = in;
    q.outputs = out;
    q.current = current;
    LayoutPlan p = n.op->impl->layouts(*n.attrs, q);
    p.inputs.resize(size_t(n.formal_inputs()), Layout::kRowMajor);
    p.outputs.resize(n.outputs.size(), Layout::kRowMajor);
    return p;
  }

  Status AddStatic(const Node& n, Step step) {
    LayoutPlan layouts = ChooseLayouts(n);
    if (n.op->impl->lower != nullptr && context_.mode == PlanMode::kFast) {
      Lowering ctx(*this, n, layouts);
      step.kernel = TRY(n.op->impl->lower(*n.attrs, ctx));
    }
    if (!step.kernel) {
      layouts = RowMajor(n);
      step.kernel = MakeReferenceKernel(n);
    }
    for (int i = 0; i < n.formal_inputs(); ++i) {
      const ValueId v = n.inputs[size_t(i)];
      step.inputs.push_back(v == ValueId::kNone ? -1 : TRY(Request(v, layouts.inputs[size_t(i)])));
    }
    for (int c = 0; c < n.captures; ++c)
      step.captures.push_back(
          TRY(Request(n.inputs[size_t(n.formal_inputs() + c)], Layout::kRowMajor)));
    Consume(n);
    const int reuse =
        n.outputs[0] == ValueId::kNone ? -1 : InPlaceInput(n, step, layouts.outputs[0]);
    for (size_t o = 0; o < n.outputs.size(); ++o) {
      const ValueId v = n.outputs[o];
      if (v == ValueId::kNone) {
        step.outputs.push_back(-1);
        continue;
      }
      const Type& type = g_.value(v).type;
      const bool boxed =
          type.dtype == DType::kString;  // strings have constructors; they never live in the arena
      const int s = o == 0 && reuse >= 0
                        ? AliasSlot(reuse, type, layouts.outputs[0])
                        : NewSlot(boxed ? Slot::Kind::kDynamic : Slot::Kind::kArena, type,
                                  layouts.outputs[o]);
      slot(s).in_place = o == 0 && reuse >= 0;
      Define(v, s);
      step.outputs.push_back(s);
    }
    // A step whose result is a string tensor runs as a dynamic one: it allocates.
    for (const int o : step.outputs)
      if (o >= 0 && slot(o).kind == Slot::Kind::kDynamic) {
        step.kernel.reset();
        break;
      }
    step.scratch_bytes = step.kernel ? int64_t(step.kernel->scratch_bytes()) : 0;
    plan_->steps.push_back(std::move(step));
    return {};
  }

  // The input slot whose memory the first output may take over, or -1.
  int InPlaceInput(const Node& n, const Step& step, Layout layout) {
    const int which = n.op->impl->in_place;
    if (which == -1 || step.kernel->name() == "reference") return -1;
    const Type& out = g_.value(n.outputs[0]).type;
    for (int i = 0; i < n.formal_inputs(); ++i) {
      if (which >= 0 && i != which) continue;
      const int s = step.inputs[size_t(i)];
      if (s < 0 || slot(s).kind != Slot::Kind::kArena || slot(s).layout != layout) continue;
      if (slot(s).type.dtype != out.dtype || slot(s).type.dims != out.dims) continue;
      if (pending_[size_t(Root(s))] == 0) return s;
    }
    return -1;
  }

  void AddOutputs() {
    for (size_t i = 0; i < g_.outputs().size(); ++i) {
      const ValueId v = g_.outputs()[i];
      int s = SlotOf(v);
      if (slot(s).kind == Slot::Kind::kDynamic) {
        plan_->output_slots.push_back(s);
        continue;
      }
      const int root = Root(s);
      const bool takes_over = slot(root).kind == Slot::Kind::kArena &&
                              slot(s).layout == Layout::kRowMajor &&
                              slot(root).type.dtype == slot(s).type.dtype &&
                              CountOf(slot(root).type.dims) == CountOf(slot(s).type.dims);
      if (takes_over) {
        for (Slot& other : plan_->slots) {
          if (other.root != root) continue;
          other.kind = Slot::Kind::kOutput;
          other.index = int(i);
        }
      } else {
        const int out = NewSlot(
            g_.value(v).type.dtype == DType::kString ? Slot::Kind::kDynamic : Slot::Kind::kOutput,
            g_.value(v).type);
        slot(out).index = int(i);
        AddCopy(s, out);
        s = out;
      }
      plan_->output_slots.push_back(s);
    }
  }

  // What the steps make of the constants.
  void NoteUses() {
    const auto note = [&](int s, InputUse use) {
      if (s >= 0) slot(s).use = std::max(slot(s).use, use);
    };
    for (const Step& step : plan_->steps) {
      for (size_t i = 0; i < step.inputs.size(); ++i)
        note(step.inputs[i], step.kernel ? step.kernel->uses(int(i)) : InputUse::kValues);
      for (const int s : step.captures) note(s, InputUse::kValues);
    }
    for (const int s : plan_->output_slots) note(s, InputUse::kValues);
  }

  Status PlaceMemory() {
    std::vector<Lifetime> lives;
    std::unordered_map<int, size_t> of_root;
    std::vector<std::pair<int, size_t>> of_scratch;
    for (int i = 0; i < int(plan_->steps.size()); ++i) {
      Step& step = plan_->steps[size_t(i)];
      const auto touch = [&](int s) {
        if (s < 0 || slot(s).kind != Slot::Kind::kArena) return;
        const int root = Root(s);
        const auto [it, fresh] = of_root.try_emplace(root, lives.size());
        if (fresh)
          lives.push_back({ByteSize(slot(root).type.dtype, CountOf(slot(root).type.dims)), i, i});
        lives[it->second].last = i;
      };
      for (const int s : step.inputs) touch(s);
      for (const int s : step.captures) touch(s);
      for (const int s : step.outputs) touch(s);
      if (step.scratch_bytes > 0) {
        of_scratch.emplace_back(i, lives.size());
        lives.push_back({step.scratch_bytes, i, i});
      }
    }
    plan_->memory = PlanMemory(lives);
    // Outputs are allocated together with the arena, before anything is written.
    int64_t all = plan_->memory.arena_bytes;
    for (const int s : plan_->output_slots)
      if (slot(s).kind == Slot::Kind::kOutput)
        all += ByteSize(slot(s).type.dtype, CountOf(slot(s).type.dims));
    if (uint64_t(all) > MemoryLimit())
      return Fail(Code::kResourceExhausted,
                  "activations and outputs need {} MiB, this machine allows {} MiB; use smaller "
                  "inputs",
                  all >> 20, MemoryLimit() >> 20);
    for (Slot& s : plan_->slots)
      if (s.kind == Slot::Kind::kArena)
        if (const auto it = of_root.find(s.root); it != of_root.end())
          s.offset = plan_->memory.offsets[it->second] + s.part_offset;
    for (const auto& [step, life] : of_scratch)
      plan_->steps[size_t(step)].scratch_offset = plan_->memory.offsets[life];
    return {};
  }

  Graph& g_;
  const ProgramContext& context_;
  std::shared_ptr<Plan> plan_;
  std::vector<int> slot_of_;
  std::vector<int> pending_;  // per root slot: uses of its values that no step has made yet
  std::map<std::pair<int, Layout>, int> reordered_;
};

void Builder::ReorderConstant(const Tensor& w, const Tensor& out, Layout to) {
  TensorView x = w.view(), y = out.view();
  x.layout = to == Layout::kChannelsLast ? Layout::kRowMajor : Layout::kChannelsLast;
  y.layout = to;
  CopyView(x, y);
}

std::string KeyOf(std::span<const Type> inputs) {
  std::string key;
  for (const Type& t : inputs) {
    key += ToString(t);
    key += ';';
  }
  return key;
}

// Dynamic widths make many plans; the least recently used go.
constexpr size_t kMaxPlans = 64;

}  // namespace

Result<std::shared_ptr<const Plan>> BuildPlan(const Graph& graph, std::span<const Type> inputs,
                                              const ProgramContext& context) {
  std::unique_ptr<Graph> g = graph.Clone();
  DUNLIN_CHECK(inputs.size() == g->inputs().size(), "a plan for another number of inputs");
  for (size_t i = 0; i < inputs.size(); ++i) {
    GraphValue& v = g->value(g->inputs()[i]);
    if (!v.is_constant()) v.type = inputs[i];
  }
  OptimizationReport report =
      TRY(context.mode == PlanMode::kFast ? OptimizeForShapes(*g) : FoldOnly(*g));
  return Builder(std::move(g), context, std::move(report)).Build();
}

Result<std::shared_ptr<const Plan>> Program::PlanFor(std::span<const Type> inputs) const {
  const std::string key = KeyOf(inputs);
  std::lock_guard lock(mutex_);
  for (auto it = plans_.begin(); it != plans_.end(); ++it)
    if (it->first == key) {
      plans_.splice(plans_.begin(), plans_, it);
      return plans_.front().second;
    }
  auto plan = TRY(BuildPlan(*graph_, inputs, context_));
  plans_.emplace_front(key, plan);
  if (plans_.size() > kMaxPlans) plans_.pop_back();
  return plan;
}

void Program::DropPlans() const {
  std::lock_guard lock(mutex_);
  plans_.clear();
}

}  // namespace dunlin
