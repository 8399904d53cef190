#include "dunlin/operators.h"

#include <algorithm>
#include <cctype>

#include "dunlin/engine.h"
#include "formats/onnx_operators.h"
#include "ops/op.h"

namespace dunlin {
namespace {

// Tried where nothing is known, the likeliest first.
constexpr DType kLikely[] = {DType::kF32, DType::kI64, DType::kI32,   DType::kBool,
                             DType::kU8,  DType::kI8,  DType::kString};

// Elements of one, true or "1": within the domain of every operator.
Result<Tensor> OnesOf(DType t, const Dims& dims) {
  Tensor x = TRY(Tensor::Create(t == DType::kString ? t : DType::kF32, dims));
  if (t == DType::kString) {
    std::fill_n(x.mut<std::string>(), x.count(), "1");
    return x;
  }
  std::fill_n(x.mut<float>(), x.count(), 1.0f);
  return Convert(x, t);
}

Result<std::vector<NamedValue>> InputsOf(const Model& model) {
  std::vector<NamedValue> inputs;
  for (const PortInfo& p : model.inputs()) {
    Value v(TRY(OnesOf(p.dtype, p.key == DType::kUndefined ? p.dims : Dims{1})));
    if (p.key != DType::kUndefined) v = Value::Map(TRY(OnesOf(p.key, {1})), std::move(v.tensor));
    if (p.sequence) {
      v.kind = Value::Kind::kSequence;
      v.sequence = {std::move(v.tensor)};
    }
    inputs.push_back({p.name, std::move(v)});
  }
  return inputs;
}

constexpr const char* kLeftOut = "left out";  // it does nothing

struct Outcome {
  std::string path;
  std::vector<std::string> operators;
};

// The path of the first step that is no copy.
std::string PathOf(const Model& model, std::span<const NamedValue> inputs) {
  std::vector<NamedTensor> tensors;
  for (const NamedValue& v : inputs)
    if (v.value.kind == Value::Kind::kTensor) tensors.push_back({v.name, v.value.tensor});
  const auto cost = model.Cost(tensors);
  if (!cost) return "reference";
  for (const StepProfile& s : cost->steps) {
    if (s.op == "copy" || s.op == "reorder") continue;
    if (s.kernel != "dynamic") return s.kernel;
    const OpDef* op = FindOp(s.op);
    return op != nullptr && op->impl->lower != nullptr ? "while running" : "reference";
  }
  return model.operators().empty() ? kLeftOut : "view";
}

Result<Outcome> RunSample(const std::string& bytes) {
  const std::span<const std::byte> span(reinterpret_cast<const std::byte*>(bytes.data()),
                                        bytes.size());
  const auto model = TRY(Model::LoadBytes(span));
  const auto inputs = TRY(InputsOf(*model));
  Session session = TRY(Session::Create(model, {.threads = 1}));
  TRY(session.RunValues(inputs));
  Outcome outcome{PathOf(*model, inputs), {}};
  LoadOptions plain;
  plain.opt = OptLevel::kNone;
  const auto written = TRY(Model::LoadBytes(span, plain));
  for (const OperatorCount& o : written->operators()) outcome.operators.push_back(o.name);
  if (outcome.operators.empty()) outcome.path = "at load";
  return outcome;
}

// The first of the alternatives that runs.
Result<Outcome> RunOne(const OnnxOperator& op, int version, const SampleTypes& types) {
  Error error{Code::kUnimplemented, ""};
  for (const std::string& bytes : TRY(SampleModels(op, version, types))) {
    auto outcome = RunSample(bytes);
    if (outcome) return outcome;
    if (error.message.empty()) error = outcome.error();
  }
  return Fail(error);
}

// With `t` at T and whatever fits at U.
Result<Outcome> RunWithT(const OnnxOperator& op, int version, DType t) {
  auto outcome = RunOne(op, version, {t, t});
  if (HasType(op, version, TypePlace::kU))
    for (const DType u : kLikely) {
      // Another type at U may show more than a conversion to the same.
      if (outcome && outcome->path != kLeftOut) break;
      if (u == t) continue;
      auto other = RunOne(op, version, {t, u});
      if (other) outcome = std::move(other);
    }
  return outcome;
}

bool RunsWithU(const OnnxOperator& op, int version, DType u) {
  if (RunOne(op, version, {u, u})) return true;
  return std::ranges::any_of(kLikely, [&](DType t) { return bool(RunOne(op, version, {t, u})); });
}

OperatorSupport SupportOf(const OnnxOperator& op) {
  static const std::vector<DType> all = OnnxTypes();
  OperatorSupport s;
  s.domain = op.domain;
  s.name = op.name;
  for (const int version : op.Versions()) {
    const bool runs =
        std::ranges::any_of(kLikely, [&](DType t) { return bool(RunWithT(op, version, t)); });
    (runs ? s.versions : s.refused).push_back(version);
  }
  // A form that names its types is run once.
  const auto named = std::span(kLikely).first(1);
  const int newest = s.runs() ? s.versions.back() : op.Versions().back();
  const bool varied = HasType(op, newest, TypePlace::kT);
  for (const DType t : varied ? std::span<const DType>(all) : named) {
    const auto outcome = RunWithT(op, newest, t);
    if (!outcome) {
      if (s.error.empty()) s.error = outcome.error().message;
      continue;
    }
    // Strings are made while running whatever computes them, and no kernel takes them.
    const bool plain = t == DType::kString && outcome->path == "while running";
    std::vector<DType>& of_path = s.paths[plain ? "reference" : outcome->path];
    if (varied) {
      s.types.push_back(t);
      of_path.push_back(t);
    }
    if (s.rewritten.empty() &&
        std::ranges::find(outcome->operators, op.FullName()) == outcome->operators.end())
      s.rewritten = outcome->operators;
  }
  if (!HasType(op, newest, TypePlace::kU)) return s;
  for (const DType u : all)
    if (RunsWithU(op, newest, u)) s.second_types.push_back(u);
  return s;
}

bool Holds(const std::string& name, std::string_view part) {
  const auto same = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) ==
           std::tolower(static_cast<unsigned char>(b));
  };
  return std::search(name.begin(), name.end(), part.begin(), part.end(), same) != name.end();
}

}  // namespace

std::vector<OperatorSupport> SupportedOperators(std::string_view filter) {
  std::vector<OperatorSupport> all;
  for (const OnnxOperator& op : OnnxOperators())
    if (Holds(op.FullName(), filter))
      if (OperatorSupport s = SupportOf(op); s.runs()) all.push_back(std::move(s));
  return all;
}

std::optional<Error> Refusal(std::string_view op, std::string_view domain, int opset, DType first) {
  const OnnxOperator* row = FindOnnxOperator(op, domain);
  if (row == nullptr) return std::nullopt;
  int version = 0;
  for (const int v : row->Versions())
    if (v <= opset || version == 0) version = v;
  if (!FirstIsVaried(*row, version)) return std::nullopt;
  const auto outcome = RunWithT(*row, version, first);
  return outcome ? std::nullopt : std::optional(outcome.error());
}

int FirstVersion(std::string_view op, std::string_view domain) {
  const OnnxOperator* row = FindOnnxOperator(op, domain);
  return row == nullptr ? 0 : row->Versions().front();
}

}  // namespace dunlin
