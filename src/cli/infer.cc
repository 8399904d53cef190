#include "cli/infer.h"

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <optional>

#include "cli/infer_shared.h"

namespace dunlin::cli {
namespace {

// Room for one output in shared memory, whose size only the server knows. Pages that it does not
// write take no memory.
constexpr uint64_t kOutputRoom = uint64_t{256} << 20;

// The outputs that the request must name: those asked for; all of them where each needs something.
std::vector<serve::CallOutput> Wanted(const InferCommand& command,
                                      const serve::RemoteModel& model) {
  std::vector<serve::CallOutput> outputs;
  for (const std::string& name : command.wanted) outputs.push_back({name, command.classes, {}});
  if (outputs.empty() && (command.classes > 0 || command.shared_memory))
    for (const PortInfo& port : model.outputs) outputs.push_back({port.name, command.classes, {}});
  return outputs;
}

// Moves the call's tensors to `region` and sends its answers there, behind them.
void UseRegion(const SharedRegion& region, serve::InferCall& call) {
  uint64_t at = 0;
  for (serve::CallInput& input : call.inputs) {
    const uint64_t bytes = StoreTensor(input.tensor, region.data() + at);
    input.memory = serve::SharedMemoryRange{region.name(), at, bytes};
    at += AlignedUp(bytes);
  }
  for (serve::CallOutput& output : call.outputs) {
    output.memory = serve::SharedMemoryRange{region.name(), at, kOutputRoom};
    at += kOutputRoom;
  }
}

uint64_t RegionBytes(const serve::InferCall& call) {
  uint64_t bytes = call.outputs.size() * kOutputRoom;
  for (const serve::CallInput& input : call.inputs) bytes += AlignedUp(StoredBytes(input.tensor));
  return bytes;
}

Status FetchFrom(const SharedRegion& region, const serve::InferCall& call,
                 std::vector<serve::CallResult>& results) {
  for (serve::CallResult& result : results) {
    const auto output = std::ranges::find(call.outputs, result.name, &serve::CallOutput::name);
    if (result.tensor.defined() || output == call.outputs.end()) continue;
    result.tensor = TRY(LoadTensor(result, {region.data() + output->memory->offset, kOutputRoom}));
  }
  return {};
}

// "0.977632:9:Ankle boot", as the classification extension has it, in the form of --top-k.
std::string ClassText(const std::string& text) {
  const size_t first = text.find(':');
  if (first == std::string::npos) return "  " + text + "\n";
  const size_t second = std::min(text.find(':', first + 1), text.size());
  std::string line = fmt::format("  {:>10}  {:>6}", text.substr(0, first),
                                 text.substr(first + 1, second - first - 1));
  if (second < text.size()) line += "  " + text.substr(second + 1);
  return line + "\n";
}

void ShowClasses(const std::vector<NamedValue>& outputs) {
  for (const NamedValue& output : outputs) {
    const Tensor& t = output.value.tensor;
    if (t.dtype() != DType::kString || t.rank() == 0 || t.dims().back() == 0) continue;
    const int64_t classes = t.dims().back();
    for (int64_t i = 0; i < t.count(); ++i) {
      if (i % classes == 0)
        fmt::print("{}", t.count() == classes ? fmt::format("{}:\n", output.name)
                                              : fmt::format("{}[{}]:\n", output.name, i / classes));
      fmt::print("{}", ClassText(t.as<std::string>()[i]));
    }
  }
}

}  // namespace

Status Infer(const InferCommand& command, Stage& stage) {
  serve::InferCall call;
  call.model = command.model;
  call.version = command.version;
  call.id = command.request_id;
  call.parameters = TRY(ParseParameters(command.parameters));
  const auto remote = TRY(Remote::Connect(command.server));
  stage = Stage::kServer;
  const serve::RemoteModel model = TRY(remote->Metadata(command.model, command.version));
  stage = Stage::kInput;
  const Inputs inputs = TRY(MakeInputs(model.inputs, command.inputs));
  for (const std::string& note : inputs.notes) fmt::print(stderr, "{}\n", note);
  for (const NamedTensor& t : inputs.tensors) call.inputs.push_back({t.name, t.tensor, {}});
  call.outputs = Wanted(command, model);
  stage = Stage::kServer;
  std::optional<SharedRegion> region;
  if (command.shared_memory) {
    region.emplace(TRY(SharedRegion::Create(*remote, "infer", RegionBytes(call))));
    UseRegion(*region, call);
  }
  auto results = TRY(remote->Infer(call));
  if (region) TRY(FetchFrom(*region, call, results));
  stage = Stage::kSetup;
  std::vector<NamedValue> outputs;
  for (serve::CallResult& result : results)
    outputs.push_back({std::move(result.name), std::move(result.tensor)});
  if (command.classes > 0) {
    ShowClasses(outputs);
    if (command.outputs.output_dir.empty()) return {};
  }
  return ShowOutputs(outputs, command.outputs);
}

}  // namespace dunlin::cli
