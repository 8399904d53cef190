// A graph as a ModelProto: the opset is found, nodes are written, weights go to the file as they
// lie.
#include <algorithm>
#include <charconv>

#include "formats/onnx/export_file.h"
#include "formats/onnx/export_graph.h"

namespace dunlin {
namespace onnx_export {
namespace {

// Field numbers of onnx.proto.
namespace model {
constexpr uint32_t kIrVersion = 1, kProducerName = 2, kProducerVersion = 3, kGraph = 7,
                   kOpsetImport = 8, kMetadataProps = 14;
}
namespace graph {
constexpr uint32_t kName = 2, kInitializer = 5, kInput = 11, kOutput = 12;
}

// What protobuf can parse in one message.
constexpr uint64_t kLargestMessage = 0x7fffffff;

// The IR version of the release that brought the opset. Not below 4: until then initialisers had to
// be inputs too.
int IrVersionOf(int opset) {
  static constexpr std::pair<int, int> kVersions[] = {{24, 12}, {23, 11}, {21, 10}, {19, 9},
                                                      {15, 8},  {12, 7},  {11, 6},  {10, 5}};
  for (const auto& [from, version] : kVersions)
    if (opset >= from) return version;
  return 4;
}

int NumberIn(const std::map<std::string, std::string>& metadata, const std::string& key) {
  const auto it = metadata.find(key);
  int v = 0;
  if (it != metadata.end())
    std::from_chars(it->second.data(), it->second.data() + it->second.size(), v);
  return v;
}

// A model's graph, written for one opset.
struct Written {
  ModelWriter shared;
  Message inputs, outputs, value_info, nodes;
  std::vector<ModelWriter::Shared> constants;
};

// What inference found of an output; the file's word where it found less.
Type OutputType(const Type& found, const Type& declared) {
  Type t = found;
  if (t.dtype == DType::kUndefined) t.dtype = declared.dtype;
  if (t.kind != declared.kind) return declared;
  if (!t.ranked && declared.ranked) return Type{t.kind, t.dtype, true, declared.dims};
  if (declared.ranked && t.dims.size() == declared.dims.size())
    for (size_t d = 0; d < t.dims.size(); ++d)
      if (t.dims[d] == kUnknownDim) t.dims[d] = declared.dims[d];
  return t;
}

Status WriteGraph(const ImportedModel& m, const Graph& g, Written& w) {
  GraphWriter writer(w.shared, g, true);
  const SymbolTable& symbols = g.symbols();
  for (size_t i = 0; i < m.inputs.size(); ++i) {
    w.shared.names.insert(m.inputs[i].name);
    writer.Bind(g.inputs()[i], m.inputs[i].name);
    w.shared.NeedType(m.inputs[i].type.dtype);
    if (m.inputs[i].type.kind == Type::Kind::kOptional) w.shared.ir_version = 8;
    w.inputs.Sub(graph::kInput, ValueInfo(m.inputs[i].name, &m.inputs[i].type, symbols,
                                          m.inputs[i].optional_sequence));
  }
  std::set<ValueId> bound;
  for (size_t i = 0; i < m.outputs.size(); ++i) {
    w.shared.names.insert(m.outputs[i].name);
    const ValueId v = g.outputs()[i];
    if (g.producer(v) != nullptr && bound.insert(v).second) writer.Bind(v, m.outputs[i].name);
  }
  writer.WriteNodes();
  for (size_t i = 0; i < m.outputs.size(); ++i) {
    const ValueId v = g.outputs()[i];
    const Type type = OutputType(g.value(v).type, m.outputs[i].type);
    std::string name = m.outputs[i].name;
    if (!g.value(v).is_input || writer.NameOf(v) != name) name = writer.OutputName(v, name);
    w.outputs.Sub(graph::kOutput, ValueInfo(name, &type, symbols, m.outputs[i].optional_sequence));
  }
  writer.WriteValueInfo(w.value_info);
  w.constants = writer.constants();
  w.constants.insert(w.constants.end(), w.shared.shared.begin(), w.shared.shared.end());
  w.nodes = writer.TakeNodes();
  return {};
}

Message Opset(const std::string& domain, int version) {
  Message m;
  m.Text(1, domain);
  return m.Int(2, version);
}

Message ModelMessage(const ImportedModel& m, const Written& w, ExportReport& report,
                     DataFile* data) {
  const auto known = [&](const std::string& key) {
    const auto it = m.metadata.find(key);
    return it == m.metadata.end() ? std::string() : it->second;
  };
  Message g = w.nodes;
  g.Text(graph::kName, known("graph").empty() ? "graph" : known("graph"));
  for (const ModelWriter::Shared& c : w.constants)
    g.Sub(graph::kInitializer, TensorMessage(c.name, c.tensor, data));
  g.Append(w.inputs).Append(w.outputs).Append(w.value_info);
  report.ir_version = std::max(IrVersionOf(report.opset), w.shared.ir_version);
  Message out;
  out.Int(model::kIrVersion, report.ir_version);
  out.Text(model::kProducerName, "dunlin").Text(model::kProducerVersion, DUNLIN_VERSION);
  out.Sub(model::kGraph, std::move(g));
  out.Sub(model::kOpsetImport, Opset("", report.opset));
  for (const std::string& domain : w.shared.domains)
    if (!domain.empty())
      out.Sub(model::kOpsetImport,
              Opset(domain, std::max(1, NumberIn(m.metadata, "opset." + domain))));
  constexpr std::string_view kOwn = "model.";  // prefix of the model's own keys
  for (const auto& [key, value] : m.metadata)
    if (key.starts_with(kOwn))
      out.Sub(model::kMetadataProps, Message().Text(1, key.substr(kOwn.size())).Text(2, value));
  return out;
}

std::string Refused(const std::vector<Refusal>& refusals, int opset) {
  constexpr size_t kNamed = 4;
  int least = 0;
  std::string list;
  for (size_t i = 0; i < refusals.size(); ++i) {
    least = std::max(least, refusals[i].least);
    if (i < kNamed)
      list += fmt::format("{}{}: {}{}", i ? "; " : "", refusals[i].place, refusals[i].what,
                          refusals[i].least > kMaxOpset
                              ? " has no form in standard operators"
                              : fmt::format(" needs opset {}", refusals[i].least));
  }
  if (refusals.size() > kNamed) list += fmt::format("; and {} more", refusals.size() - kNamed);
  if (least > kMaxOpset) return fmt::format("the model cannot be written as ONNX: {}", list);
  return fmt::format("the model cannot be written in opset {}: {}; give --opset {}", opset, list,
                     least);
}

// The opset that was asked for, or the first from the model's own on that works.
Result<Written> WriteFor(const ImportedModel& m, const ExportOptions& options, int& opset) {
  if (options.opset != 0 && (options.opset < kMinOpset || options.opset > kMaxOpset))
    return Fail(Code::kInvalidArgument, "opset {}: {} to {} can be written", options.opset,
                kMinOpset, kMaxOpset);
  const int source = NumberIn(m.metadata, "opset");
  opset = options.opset != 0 ? options.opset : std::clamp(source, kMinOpset, kMaxOpset);
  while (true) {
    const auto graph = m.graph->Clone();
    Written w;
    w.shared.opset = opset;
    w.shared.source_opset = source;
    TRY(ExpandFor(*graph, opset, w.shared.refusals));
    graph->RemoveDeadNodes();
    // What has no form would be written wrongly.
    if (w.shared.refusals.empty()) TRY(WriteGraph(m, *graph, w));
    if (w.shared.refusals.empty()) return w;
    int least = 0;
    for (const Refusal& r : w.shared.refusals) least = std::max(least, r.least);
    if (options.opset != 0 || least > kMaxOpset || least <= opset)
      return Fail(Code::kUnimplemented, "{}", Refused(w.shared.refusals, opset));
    opset = least;
  }
}

}  // namespace
}  // namespace onnx_export

Result<ExportReport> ExportOnnx(const ImportedModel& m, const std::string& path,
                                const ExportOptions& options) {
  using namespace onnx_export;
  ExportReport report;
  const Written w = TRY(WriteFor(m, options, report.opset));
  report.nodes = w.shared.nodes;
  DataFile data;
  data.name = path.substr(path.find_last_of('/') + 1) + ".data";
  const bool always = options.external_data == ExternalData::kAlways;
  Message message = ModelMessage(m, w, report, always ? &data : nullptr);
  if (message.size() > kLargestMessage && options.external_data == ExternalData::kAuto)
    message = ModelMessage(m, w, report, &data);
  if (message.size() > kLargestMessage)
    return Fail(Code::kInvalidArgument,
                "the model file would have {} bytes; more than {} cannot be read by others{}",
                message.size(), kLargestMessage,
                options.external_data == ExternalData::kNever ? "; let weights go beside it" : "");
  report.model_bytes = int64_t(message.size());
  report.data_bytes = int64_t(data.bytes);
  if (!data.tensors.empty()) report.data_file = data.name;
  TRY(WriteModel(path, message, data, options));
  return report;
}

Result<std::string> ExportOnnxBytes(const ImportedModel& m, const ExportOptions& options) {
  using namespace onnx_export;
  ExportReport report;
  const Written w = TRY(WriteFor(m, options, report.opset));
  std::string bytes;
  const Message message = ModelMessage(m, w, report, nullptr);
  bytes.reserve(message.size());
  for (const Message::Piece& p : message.pieces()) {
    bytes += p.bytes;
    if (p.tensor.defined())
      bytes.append(reinterpret_cast<const char*>(p.tensor.source()), size_t(p.tensor.bytes()));
  }
  return bytes;
}

}  // namespace dunlin
