// Names of an ONNX graph: which are free, and an order of nodes in which each is defined before it
// is read.
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "formats/onnx/internal.h"
#include "formats/onnx/messages.pb.h"

namespace dunlin::onnx_import {

std::string Place(const onnx::NodeProto& n) {
  const std::string& name = !n.name().empty() ? n.name()
                            : n.output_size() ? n.output(0)
                                              : n.op_type();
  return fmt::format("node '{}' ({})", name, n.op_type());
}

std::vector<std::string> FreeNames(const onnx::GraphProto& g) {
  std::unordered_set<std::string> known;  // defined inside, or in the list already
  for (const auto& i : g.input()) known.insert(i.name());
  for (const auto& i : g.initializer()) known.insert(i.name());
  for (const auto& i : g.sparse_initializer()) known.insert(i.values().name());
  for (const auto& n : g.node())
    for (const auto& o : n.output()) known.insert(o);
  std::vector<std::string> out;
  const auto need = [&](const std::string& name) {
    if (!name.empty() && known.insert(name).second) out.push_back(name);
  };
  for (const auto& n : g.node()) {
    for (const auto& i : n.input()) need(i);
    // Protobuf's own limit on nesting ends the recursion.
    for (const auto& a : n.attribute())
      if (a.has_g())
        for (const std::string& name : FreeNames(a.g())) need(name);
  }
  for (const auto& o : g.output()) need(o.name());
  return out;
}

Result<std::vector<const onnx::NodeProto*>> SortedNodes(const NodeList& nodes) {
  const int count = nodes.size();
  std::unordered_map<std::string_view, int> producer;
  for (int i = 0; i < count; ++i)
    for (const auto& o : nodes.Get(i).output())
      if (!o.empty() && !producer.emplace(o, i).second)
        return Fail(Code::kInvalidArgument, "value '{}' is defined twice, the second time by {}", o,
                    Place(nodes.Get(i)));
  std::vector<std::vector<int>> users((size_t(count)));
  std::vector<int> missing(size_t(count), 0);
  for (int i = 0; i < count; ++i) {
    const auto need = [&](const std::string& name) {
      const auto it = producer.find(name);
      if (it == producer.end()) return;
      users[size_t(it->second)].push_back(i);
      ++missing[size_t(i)];
    };
    for (const auto& name : nodes.Get(i).input()) need(name);
    for (const auto& a : nodes.Get(i).attribute())
      if (a.has_g())
        for (const std::string& name : FreeNames(a.g())) need(name);
  }
  std::set<int> ready;  // the smallest first, so that a sorted file keeps its order
  for (int i = 0; i < count; ++i)
    if (missing[size_t(i)] == 0) ready.insert(i);
  std::vector<const onnx::NodeProto*> order;
  while (!ready.empty()) {
    const int i = *ready.begin();
    ready.erase(ready.begin());
    order.push_back(&nodes.Get(i));
    for (const int u : users[size_t(i)])
      if (--missing[size_t(u)] == 0) ready.insert(u);
  }
  if (int(order.size()) != count)
    for (int i = 0; i < count; ++i)
      if (missing[size_t(i)] > 0)
        return Fail(Code::kInvalidArgument, "the graph has a cycle through {}",
                    Place(nodes.Get(i)));
  return order;
}

}  // namespace dunlin::onnx_import
