// One model, loaded and warm, that runs when told to: Dunlin's side of bench/compare.py.
//   bench_worker [--kernels] MODEL --threads N --input NAME=FILE.npy…
// With --kernels only the steps that compute count, as the profile measures them, without those
// that bring values into another layout; says which kernels they are. tools/ort_worker.mjs speaks
// the same protocol (turns.h) for ONNX Runtime.
#include <chrono>
#include <cstdlib>
#include <iostream>
#include <string>
#include <vector>

#include "base/result.h"
#include "bench/turns.h"
#include "cli/npy.h"
#include "dunlin/engine.h"

namespace dunlin {
namespace {

struct Arguments {
  std::string model;
  bool kernels = false;
  int threads = 1;
  std::vector<NamedTensor> inputs;
};

Result<Arguments> ParseArguments(int argc, char** argv) {
  Arguments result;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool has_value = i + 1 < argc;
    if (word == "--kernels") {
      result.kernels = true;
    } else if (word == "--threads" && has_value) {
      result.threads = std::atoi(argv[++i]);
    } else if (word == "--input" && has_value) {
      const std::string binding = argv[++i];
      const size_t split = binding.rfind('=');
      if (split == std::string::npos) {
        return Fail(Code::kInvalidArgument, "--input {}: expected NAME=FILE.npy", binding);
      }
      result.inputs.push_back(
          {binding.substr(0, split), TRY(cli::ReadNpy(binding.substr(split + 1)))});
    } else {
      result.model = word;
    }
  }
  return result;
}

// Of the steps that compute: the sum of their times, the names of their kernels.
struct Kernels {
  double ms = 0;
  std::string names;
};
Result<Kernels> ProfileKernels(Session& session, const std::vector<NamedTensor>& inputs) {
  Kernels found;
  for (const StepProfile& step : TRY(session.Profile(inputs))) {
    if (step.op == "reorder" || step.op == "Transpose") continue;
    found.ms += step.microseconds / 1000;
    found.names += (found.names.empty() ? "" : " + ") + step.kernel;
  }
  return found;
}

Status Serve(int argc, char** argv) {
  const Arguments arguments = TRY(ParseArguments(argc, argv));
  const auto start = std::chrono::steady_clock::now();
  const auto model = TRY(Model::Load(arguments.model));
  Session session = TRY(Session::Create(model, {.threads = arguments.threads}));
  TRY(session.Prepare(arguments.inputs));
  const double load_ms = MillisSince(start);
  if (arguments.kernels) {
    const Kernels first = TRY(ProfileKernels(session, arguments.inputs));
    return AnswerTurns(load_ms, first.names, [&]() -> Result<double> {
      return TRY(ProfileKernels(session, arguments.inputs)).ms;
    });
  }
  return AnswerTurns(load_ms, "", [&]() -> Result<double> {
    const auto begin = std::chrono::steady_clock::now();
    TRY(session.Run(arguments.inputs));
    return MillisSince(begin);
  });
}

}  // namespace
}  // namespace dunlin

int main(int argc, char** argv) {
  const dunlin::Status status = dunlin::Serve(argc, argv);
  if (!status.has_value()) std::cerr << "bench_worker: " << status.error().message << std::endl;
  return status.has_value() ? 0 : 1;
}
