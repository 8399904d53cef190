#include <algorithm>
#include <cctype>

#include "ops/movement/axes.h"
#include "ops/resize/einsum.h"

namespace dunlin {
namespace {

using Label = EinsumPlan::Label;
// The axis that an ellipsis stands for, counted from its last.
constexpr Label kEllipsis = -1;
constexpr Label FromEllipsis(int from_last) { return 1000 + from_last; }

struct Equation {
  std::vector<std::vector<Label>> inputs;  // kEllipsis where one stands
  std::vector<Label> output;
};

Result<std::vector<Label>> ParseTerm(std::string_view s) {
  std::vector<Label> labels;
  for (size_t i = 0; i < s.size(); ++i) {
    if (std::isalpha(static_cast<unsigned char>(s[i]))) {
      labels.push_back(s[i]);
    } else if (s.substr(i, 3) == "..." &&
               std::find(labels.begin(), labels.end(), kEllipsis) == labels.end()) {
      labels.push_back(kEllipsis);
      i += 2;
    } else {
      return Fail(Code::kInvalidArgument, "the term '{}' has a '{}'", s, s[i]);
    }
  }
  return labels;
}

Result<Equation> Parse(const std::string& text, int inputs) {
  std::string s;
  for (const char c : text)
    if (!std::isspace(static_cast<unsigned char>(c))) s += c;
  Equation e;
  const size_t arrow = s.find("->");
  const std::string left = s.substr(0, arrow);
  for (size_t at = 0;;) {
    const size_t comma = left.find(',', at);
    e.inputs.push_back(TRY(ParseTerm(
        std::string_view(left).substr(at, comma == std::string::npos ? comma : comma - at))));
    if (comma == std::string::npos) break;
    at = comma + 1;
  }
  if (int(e.inputs.size()) != inputs)
    return Fail(Code::kInvalidArgument, "'{}' has {} terms for {} inputs", text, e.inputs.size(),
                inputs);
  if (arrow != std::string::npos) {
    e.output = TRY(ParseTerm(std::string_view(s).substr(arrow + 2)));
    return e;
  }
  // Without an arrow: the ellipsis, then the letters that occur once, sorted.
  int count[256] = {};
  bool ellipsis = false;
  for (const auto& term : e.inputs)
    for (const Label l : term) l == kEllipsis ? ellipsis = true : bool(++count[l]);
  if (ellipsis) e.output.push_back(kEllipsis);
  for (int c = 0; c < 256; ++c)
    if (count[c] == 1) e.output.push_back(c);
  return e;
}

std::vector<Label> Expanded(const std::vector<Label>& term, int ellipsis_rank) {
  std::vector<Label> out;
  for (const Label l : term) {
    if (l != kEllipsis)
      out.push_back(l);
    else
      for (int i = ellipsis_rank; i-- > 0;) out.push_back(FromEllipsis(i));
  }
  return out;
}

// The equation over concrete ranks.
Result<EinsumPlan> MakePlan(const Equation& e, const std::vector<Dims>& dims) {
  EinsumPlan p;
  int widest = 0;
  for (size_t i = 0; i < dims.size(); ++i) {
    const bool has =
        std::find(e.inputs[i].begin(), e.inputs[i].end(), kEllipsis) != e.inputs[i].end();
    const int hidden = dims[i].rank() - int(e.inputs[i].size()) + (has ? 1 : 0);
    if (hidden < 0 || (!has && hidden != 0))
      return Fail(Code::kInvalidArgument, "term {} names {} axes, its input has rank {}", i,
                  e.inputs[i].size(), dims[i].rank());
    widest = std::max(widest, hidden);
    p.inputs.push_back(Expanded(e.inputs[i], hidden));
  }
  std::vector<Label> all = Expanded(e.output, widest);
  p.output_rank = all.size();
  for (size_t i = 0; i < all.size(); ++i)
    if (std::find(all.begin(), all.begin() + int(i), all[i]) != all.begin() + int(i))
      return Fail(Code::kInvalidArgument, "an output label is given twice");
  for (const auto& term : p.inputs)
    for (const Label l : term)
      if (std::find(all.begin(), all.end(), l) == all.end()) all.push_back(l);
  p.labels = all;
  p.extents = Dims(all.size(), 1);
  std::vector<bool> met(all.size());
  for (size_t i = 0; i < dims.size(); ++i)
    for (size_t d = 0; d < p.inputs[i].size(); ++d) {
      const auto k = size_t(p.Find(p.inputs[i][d]));
      const int64_t n = dims[i][d];
      met[k] = true;
      if (n == 1) continue;
      if (p.extents[k] == 1) {
        p.extents[k] = n;
      } else if (const auto m = MergeDim(p.extents[k], n)) {
        p.extents[k] = *m;
      } else {
        return Fail(Code::kInvalidArgument, "one label has the extents {} and {}", p.extents[k], n);
      }
    }
  for (size_t i = 0; i < p.output_rank; ++i)
    if (!met[i]) return Fail(Code::kInvalidArgument, "an output label occurs in no input");
  if (!AllKnown(p.extents)) return p;
  p.strides.assign(dims.size(), Dims(p.extents.size(), 0));
  for (size_t i = 0; i < dims.size(); ++i) {
    const Dims s = StridesOf(dims[i]);
    for (size_t d = 0; d < dims[i].size(); ++d)
      if (dims[i][d] != 1) p.strides[i][size_t(p.Find(p.inputs[i][d]))] += s[d];
  }
  return p;
}

}  // namespace

Result<EinsumPlan> PlanEinsum(const std::string& equation, const std::vector<Dims>& dims) {
  const Equation e = TRY(Parse(equation, int(dims.size())));
  return MakePlan(e, dims);
}

Status Einsum::Infer(const Attrs& a, InferContext& ctx) {
  const Equation e = TRY(Parse(a.equation, ctx.input_count()));
  DType dtype = DType::kUndefined;
  std::vector<Dims> dims;
  for (int i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.has(i)) return Fail(Code::kInvalidArgument, "input {} is missing", i);
    const Type& t = ctx.input(i);
    if (dtype == DType::kUndefined) dtype = t.dtype;
    if (t.dtype != DType::kUndefined && t.dtype != dtype)
      return Fail(Code::kInvalidArgument, "inputs of {} and {}", DTypeName(dtype),
                  DTypeName(t.dtype));
    if (t.ranked) dims.push_back(t.dims);
  }
  if (int(dims.size()) != ctx.input_count()) {
    ctx.Set(0, Type::Unranked(dtype));
    return {};
  }
  const EinsumPlan p = TRY(MakePlan(e, dims));
  Dims out(std::span<const int64_t>(p.extents.data(), p.output_rank));
  TRY(CheckSize(out));
  ctx.Set(0, Type::Of(dtype, std::move(out)));
  return {};
}

Status Einsum::Reference(const Attrs& a, RunContext& ctx) {
  std::vector<Dims> dims;
  for (int i = 0; i < ctx.input_count(); ++i) dims.push_back(ctx.in(i).dims);
  const EinsumPlan p = TRY(PlanEinsum(a.equation, dims));
  const size_t inputs = dims.size(), rank = p.extents.size();
  const std::vector<Dims>& strides = p.strides;
  const std::span<const int64_t> all(p.extents.data(), rank);
  const int64_t outputs = CountOf(all.first(p.output_rank)),
                terms = CountOf(all.subspan(p.output_rank));
  TensorView& y = ctx.out(0);
  return VisitDType(y.dtype, "Einsum", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (!kIsNumber<T>) {
      return Fail(Code::kUnimplemented, "Einsum of {}", DTypeName(y.dtype));
    } else {
      // Integers wrap as the hardware's do.
      using Sum = std::conditional_t<kIsFloat<T>, double, uint64_t>;
      std::vector<int64_t> at(inputs);
      Dims index(rank, 0);
      for (int64_t o = 0; o < outputs; ++o) {
        Sum sum = 0;
        for (int64_t t = 0; t < terms; ++t) {
          Sum product = 1;
          for (size_t i = 0; i < inputs; ++i) {
            const T v = ctx.in(int(i)).template as<T>()[at[i]];
            if constexpr (kIsHalf<T>)
              product *= double(float(v));
            else
              product *= static_cast<Sum>(v);
          }
          sum += product;
          // The odometer over all labels, the output's slowest.
          for (size_t d = rank; d-- > 0;) {
            const bool wraps = ++index[d] == p.extents[d];
            for (size_t i = 0; i < inputs; ++i)
              at[i] += wraps ? strides[i][d] * (1 - p.extents[d]) : strides[i][d];
            if (!wraps) break;
            index[d] = 0;
          }
        }
        if constexpr (kIsHalf<T>)
          y.mut<T>()[o] = T(float(sum));
        else
          y.mut<T>()[o] = static_cast<T>(sum);
      }
      return {};
    }
  });
}

}  // namespace dunlin
