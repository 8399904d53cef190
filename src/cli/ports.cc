#include "cli/ports.h"

#include "cli/text.h"

namespace dunlin::cli {
namespace {

// "[batch,3,?,224]": symbols by name, unknown extents as '?'.
std::string ShapeText(const PortInfo& port) {
  if (port.key != DType::kUndefined) return "";
  if (!port.has_shape) return "any";
  std::string text = "[";
  for (size_t i = 0; i < port.dims.size(); ++i) {
    const bool named = i < port.dim_names.size() && !port.dim_names[i].empty();
    text += i ? "," : "";
    text += IsKnown(port.dims[i]) ? fmt::format("{}", port.dims[i])
            : named               ? port.dim_names[i]
                                  : "?";
  }
  return text + "]";
}

std::string TypeText(const PortInfo& p) {
  if (p.key == DType::kUndefined) return std::string(DTypeName(p.dtype));
  return fmt::format("map({},{})", DTypeName(p.key), DTypeName(p.dtype));
}

}  // namespace

std::string PortsText(const char* title, std::span<const PortInfo> ports) {
  Table table({title, "type", "shape", ""});
  for (const PortInfo& p : ports)
    table.Add({p.name, TypeText(p), ShapeText(p),
               p.sequence   ? "sequence"
               : p.optional ? "optional"
                            : ""});
  return table.Text() + '\n';
}

void PortsJson(JsonWriter& json, std::string_view key, std::span<const PortInfo> ports) {
  json.Key(key).BeginArray();
  for (const PortInfo& p : ports) {
    json.BeginObject().Key("name").String(p.name).Key("dtype").String(DTypeName(p.dtype));
    if (p.has_shape) {
      json.Key("shape").BeginArray();
      for (size_t i = 0; i < p.dims.size(); ++i) {
        if (IsKnown(p.dims[i]))
          json.Int(p.dims[i]);
        else
          json.String(i < p.dim_names.size() && !p.dim_names[i].empty() ? p.dim_names[i] : "?");
      }
      json.End();
    }
    if (p.key != DType::kUndefined) json.Key("key").String(DTypeName(p.key));
    json.Key("optional").Bool(p.optional).Key("sequence").Bool(p.sequence).End();
  }
  json.End();
}

}  // namespace dunlin::cli
