#include "serve/check_request.h"

#include <gtest/gtest.h>

namespace dunlin::serve {
namespace {

TensorSpec Spec(const std::string& name, Dims dims, bool optional = false) {
  TensorSpec s;
  s.name = name;
  s.dtype = DType::kF32;
  s.dims = std::move(dims);
  s.optional = optional;
  return s;
}
ModelSpec Batched() {
  ModelSpec m;
  m.name = "m";
  m.max_batch_size = 4;
  m.inputs = {Spec("a", {2}), Spec("b", {2})};
  m.outputs = {Spec("y", {2})};
  return m;
}
NamedTensor Floats(const std::string& name, const Dims& dims) {
  return {name, *Tensor::Zeros(DType::kF32, dims)};
}
std::string ErrorOf(const ModelSpec& model, std::vector<NamedTensor> inputs,
                    std::vector<std::string> outputs = {}) {
  InferRequest request;
  request.id = "7";
  request.inputs = std::move(inputs);
  request.outputs = std::move(outputs);
  const auto batch = CheckRequest(model, request);
  if (batch) return "";
  EXPECT_EQ(batch.error().code, Code::kInvalidArgument);
  EXPECT_EQ(batch.error().message.find("[request id: 7] "), 0u) << batch.error().message;
  return batch.error().message.substr(16);
}

// Clients compare these words.
TEST(CheckRequest, SaysInTheProtocolsWordsWhatDoesNotFit) {
  const ModelSpec m = Batched();
  EXPECT_EQ(ErrorOf(m, {Floats("b", {3, 2}), Floats("a", {3, 2})}), "");
  EXPECT_EQ(ErrorOf(m, {Floats("a", {1, 2})}),
            "expected 2 inputs but got 1 inputs for model 'm'. Got input(s) ['a'], but missing "
            "required input(s) ['b']. Please provide all required input(s).");
  EXPECT_EQ(ErrorOf(m, {}),
            "expected 2 inputs but got 0 inputs for model 'm'. Got input(s) [], but missing "
            "required input(s) ['a','b']. Please provide all required input(s).");
  EXPECT_EQ(ErrorOf(m, {Floats("a", {5, 2}), Floats("b", {5, 2})}),
            "inference request batch-size must be <= 4 for 'm'");
  EXPECT_EQ(ErrorOf(m, {Floats("a", {1, 2}), Floats("b", {2, 2})}),
            "input 'b' batch size does not match other inputs for 'm'");
  EXPECT_EQ(ErrorOf(m, {Floats("a", {}), Floats("b", {2, 2})}),
            "input 'a' has no shape but model requires batch dimension for 'm'");
  EXPECT_EQ(ErrorOf(m, {Floats("a", {1, 2}), {"b", *Tensor::Zeros(DType::kI32, {1, 2})}}),
            "inference input 'b' data-type is 'INT32', but model 'm' expects 'FP32'");
  EXPECT_EQ(ErrorOf(m, {Floats("a", {1, 2}), Floats("b", {1, 3})}),
            "unexpected shape for input 'b' for model 'm'. Expected [-1,2], got [1,3]. NOTE: "
            "Setting a non-zero max_batch_size in the model config requires a batch dimension to "
            "be prepended to each input shape. If you want to specify the full shape including "
            "the batch dim in your input dims config, try setting max_batch_size to zero. See the "
            "model configuration docs for more info on max_batch_size.");
  EXPECT_EQ(ErrorOf(m, {Floats("a", {1, 2}), Floats("b", {1, 2})}, {"z"}),
            "unexpected inference output 'z' for model 'm'");
  ModelSpec whole = m;
  whole.max_batch_size = 0;
  EXPECT_EQ(ErrorOf(whole, {Floats("a", {3}), Floats("b", {2})}),
            "unexpected shape for input 'a' for model 'm'. Expected [2], got [3]. ");
}

TEST(CheckRequest, OptionalInputsMayBeAbsent) {
  ModelSpec m = Batched();
  m.inputs.push_back(Spec("c", {2}, true));
  EXPECT_EQ(ErrorOf(m, {Floats("a", {1, 2}), Floats("b", {1, 2})}), "");
  EXPECT_EQ(ErrorOf(m, {Floats("c", {1, 2}), Floats("a", {1, 2}), Floats("b", {1, 2})}), "");
  EXPECT_EQ(ErrorOf(m, {Floats("a", {1, 2}), Floats("c", {1, 2})}),
            "expected number of inputs between 2 and 3 but got 2 inputs for model 'm'. Got "
            "input(s) ['a','c'], but missing required input(s) ['b']. Please provide all required "
            "input(s).");
  EXPECT_EQ(ErrorOf(m, {Floats("a", {1, 2}), Floats("b", {1, 2}), Floats("z", {1, 2})}),
            "unexpected inference input 'z' for model 'm'");
}

}  // namespace
}  // namespace dunlin::serve
