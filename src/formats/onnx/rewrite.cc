#include "formats/onnx/rewrite.h"

#include <algorithm>
#include <tuple>

#include "formats/onnx_describe.h"
#include "ops/op.h"

namespace dunlin::onnx_import {

ValueId Rewrite::Need(size_t i) {
  if (!has(i)) Refuse(Code::kInvalidArgument, "input {} is left out; it is needed", i);
  return in(i);
}

void Rewrite::Give(size_t output, ValueId v) {
  if (ok() && wants(output)) n_.results->at(output) = v;
}

const Type& Rewrite::type(ValueId v) const {
  static const Type nothing;
  return v == ValueId::kNone ? nothing : g_.value(v).type;
}

int64_t Rewrite::extent(ValueId v, int axis) const {
  const int r = rank(v), at = axis < 0 ? axis + r : axis;
  return r < 0 || at < 0 || at >= r ? kUnknownDim : type(v).dims[at];
}

const Tensor* Rewrite::constant(ValueId v) const {
  return v != ValueId::kNone && g_.value(v).is_constant() ? &g_.value(v).constant : nullptr;
}

std::string Rewrite::NextName() {
  const bool named = !n_.outputs.empty() && !n_.outputs[0].empty();
  return fmt::format("{}/{}", named ? n_.outputs[0] : n_.name, made_++);
}

std::vector<ValueId> Rewrite::MakeMany(std::string_view op, std::vector<ValueId> inputs,
                                       size_t outputs, const AttrMap& attrs) {
  const std::vector<ValueId> none(outputs, ValueId::kNone);
  if (!ok()) return none;
  const size_t dot = op.rfind('.');
  const OpDef* def = dot == op.npos ? FindOp(op) : FindOp(op.substr(dot + 1), op.substr(0, dot));
  if (def == nullptr) {
    Refuse(Code::kUnimplemented, "it is computed by {}, which is not supported", op);
    return none;
  }
  while (!inputs.empty() && inputs.back() == ValueId::kNone) inputs.pop_back();
  const int count = int(inputs.size());
  if (count < def->min_inputs || (def->max_inputs >= 0 && count > def->max_inputs)) {
    Refuse(Code::kInvalidArgument, "{} inputs do not fit {}, by which it is computed", count, op);
    return none;
  }
  auto a = DefaultAttrs(*def);
  Keep(FillAttrs(*a, attrs));
  if (!ok()) return none;
  const std::string name = NextName();
  std::vector<std::string> names;
  for (size_t i = 0; i < outputs; ++i)
    names.push_back(i == 0 ? name : fmt::format("{}:{}", name, i));
  Node& node = g_.AddNode(*def, std::move(a), std::move(inputs), names, name);
  Keep(InferNode(g_, node));
  return ok() ? node.outputs : none;
}

ValueId Rewrite::Make(std::string_view op, std::vector<ValueId> inputs, const AttrMap& attrs) {
  return MakeMany(op, std::move(inputs), 1, attrs)[0];
}

ValueId Rewrite::Const(Tensor t) {
  return ok() ? g_.AddConstant(NextName(), std::move(t)) : ValueId::kNone;
}

ValueId Rewrite::Number(double v, ValueId like) {
  const DType to = dtype(like);
  const Tensor wide = Tensor::Scalar<double>(v);
  if (to == DType::kUndefined) return Make("CastLike", {Const(wide), like});
  auto narrow = Convert(wide, to);
  if (!narrow) {
    Keep(tl::unexpected<Error>(narrow.error()));
    return ValueId::kNone;
  }
  return Const(std::move(*narrow));
}

ValueId Rewrite::Cast(ValueId x, DType to) {
  if (dtype(x) == to) return x;
  for (int64_t number = 1; number < 64; ++number)
    if (const auto t = ReadDType(int(number)); t && *t == to)
      return Make("Cast", {x}, {{"to", number}});
  Refuse(Code::kUnimplemented, "a cast to {}", DTypeName(to));
  return ValueId::kNone;
}

ValueId Rewrite::Extent(ValueId x, int64_t axis) {
  if (const int64_t known = extent(x, int(axis)); IsKnown(known)) return Ints({known});
  return Slice(Make("Shape", {x}), axis, axis == -1 ? INT64_MAX : axis + 1, 0);
}

void Rewrite::Become(std::string_view op, std::vector<ValueId> inputs) {
  if (!ok()) return;
  const RewriteRule* rule = FindRewrite(op, n_.domain);
  if (rule == nullptr)
    return Refuse(Code::kUnimplemented, "it is computed by {}, which is not supported", op);
  while (!inputs.empty() && inputs.back() == ValueId::kNone) inputs.pop_back();
  n_.inputs = std::move(inputs);
  rule->rewrite(*this);
}

namespace {

// All tables, sorted by domain and operator.
const std::vector<RewriteRule>& Rules() {
  static const auto rules = [] {
    std::vector<RewriteRule> all;
    for (const auto table :
         {MicrosoftRewrites(), MicrosoftNormRewrites(), MicrosoftAttentionRewrites(),
          MicrosoftLayoutRewrites(), MicrosoftOtherRewrites(), StandardAttentionRewrites(),
          QuantisedRewrites()})
      all.insert(all.end(), table.begin(), table.end());
    std::sort(all.begin(), all.end(), [](const RewriteRule& a, const RewriteRule& b) {
      return std::tie(a.domain, a.op) < std::tie(b.domain, b.op);
    });
    return all;
  }();
  return rules;
}

}  // namespace

const RewriteRule* FindRewrite(std::string_view op, std::string_view domain) {
  const auto it = std::lower_bound(
      Rules().begin(), Rules().end(), std::tie(domain, op),
      [](const RewriteRule& r, const auto& key) { return std::tie(r.domain, r.op) < key; });
  return it != Rules().end() && it->op == op && it->domain == domain ? &*it : nullptr;
}

Status Expand(const RewriteRule& rule, RawNode& node, int opset, Graph& graph) {
  node.results.emplace(node.outputs.size(), ValueId::kNone);
  const size_t before = graph.value_count();
  Rewrite rewrite(node, opset, graph);
  rule.rewrite(rewrite);
  TRY(rewrite.status());
  for (size_t i = 0; i < node.outputs.size(); ++i) {
    if (node.outputs[i].empty()) continue;
    const ValueId v = node.results->at(i);
    if (v == ValueId::kNone) return Fail(Code::kUnimplemented, "output {} is not supported", i);
    if (size_t(v) >= before) graph.value(v).name = node.outputs[i];
  }
  return {};
}

std::string DescribeMissing(std::string_view op, std::string_view domain) {
  if (domain.empty()) return std::string(op);
  const std::string name = fmt::format("{}.{}", domain, op);
  const bool runtimes = domain.starts_with("com.microsoft") || domain.starts_with("com.ms.") ||
                        domain == "ai.onnx.contrib";
  return runtimes ? fmt::format("{}: {}", name, AdviceForMissing(domain, op, 1)) : name;
}

}  // namespace dunlin::onnx_import

namespace dunlin {

std::vector<RewrittenOperator> RewrittenOperators() {
  std::vector<RewrittenOperator> all;
  for (const auto& rule : onnx_import::Rules()) all.push_back({rule.domain, rule.op});
  return all;
}

}  // namespace dunlin
