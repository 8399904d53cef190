#include <algorithm>
#include <utility>

#include "base/log.h"
#include "serve/backend.h"

namespace dunlin::serve {
namespace {

class EngineInstance : public Instance {
 public:
  // `all`: the outputs of a request that names none; empty: all.
  EngineInstance(Session session, std::vector<std::string> all)
      : session_(std::move(session)), all_(std::move(all)) {}

  Result<std::vector<NamedTensor>> Execute(std::span<const NamedTensor> inputs,
                                           const RunOptions& options) override {
    std::vector<NamedTensor> completed;
    inputs = WithDefaults(inputs, completed);
    if (all_.empty() || !options.outputs.empty()) return session_.RunTensors(inputs, options);
    RunOptions tensors = options;
    tensors.outputs = all_;
    return session_.RunTensors(inputs, tensors);
  }
  Result<std::vector<std::vector<NamedTensor>>> ExecuteRagged(
      std::span<const std::span<const NamedTensor>> requests, const RunOptions& options) override {
    return session_.RunRagged(requests, options);
  }
  int64_t memory_bytes() const override { return session_.arena_bytes(); }

 private:
  // The inputs, with the model's own value for those that may be left out and are.
  std::span<const NamedTensor> WithDefaults(std::span<const NamedTensor> inputs,
                                            std::vector<NamedTensor>& completed) const {
    if (inputs.size() == session_.model().inputs().size()) return inputs;
    completed.assign(inputs.begin(), inputs.end());
    for (const NamedTensor& d : session_.model().fed_defaults())
      if (std::none_of(inputs.begin(), inputs.end(),
                       [&](const NamedTensor& t) { return t.name == d.name; }))
        completed.push_back(d);
    return completed;
  }

  Session session_;
  const std::vector<std::string> all_;
};

class EngineModel : public LoadedModel {
 public:
  EngineModel(std::shared_ptr<const Model> model, int64_t bytes)
      : model_(std::move(model)), bytes_(bytes) {
    for (const PortInfo& p : model_->outputs()) {
      if (!p.sequence && p.key == DType::kUndefined) {
        outputs_.push_back(p);
        continue;
      }
      log::Warning("an output is not served: the protocol carries tensors only",
                   {{"output", p.name}, {"holds", p.sequence ? "a sequence" : "a map"}});
    }
  }

  std::span<const PortInfo> inputs() const override { return model_->inputs(); }
  std::span<const PortInfo> outputs() const override { return outputs_; }
  int64_t memory_bytes() const override { return bytes_; }
  bool ragged() const override { return model_->ragged().has_value(); }
  Result<std::unique_ptr<Instance>> CreateInstance(int threads) override {
    Session session = TRY(Session::Create(model_, {.threads = threads}));
    return std::unique_ptr<Instance>(
        std::make_unique<EngineInstance>(std::move(session), TensorOutputs()));
  }

 private:
  // What a request for all outputs asks the engine for; empty: all.
  std::vector<std::string> TensorOutputs() const {
    std::vector<std::string> names;
    if (outputs_.size() < model_->outputs().size())
      for (const PortInfo& p : outputs_) names.push_back(p.name);
    return names;
  }

  std::shared_ptr<const Model> model_;
  std::vector<PortInfo> outputs_;  // those that are tensors
  int64_t bytes_;
};

class EngineBackend : public Backend {
 public:
  explicit EngineBackend(std::optional<TuneOptions> tune) : tune_(std::move(tune)) {}

  Result<std::shared_ptr<LoadedModel>> Load(const std::string& path,
                                            const BackendLoadOptions& options) override {
    LoadOptions load;
    load.opt = options.optimize ? OptLevel::kDefault : OptLevel::kNone;
    load.compute = options.compute;
    load.tune = tune_;
    load.scores_of_maps = true;
    auto model = TRY(Model::Load(path, load));
    for (const PortInfo& p : model->default_inputs())
      if (std::count(options.inputs.begin(), options.inputs.end(), p.name) > 0)
        load.fed_defaults.push_back(p.name);
    if (!load.fed_defaults.empty()) model = TRY(Model::Load(path, load));
    // Weights are nearly always 4-byte floats; the engine does not count bytes per type.
    const int64_t bytes = model->parameters() * 4;
    return std::shared_ptr<LoadedModel>(std::make_shared<EngineModel>(std::move(model), bytes));
  }

 private:
  const std::optional<TuneOptions> tune_;
};

}  // namespace

std::unique_ptr<Backend> CreateEngineBackend(std::optional<TuneOptions> tune) {
  return std::make_unique<EngineBackend>(std::move(tune));
}

}  // namespace dunlin::serve
