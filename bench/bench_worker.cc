// One model, loaded and warm, that runs when told to: Dunlin's side of bench/compare.py.
//   bench_worker MODEL --threads N --input NAME=FILE.npy…
// Prints "ready MILLISECONDS" of loading; answers each line N on its input with the milliseconds of
// N runs, on one line. tools/ort_worker.mjs speaks the same protocol for ONNX Runtime.
#include <fmt/format.h>

#include <chrono>
#include <cstdlib>
#include <iostream>
#include <iterator>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/npy.h"
#include "dunlin/engine.h"

namespace dunlin {
namespace {

struct Arguments {
  std::string model;
  int threads = 1;
  std::vector<NamedTensor> inputs;
};

Result<Arguments> ParseArguments(int argc, char** argv) {
  Arguments result;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool has_value = i + 1 < argc;
    if (word == "--threads" && has_value) {
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

Result<std::string> RunMany(Session& session, const std::vector<NamedTensor>& inputs, int count) {
  using Clock = std::chrono::steady_clock;
  std::string line;
  for (int i = 0; i < count; ++i) {
    const auto start = Clock::now();
    TRY(session.Run(inputs));
    const std::chrono::duration<double, std::milli> elapsed = Clock::now() - start;
    fmt::format_to(std::back_inserter(line), "{}{:.4f}", i == 0 ? "" : " ", elapsed.count());
  }
  return line;
}

Status Serve(int argc, char** argv) {
  const Arguments arguments = TRY(ParseArguments(argc, argv));
  const auto start = std::chrono::steady_clock::now();
  const auto model = TRY(Model::Load(arguments.model));
  Session session = TRY(Session::Create(model, {.threads = arguments.threads}));
  TRY(session.Prepare(arguments.inputs));
  const std::chrono::duration<double, std::milli> load = std::chrono::steady_clock::now() - start;
  std::cout << fmt::format("ready {:.3f}", load.count()) << std::endl;
  for (int count = 0; std::cin >> count;) {
    std::cout << TRY(RunMany(session, arguments.inputs, count)) << std::endl;
  }
  return {};
}

}  // namespace
}  // namespace dunlin

int main(int argc, char** argv) {
  const dunlin::Status status = dunlin::Serve(argc, argv);
  if (!status.has_value()) std::cerr << "bench_worker: " << status.error().message << std::endl;
  return status.has_value() ? 0 : 1;
}
