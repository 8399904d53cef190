#include "ir/graph.h"

#include <algorithm>
#include <queue>
#include <unordered_map>

namespace dunlin {

int64_t SymbolTable::Intern(const std::string& name) {
  const auto it = std::find(names.begin(), names.end(), name);
  if (it != names.end()) return SymbolDim(int(it - names.begin()));
  names.push_back(name);
  return SymbolDim(int(names.size()) - 1);
}

std::unique_ptr<Graph> Graph::Clone() const {
  auto g = std::make_unique<Graph>(symbols_);
  g->values_ = values_;
  g->inputs_ = inputs_;
  g->outputs_ = outputs_;
  g->next_position_ = next_position_;
  g->nodes_.resize(nodes_.size());
  for (size_t i = 0; i < nodes_.size(); ++i) {
    if (!nodes_[i]) continue;
    const Node& n = *nodes_[i];
    auto m = std::make_unique<Node>();
    m->id = n.id;
    m->op = n.op;
    m->name = n.name;
    m->attrs = n.attrs;
    m->inputs = n.inputs;
    m->outputs = n.outputs;
    m->captures = n.captures;
    m->position = n.position;
    for (const auto& s : n.subgraphs) m->subgraphs.push_back(s->Clone());
    g->nodes_[i] = std::move(m);
  }
  return g;
}

ValueId Graph::NewValue(std::string name, Type type) {
  GraphValue v;
  v.name = std::move(name);
  v.type = std::move(type);
  values_.push_back(std::move(v));
  return ValueId(values_.size() - 1);
}

ValueId Graph::AddInput(std::string name, Type type) {
  const ValueId v = NewValue(std::move(name), std::move(type));
  value(v).is_input = true;
  inputs_.push_back(v);
  return v;
}

ValueId Graph::AddConstant(std::string name, Tensor t) {
  const ValueId v = NewValue(std::move(name), Type::Of(t.dtype(), t.dims()));
  value(v).constant = std::move(t);
  return v;
}

Node& Graph::AddNode(const OpDef& op, std::shared_ptr<const Attrs> attrs,
                     std::vector<ValueId> inputs, std::span<const std::string> output_names,
                     std::string name) {
  auto n = std::make_unique<Node>();
  n->id = NodeId(nodes_.size());
  n->op = &op;
  n->attrs = attrs ? std::move(attrs) : DefaultAttrs(op);
  n->name = std::move(name);
  n->inputs = std::move(inputs);
  n->position = next_position_++;
  for (size_t i = 0; i < n->inputs.size(); ++i)
    if (n->inputs[i] != ValueId::kNone) value(n->inputs[i]).uses.push_back({n->id, int(i)});
  for (size_t i = 0; i < output_names.size(); ++i) {
    if (output_names[i].empty()) {
      n->outputs.push_back(ValueId::kNone);
      continue;
    }
    const ValueId v = NewValue(output_names[i], Type{});
    value(v).producer = n->id;
    value(v).output_index = int(i);
    n->outputs.push_back(v);
  }
  nodes_.push_back(std::move(n));
  return *nodes_.back();
}

Node& Graph::AddNode(const OpDef& op, std::shared_ptr<const Attrs> attrs,
                     std::vector<ValueId> inputs, std::string name) {
  const std::string out[] = {name};
  return AddNode(op, std::move(attrs), std::move(inputs), out, name);
}

bool Graph::IsOutput(ValueId v) const {
  return std::find(outputs_.begin(), outputs_.end(), v) != outputs_.end();
}

size_t Graph::UseCount(ValueId v) const {
  return value(v).uses.size() + size_t(std::count(outputs_.begin(), outputs_.end(), v));
}

void Graph::DropUse(ValueId v, NodeId n, int index) {
  auto& uses = value(v).uses;
  const auto it = std::find(uses.begin(), uses.end(), Use{n, index});
  DUNLIN_CHECK(it != uses.end(), "a use that was never recorded");
  uses.erase(it);
}

void Graph::SetInput(Node& n, int index, ValueId v) {
  ValueId& slot = n.inputs[size_t(index)];
  if (slot == v) return;
  if (slot != ValueId::kNone) DropUse(slot, n.id, index);
  slot = v;
  if (v != ValueId::kNone) value(v).uses.push_back({n.id, index});
}

void Graph::AppendInput(Node& n, ValueId v) {
  n.inputs.push_back(ValueId::kNone);
  SetInput(n, int(n.inputs.size()) - 1, v);
}

void Graph::RemoveInput(Node& n, int index) {
  for (int i = index; i + 1 < int(n.inputs.size()); ++i) SetInput(n, i, n.inputs[size_t(i) + 1]);
  SetInput(n, int(n.inputs.size()) - 1, ValueId::kNone);
  n.inputs.pop_back();
}

void Graph::ReplaceAllUses(ValueId from, ValueId to) {
  if (from == to) return;
  const std::vector<Use> uses = value(from).uses;
  for (const Use& u : uses) SetInput(node(u.node), u.index, to);
  std::replace(outputs_.begin(), outputs_.end(), from, to);
}

void Graph::Erase(NodeId id) {
  Node& n = node(id);
  for (const ValueId v : n.outputs) {
    if (v == ValueId::kNone) continue;
    DUNLIN_CHECK(value(v).is_constant() || UseCount(v) == 0, "erasing a node whose result is used");
    value(v).producer = NodeId::kNone;
  }
  for (size_t i = 0; i < n.inputs.size(); ++i)
    if (n.inputs[i] != ValueId::kNone) DropUse(n.inputs[i], id, int(i));
  nodes_[size_t(id)].reset();
}

void Graph::RemoveGraphInput(int index) {
  DUNLIN_CHECK(UseCount(inputs_[size_t(index)]) == 0, "removing an input that is used");
  value(inputs_[size_t(index)]).is_input = false;
  inputs_.erase(inputs_.begin() + index);
}

void Graph::MakeConstant(ValueId v, Tensor t) {
  value(v).type = Type::Of(t.dtype(), t.dims());
  value(v).constant = std::move(t);
}

Result<std::vector<NodeId>> Graph::Order() const {
  std::vector<int> missing(nodes_.size(), 0);
  using Entry = std::pair<double, NodeId>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> ready;
  size_t total = 0;
  for (const auto& n : nodes_) {
    if (!n) continue;
    ++total;
    for (const ValueId v : n->inputs)
      if (v != ValueId::kNone && value(v).producer != NodeId::kNone && !value(v).is_constant())
        ++missing[size_t(n->id)];
    if (missing[size_t(n->id)] == 0) ready.push({n->position, n->id});
  }
  std::vector<NodeId> order;
  order.reserve(total);
  while (!ready.empty()) {
    const NodeId id = ready.top().second;
    ready.pop();
    order.push_back(id);
    for (const ValueId v : node(id).outputs) {
      if (v == ValueId::kNone || value(v).is_constant()) continue;
      for (const Use& u : value(v).uses)
        if (--missing[size_t(u.node)] == 0) ready.push({node(u.node).position, u.node});
    }
  }
  if (order.size() != total)
    for (const auto& n : nodes_)
      if (n && missing[size_t(n->id)] > 0)
        return Fail(Code::kInvalidArgument, "the graph has a cycle through node '{}' ({})", n->name,
                    n->op->name);
  return order;
}

std::vector<NodeId> Graph::SoundOrder() const {
  auto order = Order();
  DUNLIN_CHECK(order.has_value(), "a pass made a cycle");
  return std::move(*order);
}

int Graph::RemoveDeadNodes() {
  int removed = 0;
  auto order = SoundOrder();
  for (auto it = order.rbegin(); it != order.rend(); ++it) {
    Node& n = node(*it);
    const bool live = std::any_of(n.outputs.begin(), n.outputs.end(), [&](ValueId v) {
      return v != ValueId::kNone && !value(v).is_constant() && UseCount(v) > 0;
    });
    if (live) {
      // Captures that no sub-graph reads any more are dropped, so that what computes them can die
      // too.
      for (const auto& s : n.subgraphs) removed += s->RemoveDeadNodes();
      for (int c = n.captures - 1; c >= 0; --c) {
        const int from_end = n.captures - c;
        const bool used = std::any_of(n.subgraphs.begin(), n.subgraphs.end(), [&](const auto& s) {
          return s->UseCount(s->inputs()[s->inputs().size() - size_t(from_end)]) > 0;
        });
        if (used) continue;
        for (const auto& s : n.subgraphs) s->RemoveGraphInput(int(s->inputs().size()) - from_end);
        RemoveInput(n, int(n.inputs.size()) - from_end);
        --n.captures;
      }
      continue;
    }
    Erase(n.id);
    ++removed;
  }
  return removed;
}

Status Graph::Verify() const {
  for (const auto& n : nodes_) {
    if (!n) continue;
    const auto bad = [&](std::string_view what) {
      return Fail(Code::kInternal, "node '{}' ({}): {}", n->name, n->op->name, what);
    };
    for (size_t i = 0; i < n->inputs.size(); ++i) {
      const ValueId v = n->inputs[i];
      if (v == ValueId::kNone) continue;
      if (size_t(v) >= values_.size()) return bad("an input that does not exist");
      const GraphValue& x = value(v);
      if (std::find(x.uses.begin(), x.uses.end(), Use{n->id, int(i)}) == x.uses.end())
        return bad("a use that is not recorded");
      if (!x.is_input && !x.is_constant() && x.producer == NodeId::kNone)
        return bad("an input nobody defines");
    }
    for (const ValueId v : n->outputs)
      if (v != ValueId::kNone && value(v).producer != n->id)
        return bad("an output that says another node made it");
    const int formal = n->formal_inputs();
    if (formal < n->op->min_inputs || (n->op->max_inputs >= 0 && formal > n->op->max_inputs))
      return bad("a wrong number of inputs");
    for (const auto& s : n->subgraphs) {
      if (int(s->inputs().size()) < n->captures) return bad("a sub-graph without its captures");
      if (auto st = s->Verify(); !st) return st;
    }
  }
  for (const ValueId v : outputs_) {
    const GraphValue& x = value(v);
    if (!x.is_input && !x.is_constant() && x.producer == NodeId::kNone)
      return Fail(Code::kInternal, "graph output '{}' is not defined", x.name);
  }
  if (auto order = Order(); !order) return Fail(Code::kInternal, "{}", order.error().message);
  return {};
}

}  // namespace dunlin
