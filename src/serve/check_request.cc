#include "serve/check_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "serve/datatype.h"

namespace dunlin::serve {
namespace {

std::string List(std::span<const int64_t> dims) {
  return fmt::format("[{}]", fmt::join(dims.begin(), dims.end(), ","));
}

std::string QuotedList(const std::vector<std::string>& names) {
  std::string out = "[";
  for (const std::string& n : names) out += (out.size() > 1 ? ",'" : "'") + n + "'";
  return out + "]";
}

bool Matches(std::span<const int64_t> expected, std::span<const int64_t> actual) {
  return std::equal(expected.begin(), expected.end(), actual.begin(), actual.end(),
                    [](int64_t e, int64_t a) { return e == -1 || e == a; });
}

// The error of a request whose inputs are not the model's.
Status WrongInputs(const ModelSpec& model, const InferRequest& request) {
  const std::string prefix = RequestPrefix(request);
  std::set<std::string_view> given;
  std::vector<std::string> got, missing;
  for (const NamedTensor& in : request.inputs) {
    if (!given.insert(in.name).second)
      return Fail(Code::kInvalidArgument, "{}input '{}' already exists in request", prefix,
                  in.name);
    got.push_back(in.name);
  }
  for (const TensorSpec& s : model.inputs)
    if (!s.optional && !given.contains(s.name)) missing.push_back(s.name);
  if (!missing.empty() || request.inputs.size() > model.inputs.size()) {
    const size_t most = model.inputs.size();
    const auto least = size_t(std::count_if(model.inputs.begin(), model.inputs.end(),
                                            [](const TensorSpec& s) { return !s.optional; }));
    return Fail(
        Code::kInvalidArgument,
        "{}expected {} but got {} inputs for model '{}'. Got input(s) {}, but missing required "
        "input(s) {}. Please provide all required input(s).",
        prefix,
        least == most ? fmt::format("{} inputs", most)
                      : fmt::format("number of inputs between {} and {}", least, most),
        got.size(), model.name, QuotedList(got), QuotedList(missing));
  }
  for (const std::string& name : got) {
    if (model.FindInput(name) == nullptr)
      return Fail(Code::kInvalidArgument, "{}unexpected inference input '{}' for model '{}'",
                  prefix, name, model.name);
  }
  return {};
}

// Checks the names and puts inputs into the model's order. Allocates nothing when all is well.
Status CheckNames(const ModelSpec& model, InferRequest& request) {
  for (const std::string& name : request.outputs) {
    if (model.FindOutput(name) == nullptr)
      return Fail(Code::kInvalidArgument, "{}unexpected inference output '{}' for model '{}'",
                  RequestPrefix(request), name, model.name);
  }
  if (request.outputs.size() > 1) {
    std::set<std::string_view> seen;
    for (const std::string& name : request.outputs)
      if (!seen.insert(name).second)
        return Fail(Code::kInvalidArgument,
                    "{}Duplicate output name '{}' is not allowed in a request",
                    RequestPrefix(request), name);
  }
  std::vector<NamedTensor>& inputs = request.inputs;
  size_t placed = 0;  // inputs [0, placed) are in order
  for (const TensorSpec& s : model.inputs) {
    size_t at = placed;
    while (at < inputs.size() && inputs[at].name != s.name) ++at;
    if (at < inputs.size())
      std::swap(inputs[at], inputs[placed++]);
    else if (!s.optional)
      return WrongInputs(model, request);
  }
  return placed == inputs.size() ? Status() : WrongInputs(model, request);
}

// `item` with the variable extents of `from` (as matched by `actual`) put into those of `to`.
Dims FillVariable(const Dims& to, const Dims& from, std::span<const int64_t> actual) {
  Dims out = to;
  size_t next = 0;
  for (int64_t& d : out) {
    if (d != -1) continue;
    while (next < from.size() && from[next] != -1) ++next;
    d = next < actual.size() ? actual[next++] : 1;
  }
  return out;
}

Status CheckShape(const ModelSpec& model, const TensorSpec& spec, const InferRequest& request,
                  const Dims& dims) {
  const Dims expected = FullDims(model, spec.dims);
  if (spec.any_shape || Matches(expected, dims)) return {};
  return Fail(
      Code::kInvalidArgument,
      "{}unexpected shape for input '{}' for model '{}'. Expected {}, got {}. {}",
      RequestPrefix(request), spec.name, model.name, List(expected), List(dims),
      model.max_batch_size > 0
          ? "NOTE: Setting a non-zero max_batch_size in the model config requires a batch "
            "dimension "
            "to be prepended to each input shape. If you want to specify the full shape including "
            "the batch dim in your input dims config, try setting max_batch_size to zero. See the "
            "model configuration docs for more info on max_batch_size."
          : "");
}

}  // namespace

std::string RequestPrefix(const InferRequest& request) {
  return fmt::format("[request id: {}] ", request.id.empty() ? "<id_unknown>" : request.id);
}

Result<int64_t> CheckRequest(const ModelSpec& model, InferRequest& request) {
  TRY(CheckNames(model, request));
  const auto prefix = [&] { return RequestPrefix(request); };
  int64_t batch = 0;
  for (NamedTensor& in : request.inputs) {
    const TensorSpec& spec = *model.FindInput(in.name);
    if (in.tensor.dtype() != spec.dtype) {
      return Fail(Code::kInvalidArgument,
                  "{}inference input '{}' data-type is '{}', but model '{}' expects '{}'", prefix(),
                  in.name, ProtocolName(in.tensor.dtype()), model.name, ProtocolName(spec.dtype));
    }
    const Dims& dims = in.tensor.dims();
    if (model.max_batch_size > 0) {
      if (dims.empty())
        return Fail(Code::kInvalidArgument,
                    "{}input '{}' has no shape but model requires batch dimension for '{}'",
                    prefix(), in.name, model.name);
      if (batch == 0) batch = dims[0];
      if (dims[0] != batch)
        return Fail(Code::kInvalidArgument,
                    "{}input '{}' batch size does not match other inputs for '{}'", prefix(),
                    in.name, model.name);
      if (batch > model.max_batch_size)
        return Fail(Code::kInvalidArgument, "{}inference request batch-size must be <= {} for '{}'",
                    prefix(), model.max_batch_size, model.name);
      if (batch < 1)
        return Fail(Code::kInvalidArgument, "{}inference request batch-size must be >= 1 for '{}'",
                    prefix(), model.name);
    }
    TRY(CheckShape(model, spec, request, dims));
    if (spec.reshape && !spec.any_shape) {
      const size_t skip = model.max_batch_size > 0 ? 1 : 0;
      const std::span<const int64_t> item = std::span<const int64_t>(dims).subspan(skip);
      Dims engine = FillVariable(*spec.reshape, spec.dims, item);
      if (skip) engine.insert(0, dims[0]);
      if (ElementCount(engine) != in.tensor.count())
        return Fail(Code::kInvalidArgument, "{}input '{}' cannot be reshaped from {} to {}",
                    prefix(), in.name, List(dims), List(engine));
      in.tensor = in.tensor.Reshaped(engine);
    }
  }
  return std::max<int64_t>(1, batch);
}

Result<std::vector<NamedTensor>> ArrangeOutputs(const ModelSpec& model,
                                                const std::vector<std::string>& requested,
                                                std::vector<NamedTensor> outputs) {
  // Mostly they are as they should be: all, in the model's order.
  const auto right = [](const TensorSpec& spec, const NamedTensor& t) {
    return spec.name == t.name && t.tensor.defined() && (!spec.reshape || spec.any_shape);
  };
  if (requested.empty() &&
      std::equal(model.outputs.begin(), model.outputs.end(), outputs.begin(), outputs.end(), right))
    return outputs;
  std::vector<NamedTensor> arranged;
  const auto take = [&](const TensorSpec& spec) -> Status {
    const auto it = std::find_if(outputs.begin(), outputs.end(),
                                 [&](const NamedTensor& t) { return t.name == spec.name; });
    if (it == outputs.end() || !it->tensor.defined())
      return Fail(Code::kInternal, "model '{}' did not produce output '{}'", model.name, spec.name);
    Tensor tensor = std::move(it->tensor);
    if (spec.reshape && !spec.any_shape) {
      const size_t skip = model.max_batch_size > 0 ? 1 : 0;
      const std::span<const int64_t> dims = tensor.dims();
      if (dims.size() >= skip) {
        Dims visible = FillVariable(spec.dims, *spec.reshape, dims.subspan(skip));
        if (skip) visible.insert(0, dims[0]);
        if (ElementCount(visible) == tensor.count()) tensor = tensor.Reshaped(visible);
      }
    }
    arranged.push_back({spec.name, std::move(tensor)});
    return {};
  };
  if (requested.empty()) {
    for (const TensorSpec& spec : model.outputs) TRY(take(spec));
  } else {
    for (const std::string& name : requested) TRY(take(*model.FindOutput(name)));
  }
  return arranged;
}

}  // namespace dunlin::serve
