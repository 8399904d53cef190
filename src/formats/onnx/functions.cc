// Functions that a model brings along: found by name, calls among them checked before any is
// inlined.
#include <algorithm>

#include "formats/onnx/internal.h"
#include "formats/onnx/messages.pb.h"

namespace dunlin::onnx_import {
namespace {

std::string Key(std::string_view domain, std::string_view name, std::string_view overload) {
  std::string key(domain);
  for (const auto part : {name, overload}) (key += '\0') += part;
  return key;
}

// ONNX's releases: the newest operator set that was current with an IR version.
int OpsetOfIrVersion(int64_t ir) {
  static constexpr int kNewest[] = {1, 1, 1, 8, 9, 10, 11, 14, 18, 20, 22, 23, 24};
  return ir < 0 ? 1 : ir < int64_t(std::size(kNewest)) ? kNewest[ir] : 24;
}

}  // namespace

std::string NormalDomain(const std::string& d) { return d == "ai.onnx" ? std::string() : d; }

std::string QualifiedName(const std::string& domain, const std::string& op) {
  return domain.empty() ? op : domain + "." + op;
}

Opsets ReadOpsets(const onnx::ModelProto& model) {
  Opsets out;
  for (const auto& o : model.opset_import()) {
    int& version = out[NormalDomain(o.domain())];
    version = std::max(version, int(std::clamp<int64_t>(o.version(), 1, 1000)));
  }
  out.try_emplace("", OpsetOfIrVersion(model.ir_version()));
  return out;
}

Result<FunctionTable> FunctionTable::Of(const onnx::ModelProto& model, const Opsets& opsets) {
  FunctionTable table;
  for (const auto& f : model.functions()) {
    Function function{&f, opsets};
    Opsets own;
    for (const auto& o : f.opset_import()) {
      int& version = own[NormalDomain(o.domain())];
      version = std::max(version, int(std::clamp<int64_t>(o.version(), 1, 1000)));
    }
    for (const auto& [domain, version] : own) function.opsets[domain] = version;
    const std::string key = Key(NormalDomain(f.domain()), f.name(), f.overload());
    if (!table.functions_.emplace(key, std::move(function)).second)
      return Fail(Code::kInvalidArgument, "function '{}' is defined twice",
                  QualifiedName(NormalDomain(f.domain()), f.name()));
  }
  return table;
}

const Function* FunctionTable::Find(const onnx::NodeProto& n) const {
  if (functions_.empty()) return nullptr;
  const auto it = functions_.find(Key(NormalDomain(n.domain()), n.op_type(), n.overload()));
  return it == functions_.end() ? nullptr : &it->second;
}

const onnx::AttributeProto* CallFrame::Resolve(const onnx::AttributeProto& a) const {
  if (a.ref_attr_name().empty()) return &a;
  const auto it = attributes.find(a.ref_attr_name());
  return it == attributes.end() ? nullptr : it->second;
}

Status CallFrame::Bind(const Function& function, const onnx::NodeProto& call,
                       const CallFrame& caller) {
  const onnx::FunctionProto& f = *function.proto;
  const auto fail = [&](Code code, std::string_view what) {
    return Fail(code, "function {}: {}", f.name(), what);
  };
  for (const auto& a : f.attribute_proto()) {
    if (a.has_g()) return fail(Code::kUnimplemented, "a sub-graph as default of an attribute");
    attributes[a.name()] = &a;
  }
  for (const auto& a : call.attribute()) {
    const bool declared =
        attributes.contains(a.name()) ||
        std::find(f.attribute().begin(), f.attribute().end(), a.name()) != f.attribute().end();
    if (!declared && IsAnnotation(a.name())) continue;
    if (!declared)
      return fail(Code::kInvalidArgument, fmt::format("it has no attribute '{}'", a.name()));
    const onnx::AttributeProto* value = caller.Resolve(a);
    if (value == nullptr) continue;  // absent in the caller too
    if (value->has_g() || value->graphs_size() > 0)
      return fail(Code::kUnimplemented,
                  fmt::format("a sub-graph as attribute '{}' of a call", a.name()));
    attributes[a.name()] = value;
  }
  opsets = &function.opsets;
  function_name = f.name();
  calls = caller.calls + 1;
  return {};
}

}  // namespace dunlin::onnx_import
