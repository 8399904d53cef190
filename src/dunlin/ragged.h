// A model that runs requests of different lengths as one, packed without padding; see
// passes/ragged.h. Internal to the engine: Session::RunRagged uses it.
#pragma once

#include <memory>
#include <vector>

#include "passes/ragged.h"
#include "runtime/execution.h"

namespace dunlin {

// Immutable and thread-safe.
class RaggedModel {
 public:
  // Of an optimised graph. kUnimplemented when it cannot be proven that requests stay apart.
  static Result<std::unique_ptr<const RaggedModel>> Create(const Graph& graph,
                                                           const ProgramContext& context);

  const std::shared_ptr<const Program>& program() const { return program_; }

  // What a session keeps: an execution for each run that may go on at the same time.
  struct Executions {
    std::vector<std::unique_ptr<Execution>> all;
    int64_t arena_bytes = 0;
  };
  // All requests, each of which has the inputs of the model in its order, bound and checked, at
  // least one row and one token. The outputs of each, in the model's order; those whose tokens
  // follow each other share one buffer.
  Result<std::vector<std::vector<Tensor>>> Run(Executions& executions,
                                               std::span<const std::vector<Tensor>> requests,
                                               const RunEnvironment& env) const;
  // Rows times tokens of a request; 0: it cannot be packed.
  int64_t TokensOf(const std::vector<Tensor>& request) const;

 private:
  struct Batch;
  using Request = const std::vector<Tensor>*;
  std::vector<std::vector<size_t>> Divide(std::span<const std::vector<Tensor>> requests,
                                          int threads) const;
  Batch Measure(std::span<const Request> requests) const;
  Result<std::vector<Tensor>> PackInputs(const Batch& batch,
                                         std::span<const Request> requests) const;
  Result<std::vector<std::vector<Tensor>>> RunPacked(Execution& execution,
                                                     std::span<const Request> requests,
                                                     const RunEnvironment& env,
                                                     int64_t& arena_bytes) const;
  static Result<Tensor> CutOutput(const RaggedPort& port, const Tensor& packed, const Batch& batch,
                                  size_t request);

  std::shared_ptr<const Program> program_;
  std::vector<RaggedPort> inputs_, outputs_;
};

}  // namespace dunlin
