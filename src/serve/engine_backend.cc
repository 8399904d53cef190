#include <utility>

#include "serve/backend.h"

namespace dunlin::serve {
namespace {

class EngineInstance : public Instance {
 public:
  explicit EngineInstance(Session session) : session_(std::move(session)) {}

  Result<std::vector<NamedTensor>> Execute(std::span<const NamedTensor> inputs,
                                           const RunOptions& options) override {
    return session_.RunTensors(inputs, options);
  }
  int64_t memory_bytes() const override { return session_.arena_bytes(); }

 private:
  Session session_;
};

class EngineModel : public LoadedModel {
 public:
  explicit EngineModel(std::shared_ptr<const Model> model, int64_t bytes)
      : model_(std::move(model)), bytes_(bytes) {}

  std::span<const PortInfo> inputs() const override { return model_->inputs(); }
  std::span<const PortInfo> outputs() const override { return model_->outputs(); }
  int64_t memory_bytes() const override { return bytes_; }
  Result<std::unique_ptr<Instance>> CreateInstance(int threads) override {
    Session session = TRY(Session::Create(model_, {.threads = threads}));
    return std::unique_ptr<Instance>(std::make_unique<EngineInstance>(std::move(session)));
  }

 private:
  std::shared_ptr<const Model> model_;
  int64_t bytes_;
};

class EngineBackend : public Backend {
 public:
  explicit EngineBackend(std::optional<TuneOptions> tune) : tune_(std::move(tune)) {}

  Result<std::shared_ptr<LoadedModel>> Load(const std::string& path,
                                            const BackendLoadOptions& options) override {
    auto model =
        TRY(Model::Load(path, {.opt = options.optimize ? OptLevel::kDefault : OptLevel::kNone,
                               .tune = tune_,
                               .external_data_dir = {}}));
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
