// What the rules of the upgrade share: a node as it was written, and helpers to rewrite it.
#pragma once

#include <map>
#include <optional>

#include "formats/onnx/internal.h"
#include "ops/op.h"

namespace dunlin::onnx_import {

struct Upgrader {
  RawNode& n;
  int opset;
  Graph& g;

  bool HasAttr(std::string_view a) const { return n.attrs.contains(a); }
  template <class T>
  std::optional<T> Take(std::string_view a) {
    const auto it = n.attrs.find(a);
    if (it == n.attrs.end()) return std::nullopt;
    const T* v = std::get_if<T>(&it->second);
    if (v == nullptr) return std::nullopt;  // left in place: reported as a wrong attribute
    T out = *v;
    n.attrs.erase(it);
    return out;
  }
  void Drop(std::initializer_list<std::string_view> names) {
    for (const auto a : names)
      if (const auto it = n.attrs.find(a); it != n.attrs.end()) n.attrs.erase(it);
  }
  ValueId Const(Tensor t, std::string_view what) {
    return g.AddConstant(fmt::format("{}/{}", n.outputs.empty() ? n.name : n.outputs[0], what),
                         std::move(t));
  }
  void SetInput(size_t i, ValueId v) {
    if (n.inputs.size() <= i) n.inputs.resize(i + 1, ValueId::kNone);
    n.inputs[i] = v;
  }
  // An attribute that became an input.
  void IntsToInput(std::string_view attr, size_t input) {
    if (auto v = Take<std::vector<int64_t>>(attr))
      SetInput(input, Const(Tensor::Ints(*v), attr));
    else if (auto one = Take<int64_t>(attr))
      SetInput(input, Const(Tensor::Ints(std::vector<int64_t>{*one}), attr));
  }
  const Type* InputType(size_t i) const {
    return i < n.inputs.size() && n.inputs[i] != ValueId::kNone ? &g.value(n.inputs[i]).type
                                                                : nullptr;
  }
  // A scalar of the type of input 0.
  Status ScalarToInput(std::string_view attr, size_t input) {
    if (const auto v = Take<float>(attr)) {
      const Type* t = InputType(0);
      const DType dtype = t && t->dtype != DType::kUndefined ? t->dtype : DType::kF32;
      SetInput(input, Const(TRY(Convert(Tensor::Scalar<float>(*v), dtype)), attr));
    }
    return {};
  }
  Result<ValueId> Insert(std::string_view op, std::vector<ValueId> inputs, const AttrMap& attrs,
                         std::string_view what) {
    const OpDef* def = FindOp(op);
    if (def == nullptr) return Fail(Code::kUnimplemented, "operator {} is not supported", op);
    auto a = DefaultAttrs(*def);
    TRY(FillAttrs(*a, attrs));
    Node& node = g.AddNode(*def, a, std::move(inputs),
                           fmt::format("{}/{}", n.outputs.empty() ? n.name : n.outputs[0], what));
    TRY(InferNode(g, node));
    return node.outputs[0];
  }
};

using Rule = Status (*)(Upgrader&);
using RuleTable = std::map<std::string_view, Rule>;

// Forms of opset 8 and before, and the experimental operators of those days.
void AddOldRules(RuleTable& rules);
// The operator that an experimental one is rewritten with; "" for others.
std::string_view ReplacementOf(std::string_view op);

}  // namespace dunlin::onnx_import
