// Operators that have no form of their own here but are computed by others (com.microsoft and its
// like): one function each, which adds those others to the graph while the model is read. They then
// get the kernels and fusions of any other node.
#pragma once

#include <initializer_list>
#include <span>

#include "formats/onnx/internal.h"

namespace dunlin::onnx_import {

// The node that is being rewritten, and what its rewrite writes. The first thing that goes wrong is
// kept, and everything after it does nothing and gives kNone; so a rewrite reads as a formula.
class Rewrite {
 public:
  Rewrite(RawNode& node, int opset, Graph& graph) : n_(node), opset_(opset), g_(graph) {}

  // The attributes as a struct with Visit; one that it does not list, or of another type, is an
  // error.
  template <class A>
  A Attributes() {
    AttrsOf<A> attrs;
    Keep(FillAttrs(attrs, n_.attrs));
    return std::move(attrs.value);
  }
  // The same of the attributes of these names, which are taken from the node; the others are for
  // the operator that the node becomes: see Rest.
  template <class A>
  A Take(std::initializer_list<std::string_view> names) {
    AttrMap taken;
    for (const std::string_view name : names)
      if (auto it = n_.attrs.find(name); it != n_.attrs.end()) taken.insert(n_.attrs.extract(it));
    AttrsOf<A> attrs;
    Keep(FillAttrs(attrs, taken));
    return std::move(attrs.value);
  }
  const AttrMap& Rest() const { return n_.attrs; }
  const RawNode& node() const { return n_; }
  int opset() const { return opset_; }

  size_t inputs() const { return n_.inputs.size(); }
  bool has(size_t i) const { return in(i) != ValueId::kNone; }
  ValueId in(size_t i) const { return i < n_.inputs.size() ? n_.inputs[i] : ValueId::kNone; }
  // An error when it is left out.
  ValueId Need(size_t i);
  bool wants(size_t output) const {
    return output < n_.outputs.size() && !n_.outputs[output].empty();
  }
  void Give(size_t output, ValueId v);

  // What is known of a value; nothing of kNone.
  const Type& type(ValueId v) const;
  DType dtype(ValueId v) const { return type(v).dtype; }
  // -1: not known.
  int rank(ValueId v) const { return type(v).ranked ? int(type(v).dims.rank()) : -1; }
  // The extent along `axis` (negative: from the end); kUnknownDim when it is not known.
  int64_t extent(ValueId v, int axis) const;
  const Tensor* constant(ValueId v) const;

  // op: "MatMul", "dunlin.FusedMatMul". kNone among the inputs: an optional one left out.
  ValueId Make(std::string_view op, std::vector<ValueId> inputs, const AttrMap& attrs = {});
  std::vector<ValueId> MakeMany(std::string_view op, std::vector<ValueId> inputs, size_t outputs,
                                const AttrMap& attrs = {});
  ValueId Const(Tensor t);
  ValueId Ints(std::vector<int64_t> v) { return Const(Tensor::Ints(v)); }
  ValueId Int(int64_t v) { return Const(Tensor::Scalar<int64_t>(v)); }
  // A number of the type of `like`.
  ValueId Number(double v, ValueId like);

  ValueId Add(ValueId a, ValueId b) { return Make("Add", {a, b}); }
  ValueId Sub(ValueId a, ValueId b) { return Make("Sub", {a, b}); }
  ValueId Mul(ValueId a, ValueId b) { return Make("Mul", {a, b}); }
  ValueId Div(ValueId a, ValueId b) { return Make("Div", {a, b}); }
  ValueId MatMul(ValueId a, ValueId b) { return Make("MatMul", {a, b}); }
  // 0: the extent stays, -1: what is left.
  ValueId Reshape(ValueId x, std::vector<int64_t> to) {
    return Make("Reshape", {x, Ints(std::move(to))});
  }
  ValueId Transpose(ValueId x, std::vector<int64_t> perm) {
    return Make("Transpose", {x}, {{"perm", std::move(perm)}});
  }
  ValueId Unsqueeze(ValueId x, std::vector<int64_t> axes) {
    return Make("Unsqueeze", {x, Ints(std::move(axes))});
  }
  ValueId Squeeze(ValueId x, std::vector<int64_t> axes) {
    return Make("Squeeze", {x, Ints(std::move(axes))});
  }
  ValueId Concat(std::vector<ValueId> parts, int64_t axis) {
    return Make("Concat", std::move(parts), {{"axis", axis}});
  }
  ValueId Cast(ValueId x, DType to);
  // x[begin, end) along `axis`; the bounds are vectors of one integer.
  ValueId Slice(ValueId x, ValueId begin, ValueId end, int64_t axis) {
    return Make("Slice", {x, begin, end, Ints({axis})});
  }
  ValueId Slice(ValueId x, int64_t begin, int64_t end, int64_t axis) {
    return Slice(x, Ints({begin}), Ints({end}), axis);
  }
  // The extent along `axis` (negative: from the end) as a vector of one integer.
  ValueId Extent(ValueId x, int64_t axis);

  // Goes on as another operator of the same domain, with these inputs and the attributes that are
  // left.
  void Become(std::string_view op, std::vector<ValueId> inputs);

  // Ends the rewrite with an error; the place is added by who reads the model.
  template <class... A>
  void Refuse(Code code, fmt::format_string<A...> text, A&&... args) {
    if (status_) status_ = Fail(code, text, std::forward<A>(args)...);
  }
  bool ok() const { return bool(status_); }
  const Status& status() const { return status_; }

 private:
  void Keep(Status s) {
    if (status_ && !s) status_ = std::move(s);
  }
  std::string NextName();

  RawNode& n_;
  int opset_;
  Graph& g_;
  int made_ = 0;
  Status status_;
};

struct RewriteRule {
  std::string_view domain, op;
  void (*rewrite)(Rewrite&);
};
inline constexpr std::string_view kMicrosoft = "com.microsoft";
// One table a topic; all are searched.
std::span<const RewriteRule> MicrosoftRewrites();
std::span<const RewriteRule> MicrosoftNormRewrites();
std::span<const RewriteRule> MicrosoftAttentionRewrites();
std::span<const RewriteRule> MicrosoftLayoutRewrites();
std::span<const RewriteRule> MicrosoftOtherRewrites();
std::span<const RewriteRule> StandardAttentionRewrites();
std::span<const RewriteRule> QuantisedRewrites();

// What several rewrites share.
struct FusedActivation {
  std::string name;
  std::optional<float> a, b;  // the activation's parameters in their order
};
ValueId Activate(Rewrite& r, ValueId x, const FusedActivation& f);
// The attributes activation and activation_params of a fused convolution.
FusedActivation TakeConvActivation(Rewrite& r);

// nullptr: the operator has no rewrite.
const RewriteRule* FindRewrite(std::string_view op, std::string_view domain);
// Runs the rule; every output that the node names is then in node.results.
Status Expand(const RewriteRule& rule, RawNode& node, int opset, Graph& graph);

}  // namespace dunlin::onnx_import
