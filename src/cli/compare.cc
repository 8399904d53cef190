#include "cli/compare.h"

#include <unistd.h>

#include <algorithm>
#include <cstdio>

#include "cli/compare_pairs.h"
#include "cli/compare_report.h"
#include "cli/files.h"

namespace dunlin::cli {
namespace {

// One of the two models, ready to run.
struct Side {
  std::shared_ptr<const Model> model;
  Session session;

  static Result<Side> Load(const std::string& path, OptLevel opt, Compute compute, int threads,
                           std::vector<std::string> extra) {
    LoadOptions options;
    options.opt = opt;
    options.compute = compute;
    options.threads = threads;
    options.scores_of_maps = true;
    options.extra_outputs = std::move(extra);
    auto model = TRY(Model::Load(path, options));
    Session session = TRY(Session::Create(model, {.threads = threads}));
    return Side{std::move(model), std::move(session)};
  }
};

// How far the work is, on a terminal.
class Counter {
 public:
  Counter(const char* what, size_t total) : what_(what), total_(total) {}
  ~Counter() {
    if (terminal_ && shown_) fmt::print(stderr, "\r\x1b[K");
  }
  Counter(const Counter&) = delete;
  Counter& operator=(const Counter&) = delete;
  void Show(size_t done) {
    if (!terminal_) return;
    fmt::print(stderr, "\r{}: input {} of {}", what_, done + 1, total_);
    std::fflush(stderr);
    shown_ = true;
  }

 private:
  const char* what_;
  size_t total_;
  bool terminal_ = ::isatty(STDERR_FILENO) != 0, shown_ = false;
};

// Inputs of a, as b names and types them: by name, else by position.
Result<std::vector<NamedTensor>> InputsOfB(const std::vector<NamedTensor>& given, const Model& a,
                                           const Model& b) {
  std::vector<NamedTensor> out;
  for (const NamedTensor& t : given) {
    const auto named = [&](const PortInfo& p) { return p.name == t.name; };
    const auto at = std::ranges::find_if(a.inputs(), named) - a.inputs().begin();
    auto port = std::ranges::find_if(b.inputs(), named);
    if (port == b.inputs().end() && a.inputs().size() == b.inputs().size() &&
        at < std::ssize(a.inputs()))
      port = b.inputs().begin() + at;
    if (port == b.inputs().end())
      return Fail(Code::kInvalidArgument, "the second model has no input '{}'", t.name);
    const bool convert = port->dtype != DType::kUndefined && port->dtype != t.tensor.dtype() &&
                         t.tensor.dtype() != DType::kString;
    out.push_back({port->name, convert ? TRY(Convert(t.tensor, port->dtype)) : t.tensor});
  }
  return out;
}

// Outputs of the same name, else at the same place.
Result<std::vector<Compared>> PairOutputs(const Model& a, const Model& b) {
  std::vector<Compared> pairs;
  for (size_t i = 0; i < a.outputs().size(); ++i) {
    const PortInfo& p = a.outputs()[i];
    const auto named = [&](const PortInfo& q) { return q.name == p.name; };
    if (std::ranges::any_of(b.outputs(), named))
      pairs.push_back({p.name, p.name, "", {}, ""});
    else if (a.outputs().size() == b.outputs().size())
      pairs.push_back({p.name, b.outputs()[i].name, "", {}, ""});
  }
  if (pairs.empty())
    return Fail(Code::kInvalidArgument,
                "the models have no output in common: neither names nor numbers agree");
  return pairs;
}

const Value* ValueOf(const std::vector<NamedValue>& values, const std::string& name) {
  const auto it = std::ranges::find(values, name, &NamedValue::name);
  return it == values.end() ? nullptr : &it->value;
}

// Runs both models on the first `count` sets and adds what differs to `pairs`. The values of one
// set are in memory at a time.
Status RunBoth(Side& a, Side& b, DataSets& data, size_t count, const char* what,
               std::vector<Compared>& pairs, Stage& stage) {
  Counter counter(what, count);
  RunOptions only_a, only_b;
  for (const Compared& p : pairs) {
    only_a.outputs.push_back(p.name);
    only_b.outputs.push_back(p.other);
  }
  for (size_t i = 0; i < count; ++i) {
    counter.Show(i);
    stage = Stage::kInput;
    const Inputs inputs = TRY(data.Get(i));
    const auto inputs_b = TRY(InputsOfB(inputs.tensors, *a.model, *b.model));
    TRY(a.model->CheckInputs(inputs.tensors));
    TRY(b.model->CheckInputs(inputs_b));
    stage = Stage::kRun;
    const auto values_a = TRY(a.session.Run(inputs.tensors, only_a));
    const auto values_b = TRY(b.session.Run(inputs_b, only_b));
    for (Compared& p : pairs) {
      const Value *x = ValueOf(values_a, p.name), *y = ValueOf(values_b, p.other);
      if (x == nullptr || y == nullptr || x->kind != Value::Kind::kTensor ||
          y->kind != Value::Kind::kTensor) {
        p.unlike = "it is no tensor";
        continue;
      }
      if (const Status s = p.difference.Add(x->tensor, y->tensor); !s) p.unlike = s.error().message;
    }
  }
  return {};
}

Status CompareLayers(const CompareCommand& c, DataSets& data, CompareReport& report, Stage& stage) {
  stage = Stage::kLoad;
  const auto inner_a = TRY(InnerValues(c.a)), inner_b = TRY(InnerValues(c.b));
  std::vector<std::string> names_a, names_b;
  const Pairing pairing = PairValues(inner_a, inner_b);
  report.by_name = pairing.by_name;
  for (const ValuePair& p : pairing.pairs) {
    report.layers.push_back({p.a.name, p.b.name, pairing.by_name ? p.a.op : p.a.layer, {}, ""});
    names_a.push_back(p.a.name);
    names_b.push_back(p.b.name);
  }
  report.only_a = inner_a.size() - report.layers.size();
  report.only_b = inner_b.size() - report.layers.size();
  if (report.layers.empty()) return {};
  Side a = TRY(Side::Load(c.a, c.opt_a, Compute::kF32, c.threads, std::move(names_a)));
  Side b = TRY(Side::Load(c.b, c.opt_b, c.compute_b, c.threads, std::move(names_b)));
  report.layer_sets = std::min(data.size(), size_t(c.layer_inputs));
  return RunBoth(a, b, data, report.layer_sets, "layers", report.layers, stage);
}

}  // namespace

std::string BrokenLimit(const std::vector<Compared>& outputs, const CompareLimits& limits) {
  const bool any = limits.max_error || limits.min_sqnr || limits.min_agreement;
  for (const Compared& o : outputs) {
    if (!any) break;
    const Difference& d = o.difference;
    if (!o.unlike.empty())
      return fmt::format("output '{}' cannot be compared: {}", o.name, o.unlike);
    if (d.non_finite() > 0)
      return fmt::format("output '{}': {} elements are NaN or infinite in one model only", o.name,
                         d.non_finite());
    if (limits.max_error && !(d.max_error() <= *limits.max_error))
      return fmt::format("output '{}': the error {:.3g} is above --max-error {:.3g}", o.name,
                         d.max_error(), *limits.max_error);
    if (limits.min_sqnr && !d.equal() && !(d.sqnr_db() >= *limits.min_sqnr))
      return fmt::format("output '{}': SQNR {:.2f} dB is below --min-sqnr {:.2f}", o.name,
                         d.sqnr_db(), *limits.min_sqnr);
    if (limits.min_agreement && !(100 * d.agreement() >= *limits.min_agreement))
      return fmt::format("output '{}': {:.2f} % of the best agree, below --min-agreement {:.2f}",
                         o.name, 100 * d.agreement(), *limits.min_agreement);
  }
  return "";
}

Status Compare(const CompareCommand& c, Stage& stage) {
  CompareReport report{.a = c.a, .b = c.b, .outputs = {}, .layers = {}};
  stage = Stage::kLoad;
  std::optional<DataSets> data;
  {
    // As they are served, without outputs that would keep layers from being fused.
    Side a = TRY(Side::Load(c.a, c.opt_a, Compute::kF32, c.threads, {}));
    Side b = TRY(Side::Load(c.b, c.opt_b, c.compute_b, c.threads, {}));
    stage = Stage::kInput;
    data = TRY(DataSets::Create(a.model->inputs(), c.inputs, c.data));
    report.sets = data->size();
    report.outputs = TRY(PairOutputs(*a.model, *b.model));
    TRY(RunBoth(a, b, *data, data->size(), "outputs", report.outputs, stage));
  }
  if (c.layer_inputs > 0) TRY(CompareLayers(c, *data, report, stage));
  stage = Stage::kSetup;
  if (!c.json_file.empty()) TRY(WriteText(c.json_file, CompareJson(report)));
  if (!c.svg.empty()) TRY(WriteText(c.svg, SqnrSvg(report)));
  fmt::print("{}", c.json ? CompareJson(report) : CompareText(report, c.all_layers));
  const std::string broken = BrokenLimit(report.outputs, c.limits);
  if (!broken.empty()) return Fail(Code::kFailedPrecondition, "{}", broken);
  return {};
}

}  // namespace dunlin::cli
