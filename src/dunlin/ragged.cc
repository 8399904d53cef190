#include "dunlin/ragged.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <numeric>

#include "passes/passes.h"

namespace dunlin {
namespace {

using Kind = RaggedPort::Kind;

// Every number of tokens has a plan of its own; so many are few enough to be kept, and from 128
// tokens on at most a sixteenth is added.
int64_t RoundTokens(int64_t tokens) {
  int64_t unit = 8;
  while (tokens > unit * 32) unit *= 2;
  return (tokens + unit - 1) / unit * unit;
}

// Likewise for the number of sequences: what is computed for each of them is little.
constexpr int64_t kUsualTokens = 8;
int64_t RoundSegments(int64_t segments, int64_t tokens) {
  return segments <= tokens / kUsualTokens ? tokens / kUsualTokens : tokens;
}

// Runs of different requests side by side, on one thread each, do not wait for each other at every
// step. One is long enough when reading the weights no longer counts, and short enough for the
// activations to stay in a second-level cache.
constexpr int64_t kRunTokens = 128;
// What threads lose when they share every step: a quarter.
constexpr int64_t kUnevenness = 4;

// A SegmentSoftmax that is left when shapes are known would compute every score of every pair of
// tokens.
Status CheckAttention(const RaggedGraph& ragged) {
  std::unique_ptr<Graph> g = ragged.graph->Clone();
  constexpr int64_t kTokens = 16, kSegments = 2;
  const size_t given = ragged.inputs.size();
  const int64_t extents[] = {kSegments + 1, kTokens, kSegments, kSegments};
  for (size_t i = 0; i < g->inputs().size(); ++i) {
    Dims& dims = g->value(g->inputs()[i]).type.dims;
    if (i >= given)
      dims[0] = extents[i - given];
    else if (ragged.inputs[i].kind == Kind::kTokens)
      dims[1] = kTokens;
    else if (ragged.inputs[i].kind == Kind::kSegments)
      dims[0] = kSegments;
  }
  TRY(OptimizeForShapes(*g));
  for (const NodeId id : g->SoundOrder())
    if (g->node(id).op->name == "SegmentSoftmax")
      return Fail(Code::kUnimplemented,
                  "not raggable: node '{}' is a softmax over positions in a form of attention that "
                  "is not known",
                  g->node(id).name);
  return {};
}

bool HasBytes(const Graph& g, const std::vector<ValueId>& ports) {
  return std::all_of(ports.begin(), ports.end(), [&](ValueId v) {
    const DType t = g.value(v).type.dtype;
    return t != DType::kUndefined && t != DType::kString && DTypeBits(t) % 8 == 0;
  });
}

}  // namespace

// Where the requests of a run lie.
struct RaggedModel::Batch {
  struct Place {
    int64_t rows = 0, length = 0, first_row = 0, first_token = 0;
  };
  std::vector<Place> places;
  int64_t tokens = 0, segments = 0;          // of all requests
  int64_t all_tokens = 0, all_segments = 0;  // with those that belong to nobody
};

Result<std::unique_ptr<const RaggedModel>> RaggedModel::Create(const Graph& graph,
                                                               const ProgramContext& context) {
  if (context.mode != PlanMode::kFast)
    return Fail(Code::kUnimplemented, "not raggable: the model is loaded without optimisation");
  if (!HasBytes(graph, graph.inputs()) || !HasBytes(graph, graph.outputs()))
    return Fail(Code::kUnimplemented, "not raggable: inputs or outputs of strings or part bytes");
  RaggedGraph ragged = TRY(MakeRagged(graph));
  TRY(CheckAttention(ragged));
  auto model = std::make_unique<RaggedModel>();
  model->inputs_ = std::move(ragged.inputs);
  model->outputs_ = std::move(ragged.outputs);
  model->program_ = std::make_shared<const Program>(std::move(ragged.graph), context);
  return std::unique_ptr<const RaggedModel>(std::move(model));
}

int64_t RaggedModel::TokensOf(const std::vector<Tensor>& request) const {
  int64_t tokens = 0;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    if (inputs_[i].kind == Kind::kEmpty && request[i].count() > 0) return 0;
    if (inputs_[i].kind == Kind::kTokens) tokens = request[i].dims()[0] * request[i].dims()[1];
  }
  return tokens;
}

RaggedModel::Batch RaggedModel::Measure(std::span<const Request> requests) const {
  Batch b;
  for (const Request request : requests) {
    Batch::Place p{0, 0, b.segments, b.tokens};
    for (size_t i = 0; i < inputs_.size(); ++i) {
      if (inputs_[i].kind != Kind::kTokens) continue;
      p.rows = (*request)[i].dims()[0];
      p.length = (*request)[i].dims()[1];
    }
    b.segments += p.rows;
    b.tokens += p.rows * p.length;
    b.places.push_back(p);
  }
  b.all_tokens = RoundTokens(b.tokens);
  b.all_segments = RoundSegments(b.segments, b.all_tokens);
  return b;
}

Result<std::vector<Tensor>> RaggedModel::PackInputs(const Batch& batch,
                                                    std::span<const Request> requests) const {
  std::vector<Tensor> packed;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    const Tensor& first = (*requests[0])[i];
    if (inputs_[i].kind == Kind::kShared) {  // a constant: nobody reads it
      packed.push_back(first);
      continue;
    }
    const bool tokens = inputs_[i].kind == Kind::kTokens;
    Dims dims = first.dims();
    if (inputs_[i].kind == Kind::kEmpty) {
      dims[0] = 1;
      packed.push_back(TRY(Tensor::Create(first.dtype(), dims)));
      continue;
    }
    dims[0] = tokens ? 1 : batch.all_segments;
    if (tokens) dims[1] = batch.all_tokens;
    Tensor whole = TRY(Tensor::Create(first.dtype(), dims));
    std::byte* to = whole.raw();
    for (const Request request : requests) {
      std::memcpy(to, (*request)[i].raw(), size_t((*request)[i].bytes()));
      to += (*request)[i].bytes();
    }
    // What belongs to nobody is what somebody has given: no index or divisor of its own.
    const int64_t count = tokens ? batch.all_tokens : batch.all_segments;
    const int64_t unit = whole.bytes() / count;
    for (; to < whole.raw() + whole.bytes(); to += unit) std::memcpy(to, whole.raw(), size_t(unit));
    packed.push_back(std::move(whole));
  }
  const auto n = size_t(batch.all_segments);
  std::vector<int64_t> offsets = {0}, positions, firsts, lasts;
  for (const Batch::Place& p : batch.places)
    for (int64_t row = 0; row < p.rows; ++row) {
      firsts.push_back(offsets.back());
      for (int64_t at = 0; at < p.length; ++at) positions.push_back(at);
      offsets.push_back(offsets.back() + p.length);
      lasts.push_back(offsets.back() - 1);
    }
  offsets.resize(n + 1, offsets.back());
  positions.resize(size_t(batch.all_tokens));
  firsts.resize(n);
  lasts.resize(n);
  for (const auto& indices : {offsets, positions, firsts, lasts})
    packed.push_back(Tensor::Ints(indices));
  return packed;
}

Result<Tensor> RaggedModel::CutOutput(const RaggedPort& port, const Tensor& packed,
                                      const Batch& batch, size_t request) {
  const Batch::Place& p = batch.places[request];
  if (port.kind == Kind::kShared) return packed;
  Dims dims = packed.dims();
  const bool tokens = port.kind == Kind::kTokens;
  const auto axis = size_t(tokens ? port.token_axis : 0);
  const int64_t extent = tokens ? batch.all_tokens : batch.all_segments;
  if (dims.size() <= axis || dims[axis] != extent || (tokens && dims[0] != 1))
    return Fail(Code::kInternal, "a packed output of extents {}", ToString(dims));
  dims[0] = p.rows;
  if (tokens) dims[axis] = p.length;
  const int64_t before = tokens ? CountOf(std::span<const int64_t>(dims).first(axis)) / p.rows : 1;
  const int64_t bytes = packed.bytes() / before / extent;  // of a token, or of a row
  const int64_t begin = tokens ? p.first_token : p.first_row;
  if (before == 1)
    return Tensor::Over(packed.dtype(), dims, packed.buffer(),
                        packed.offset() + size_t(begin * bytes));
  // The tokens of one row lie apart: [1, before, T, …] → [rows, before, length, …].
  Tensor out = TRY(Tensor::Create(packed.dtype(), dims));
  std::byte* to = out.raw();
  for (int64_t row = 0; row < p.rows; ++row)
    for (int64_t i = 0; i < before; ++i, to += p.length * bytes)
      std::memcpy(to, packed.raw() + (i * extent + begin + row * p.length) * bytes,
                  size_t(p.length * bytes));
  return out;
}

Result<std::vector<std::vector<Tensor>>> RaggedModel::RunPacked(Execution& execution,
                                                                std::span<const Request> requests,
                                                                const RunEnvironment& env,
                                                                int64_t& arena_bytes) const {
  const Batch batch = Measure(requests);
  const std::vector<Tensor> packed = TRY(PackInputs(batch, requests));
  std::vector<TensorView> views;
  views.reserve(packed.size());
  std::vector<RunInput> inputs;
  for (const Tensor& t : packed) {
    views.push_back(t.view());
    inputs.push_back({&views.back(), nullptr});
  }
  const std::vector<RunValue> results = TRY(execution.Run(inputs, env));
  arena_bytes = TRY(execution.Prepare(inputs))->memory.arena_bytes;
  std::vector<std::vector<Tensor>> out(requests.size());
  for (size_t r = 0; r < requests.size(); ++r)
    for (size_t o = 0; o < outputs_.size(); ++o)
      out[r].push_back(TRY(CutOutput(outputs_[o], results[o].tensor, batch, r)));
  return out;
}

// Which requests run together: as many runs as there are threads, or a multiple of that, of about
// kRunTokens each. One run for all where the longest would keep the others waiting.
std::vector<std::vector<size_t>> RaggedModel::Divide(std::span<const std::vector<Tensor>> requests,
                                                     int threads) const {
  std::vector<size_t> order(requests.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::vector<int64_t> tokens;
  for (const auto& request : requests) tokens.push_back(TokensOf(request));
  const int64_t all = std::accumulate(tokens.begin(), tokens.end(), int64_t{0});
  const int64_t wanted = (all + kRunTokens - 1) / kRunTokens;
  const int64_t count = std::min((wanted + threads - 1) / threads * threads,
                                 int64_t(requests.size()) / threads * threads);
  if (count <= 1) return {order};
  // The longest first, each to the run that has least.
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return tokens[a] > tokens[b]; });
  std::vector<std::vector<size_t>> runs(static_cast<size_t>(count));
  std::vector<int64_t> load(runs.size());
  for (const size_t r : order) {
    const auto least = size_t(std::min_element(load.begin(), load.end()) - load.begin());
    runs[least].push_back(r);
    load[least] += tokens[r];
  }
  const int64_t longest = *std::max_element(load.begin(), load.end());
  if (longest * count > all + all / kUnevenness) {
    std::sort(order.begin(), order.end());
    return {order};
  }
  return runs;
}

Result<std::vector<std::vector<Tensor>>> RaggedModel::Run(
    Executions& executions, std::span<const std::vector<Tensor>> requests,
    const RunEnvironment& env) const {
  const auto runs = Divide(requests, env.threads);
  while (executions.all.size() < runs.size())
    executions.all.push_back(std::make_unique<Execution>(program_));
  RunEnvironment each = env;
  if (runs.size() > 1) each.threads = 1;
  std::vector<Result<std::vector<std::vector<Tensor>>>> results(runs.size());
  std::vector<int64_t> bytes(runs.size());
  const auto run = [&](int64_t begin, int64_t end) {
    for (auto i = size_t(begin); i < size_t(end); ++i) {
      std::vector<Request> mine;
      for (const size_t r : runs[i]) mine.push_back(&requests[r]);
      try {
        results[i] = RunPacked(*executions.all[i], mine, each, bytes[i]);
      } catch (const std::bad_alloc&) {  // on a thread of the pool nobody else would
        results[i] = Fail(Code::kResourceExhausted, "no memory for {} requests", mine.size());
      }
    }
  };
  if (runs.size() == 1)
    run(0, 1);
  else
    env.pool->ParallelFor(int64_t(runs.size()), 1, run, env.threads);
  std::vector<std::vector<Tensor>> out(requests.size());
  for (size_t i = 0; i < runs.size(); ++i) {
    if (!results[i]) return Fail(results[i].error());
    for (size_t k = 0; k < runs[i].size(); ++k) out[runs[i][k]] = std::move((*results[i])[k]);
  }
  const int64_t at_once = std::min(int64_t(runs.size()), int64_t{env.threads});
  executions.arena_bytes =
      std::max(executions.arena_bytes, at_once * *std::max_element(bytes.begin(), bytes.end()));
  return out;
}

}  // namespace dunlin
