// For tests: an engine whose model files are a few lines of text.
//
//   in x f32 -1,4        an input; "*" instead of extents: any shape
//   out y f32 -1,4       an output: a copy of the input at the same place, `add` added to floats
//   add 1
//   sleep 20             milliseconds per execution, ended early by cancellation
//   error text           every execution fails
//   poison 7             an execution with this float in an input fails
//   whole                outputs have no batch dimension
//   fail text            loading fails
#pragma once

#include <algorithm>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "serve/backend.h"

namespace dunlin::serve {

// How often things happened, for the tests to look at.
struct FakeCounters {
  std::atomic<int> loads{0}, live_models{0}, live_instances{0}, executions{0}, cancelled{0};
  std::atomic<bool> hold{false};                 // executions wait while this is set
  std::atomic<int> fail_loads{0};                // so many loads fail, whatever the file says
  std::atomic<int> threads{0}, most_threads{0};  // that executions were given: now, ever

  std::mutex mutex;
  std::vector<int64_t> batches;  // first extent of the first input, by execution
  std::vector<int64_t> Batches() {
    const std::lock_guard lock(mutex);
    return batches;
  }
};

class FakeModel : public LoadedModel {
 public:
  explicit FakeModel(std::shared_ptr<FakeCounters> counters) : counters_(std::move(counters)) {
    ++counters_->live_models;
  }
  ~FakeModel() override { --counters_->live_models; }
  FakeModel(const FakeModel&) = delete;
  FakeModel& operator=(const FakeModel&) = delete;

  std::span<const PortInfo> inputs() const override { return ins; }
  std::span<const PortInfo> outputs() const override { return outs; }
  int64_t memory_bytes() const override { return 1000; }
  Result<std::unique_ptr<Instance>> CreateInstance(int) override {
    return std::unique_ptr<Instance>(std::make_unique<FakeInstance>(*this));
  }

  std::vector<PortInfo> ins, outs;
  int sleep_ms = 0;
  float add = 0;
  std::optional<float> poison;
  bool whole = false;
  std::string error;

 private:
  class FakeInstance : public Instance {
   public:
    explicit FakeInstance(const FakeModel& model) : model_(model) { ++counters().live_instances; }
    ~FakeInstance() override { --counters().live_instances; }
    FakeInstance(const FakeInstance&) = delete;
    FakeInstance& operator=(const FakeInstance&) = delete;
    int64_t memory_bytes() const override { return 10; }

    Result<std::vector<NamedTensor>> Execute(std::span<const NamedTensor> inputs,
                                             const RunOptions& options) override {
      const int threads = counters().threads += options.threads;
      for (int most = counters().most_threads;
           threads > most && !counters().most_threads.compare_exchange_weak(most, threads);) {
      }
      if (!inputs.empty() && inputs[0].tensor.rank() > 0) {
        const std::lock_guard lock(counters().mutex);
        counters().batches.push_back(inputs[0].tensor.dims()[0]);
      }
      ++counters().executions;
      auto results = Compute(inputs, options);
      counters().threads -= options.threads;
      return results;
    }

   private:
    Result<std::vector<NamedTensor>> Compute(std::span<const NamedTensor> inputs,
                                             const RunOptions& options) {
      const auto end =
          std::chrono::steady_clock::now() + std::chrono::milliseconds(model_.sleep_ms);
      while (counters().hold || std::chrono::steady_clock::now() < end) {
        if (options.cancelled && options.cancelled()) {
          ++counters().cancelled;
          return Fail(Code::kCancelled, "cancelled");
        }
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      if (!model_.error.empty()) return Fail(Code::kInvalidArgument, "{}", model_.error);
      std::vector<NamedTensor> results;
      for (size_t i = 0; i < model_.outs.size(); ++i) {
        const std::string& name = model_.outs[i].name;
        if (!options.outputs.empty() &&
            std::count(options.outputs.begin(), options.outputs.end(), name) == 0)
          continue;
        for (const NamedTensor& in : inputs) {
          if (in.name != model_.ins[i % model_.ins.size()].name) continue;
          Tensor t = TRY(in.tensor.Clone());
          if (t.dtype() == DType::kF32) {
            for (int64_t k = 0; k < t.count(); ++k) {
              if (t.as<float>()[k] == model_.poison)
                return Fail(Code::kInvalidArgument, "poisoned");
              t.mut<float>()[k] += model_.add;
            }
          }
          if (model_.whole) t = t.Reshaped({1, t.count()});
          results.push_back({name, std::move(t)});
        }
      }
      return results;
    }
    FakeCounters& counters() const { return *model_.counters_; }
    const FakeModel& model_;
  };

  std::shared_ptr<FakeCounters> counters_;
};

class FakeBackend : public Backend {
 public:
  explicit FakeBackend(std::shared_ptr<FakeCounters> counters = std::make_shared<FakeCounters>())
      : counters_(std::move(counters)) {}

  Result<std::shared_ptr<LoadedModel>> Load(const std::string& path,
                                            const BackendLoadOptions&) override {
    ++counters_->loads;
    if (counters_->fail_loads > 0 && counters_->fail_loads-- > 0)
      return Fail(Code::kUnavailable, "not now");
    std::ifstream in(path);
    if (!in) return Fail(Code::kNotFound, "{}: no such file", path);
    auto model = std::make_shared<FakeModel>(counters_);
    for (std::string line; std::getline(in, line);) {
      std::istringstream words(line);
      std::string key;
      words >> key;
      if (key == "in" || key == "out") {
        PortInfo port;
        std::string type, dims;
        words >> port.name >> type >> dims;
        port.dtype = TRY(ParseDType(type));
        port.has_shape = dims != "*";
        std::istringstream extents(dims == "*" ? "" : dims);
        for (std::string d; std::getline(extents, d, ',');) port.dims.push_back(std::stoll(d));
        (key == "in" ? model->ins : model->outs).push_back(port);
      } else if (key == "sleep") {
        words >> model->sleep_ms;
      } else if (key == "add") {
        words >> model->add;
      } else if (key == "poison") {
        words >> model->poison.emplace();
      } else if (key == "whole") {
        model->whole = true;
      } else if (key == "error") {
        std::getline(words >> std::ws, model->error);
      } else if (key == "fail") {
        std::string text;
        std::getline(words >> std::ws, text);
        return Fail(Code::kInvalidArgument, "{}", text);
      }
    }
    return std::shared_ptr<LoadedModel>(std::move(model));
  }

 private:
  std::shared_ptr<FakeCounters> counters_;
};

// A repository in a folder of its own that goes with it.
class TempRepository {
 public:
  TempRepository() {
    std::string pattern = (std::filesystem::temp_directory_path() / "dunlin-repo-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TempRepository() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  TempRepository(const TempRepository&) = delete;
  TempRepository& operator=(const TempRepository&) = delete;

  const std::string& path() const { return path_; }
  // Path below the repository; makes the folders.
  void Write(const std::string& file, const std::string& text) const {
    const std::filesystem::path full = std::filesystem::path(path_) / file;
    std::filesystem::create_directories(full.parent_path());
    std::ofstream(full) << text;
  }
  void Remove(const std::string& file) const {
    std::filesystem::remove_all(std::filesystem::path(path_) / file);
  }

 private:
  std::string path_;
};

}  // namespace dunlin::serve
