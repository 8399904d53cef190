#include "dunlin/check.h"

#include <algorithm>
#include <limits>
#include <map>
#include <set>
#include <unordered_map>

#include "base/thread_pool.h"
#include "dunlin/describe.h"
#include "dunlin/operators.h"
#include "formats/onnx_describe.h"
#include "kernels/simd_targets.h"
#include "passes/passes.h"
#include "runtime/plan.h"
#include "runtime/weight_cache.h"

namespace dunlin {
namespace {

std::string FolderOf(const std::string& path) {
  const size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : path.substr(0, slash + 1);
}

std::string NameOf(const OpDef& op) {
  return op.domain.empty() ? std::string(op.name) : fmt::format("{}.{}", op.domain, op.name);
}

void Describe(const OnnxDescription& d, ModelCheck& check) {
  check.ir_version = d.ir_version;
  check.producer = d.producer;
  check.graph = d.graph;
  check.opsets = d.opsets;
  check.nodes = int(d.nodes.size());
  check.functions = d.functions;
  const Graph symbols(d.symbols);
  const auto ports = [&](const std::vector<DeclaredPort>& declared, std::vector<PortInfo>& out) {
    for (const DeclaredPort& p : declared) out.push_back(Port(symbols, p.name, p.type));
  };
  ports(d.inputs, check.inputs);
  ports(d.outputs, check.outputs);
  std::map<std::string, MissingOperator> missing;
  for (const OnnxNode* n : d.Missing()) {
    MissingOperator& m = missing[n->Operator()];
    if (m.count++ == 0) {
      m.name = n->Operator();
      m.opset = d.Opset(n->domain);
      m.advice = AdviceForMissing(n->domain, n->op, m.opset);
    }
    m.nodes.push_back(n->name);
  }
  for (auto& [name, m] : missing) check.missing.push_back(std::move(m));
}

// Files are read whose opset is older than an operator that they use; other engines may not.
void NoteVersion(const OnnxNode& n, int opset, ModelCheck& check) {
  const int first = FirstVersion(n.op, n.domain);
  if (opset > 0 && first > opset)
    check.notes.push_back(fmt::format(
        "{} came with opset {} of its domain, the model declares {}: read as of opset {}",
        n.Operator(), first, opset, first));
}

// Where the nodes of a file end up. Three graphs tell: as imported, with constants folded, and as
// it is executed; the first two have a node of the file's name for everything that is computed.
class Paths {
 public:
  Paths(const Graph& imported, const Plan& plain, const Plan& fast)
      : imported_(ByName(imported)), plain_(*plain.graph), fast_(*fast.graph) {
    plain_names_ = ByName(plain_);
    for (const Step& step : fast.steps) {
      if (step.node == NodeId::kNone) continue;
      const std::string kernel = KernelOf(step, fast_.node(step.node));
      kernels_[fast_.node(step.node).name] = kernel;
      for (const NodeId id : step.more_nodes) kernels_[fast_.node(id).name] = kernel;
    }
    for (const NodeId id : fast_.SoundOrder()) {
      const Node& n = fast_.node(id);
      kernels_.try_emplace(n.name, n.op->is_view ? "view" : "");
      AddBodies(n);
    }
    FindNext();
  }

  static std::string KernelOf(const Step& step, const Node& n) {
    // Without what the name says of this one step: "conv.winograd_4x4 (error 2e-06)".
    if (step.kernel)
      return std::string(step.kernel->name().substr(0, step.kernel->name().find(" (")));
    if (!step.bodies.empty()) return "control flow";
    return n.op->impl->lower != nullptr ? "chosen while running" : "reference";
  }

  DType TypeOf(const std::string& name) const {
    const Node* n = Find(imported_, name);
    if (n == nullptr) return DType::kUndefined;
    const Graph& g = *graph_of_.at(n);
    for (const auto& values : {n->inputs, n->outputs})
      for (const ValueId v : values)
        if (v != ValueId::kNone && g.value(v).type.dtype != DType::kUndefined)
          return g.value(v).type.dtype;
    return DType::kUndefined;
  }

  std::string Of(const std::string& name) const {
    if (const auto it = kernels_.find(name); it != kernels_.end() && !it->second.empty())
      return it->second;
    if (const Node* n = Find(plain_names_, name)) {
      if (graph_of_.at(n) != &plain_) return "in a sub-graph";
      const std::string_view next = next_.at(n).kernel;
      return next.empty() ? "left out" : fmt::format("in {}", next);
    }
    // The importer wrote it as several nodes, named after it.
    std::string all;
    for (auto it = kernels_.lower_bound(name + "/");
         it != kernels_.end() && it->first.starts_with(name + "/"); ++it)
      if (!it->second.empty() && all.find(it->second) == std::string::npos)
        all += (all.empty() ? "" : " + ") + it->second;
    if (!all.empty()) return all;
    return bodies_.contains(name) ? "in a sub-graph" : "folded away";
  }

 private:
  using Names = std::unordered_map<std::string, const Node*>;

  Names ByName(const Graph& g) {
    Names names;
    Collect(g, names);
    return names;
  }
  void Collect(const Graph& g, Names& names) {
    for (const NodeId id : g.SoundOrder()) {
      const Node& n = g.node(id);
      names.try_emplace(n.name, &n);
      graph_of_[&n] = &g;
      for (const auto& body : n.subgraphs) Collect(*body, names);
    }
  }
  static const Node* Find(const Names& names, const std::string& name) {
    const auto it = names.find(name);
    return it == names.end() ? nullptr : it->second;
  }
  void AddBodies(const Node& n) {
    for (const auto& body : n.subgraphs)
      for (const NodeId id : body->SoundOrder()) {
        bodies_.insert(body->node(id).name);
        AddBodies(body->node(id));
      }
  }
  // For every node of the graph with constants folded, the step that took it in: that of the
  // nearest node behind it that has one.
  void FindNext() {
    const auto order = plain_.SoundOrder();
    for (auto id = order.rbegin(); id != order.rend(); ++id) {
      Behind& mine = next_[&plain_.node(*id)];
      for (const ValueId v : plain_.node(*id).outputs) {
        if (v == ValueId::kNone) continue;
        for (const Use& use : plain_.value(v).uses) {
          const Node& user = plain_.node(use.node);
          const auto it = kernels_.find(user.name);
          const bool step = it != kernels_.end() && !it->second.empty() && it->second != "view";
          const Behind through = step ? Behind{1, it->second} : next_[&user].Further();
          if (through.steps < mine.steps) mine = through;
        }
      }
    }
  }

  struct Behind {
    int steps = std::numeric_limits<int>::max();
    std::string_view kernel{};
    Behind Further() const { return kernel.empty() ? *this : Behind{steps + 1, kernel}; }
  };
  std::unordered_map<const Node*, Behind> next_;
  std::unordered_map<const Node*, const Graph*> graph_of_;
  Names imported_, plain_names_;
  const Graph& plain_;
  const Graph& fast_;
  std::map<std::string, std::string> kernels_;  // "": of a node that no step executes
  std::set<std::string> bodies_;
};

std::string WhyReference(const Node& n) {
  return n.op->impl->lower == nullptr ? "there is no fast kernel for it"
                                      : "its fast kernels do not take these types or extents";
}

void AddSteps(const Plan& plan, ModelCheck& check) {
  const Graph& g = *plan.graph;
  for (const Step& step : plan.steps) {
    if (step.node == NodeId::kNone || !step.bodies.empty()) continue;
    const Node& n = g.node(step.node);
    StepProfile p = DescribeStep(plan, step);
    const bool fast =
        step.kernel ? step.kernel->name() != "reference" : n.op->impl->lower != nullptr;
    ++check.steps;
    check.fast_steps += fast;
    check.macs += p.macs;
    check.bytes += p.bytes;
    if (fast) {
      check.fast_macs += p.macs;
      check.fast_bytes += p.bytes;
      continue;
    }
    DType type = DType::kUndefined;
    for (const ValueId v : n.inputs)
      if (type == DType::kUndefined && v != ValueId::kNone) type = g.value(v).type.dtype;
    check.slow.push_back({n.name, NameOf(*n.op), std::string(DTypeName(type)), p.shape,
                          WhyReference(n), p.macs, p.bytes});
  }
  std::ranges::stable_sort(check.slow, [](const SlowStep& a, const SlowStep& b) {
    return std::pair(a.macs, a.bytes) > std::pair(b.macs, b.bytes);
  });
}

void AddUses(const OnnxDescription& d, const Paths* paths, ModelCheck& check) {
  std::map<std::string, OperatorUse> uses;
  for (const OnnxNode& n : d.nodes) {
    OperatorUse& use = uses[n.Operator()];
    use.name = n.Operator();
    if (use.count++ == 0) NoteVersion(n, d.Opset(n.domain), check);
    if (paths == nullptr) continue;
    ++use.paths[n.op == "Constant" && n.domain.empty() ? "folded away" : paths->Of(n.name)];
    const DType type = paths->TypeOf(n.name);
    if (type == DType::kUndefined) continue;
    const std::string name(DTypeName(type));
    if (std::ranges::find(use.types, name) != use.types.end()) continue;
    use.types.push_back(name);
    // Types are checked while running: what the operator's sample says is what the node would.
    if (const auto refusal = Refusal(n.op, n.domain, d.Opset(n.domain), type))
      check.errors.push_back(
          {refusal->code, fmt::format("node '{}': {}", n.name, refusal->message)});
  }
  for (auto& [name, use] : uses) check.operators.push_back(std::move(use));
}

// The extents of what was chosen, for the inputs of the graph.
std::vector<Type> TypesFor(const Graph& g, std::span<const NamedTensor> inputs) {
  std::vector<Type> types;
  for (const ValueId v : g.inputs()) {
    Type type = g.value(v).type;
    for (const NamedTensor& t : inputs)
      if (t.name == g.value(v).name) type = Type::Of(t.tensor.dtype(), t.tensor.dims());
    types.push_back(std::move(type));
  }
  return types;
}

Status Plans(std::span<const std::byte> bytes, std::shared_ptr<Buffer> file,
             const std::string& folder, const OnnxDescription& d, ModelCheck& check) {
  ThreadPool pool(UsableCpus());
  const ImportedModel model = TRY(ImportOnnx(bytes, std::move(file), folder));
  const std::vector<Type> types = TypesFor(*model.graph, check.used);
  ProgramContext context;
  context.threads = pool.threads();
  context.weights = MakeWeightCache(&pool);
  const std::unique_ptr<Graph> optimised = model.graph->Clone();
  TRY(OptimizeModel(*optimised));
  const auto fast = TRY(BuildPlan(*optimised, types, context));
  context.mode = PlanMode::kReference;
  const auto plain = TRY(BuildPlan(*model.graph, types, context));
  const Paths paths(*model.graph, *plain, *fast);
  AddUses(d, &paths, check);
  AddSteps(*fast, check);
  check.planned = true;
  return {};
}

}  // namespace

Result<ModelCheck> CheckModel(const std::string& path, const ChooseInputs& choose) {
  BestSimdTarget();  // before weights are packed for it
  auto file = TRY(Buffer::MapFile(path));
  const std::span<const std::byte> bytes(file->data(), file->bytes());
  const auto description = DescribeOnnx(bytes);
  if (!description) return FailAt(path, description.error());
  ModelCheck check;
  check.file_bytes = int64_t(bytes.size());
  Describe(*description, check);

  const auto model = Model::Load(path);
  if (!model) {
    if (check.missing.empty()) check.errors = ImportErrors(bytes, file, FolderOf(path));
    if (check.missing.empty() && check.errors.empty()) check.errors.push_back(model.error());
    AddUses(*description, nullptr, check);
    return check;
  }
  auto inputs = choose((*model)->inputs());
  Status usable = inputs ? (*model)->CheckInputs(*inputs) : Status(Fail(inputs.error()));
  if (usable) {
    check.used = std::move(*inputs);
    usable = Plans(bytes, file, FolderOf(path), *description, check);
  }
  if (usable) return check;
  AddUses(*description, nullptr, check);
  check.notes.push_back(
      fmt::format("no plan for open extents taken as 1: {}", usable.error().message));
  return check;
}

}  // namespace dunlin
