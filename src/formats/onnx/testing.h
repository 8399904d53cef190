// Models made by hand, for tests of the importer.
#pragma once

#include <cstring>
#include <string>
#include <vector>

#include "formats/onnx.h"
#include "formats/onnx/messages.pb.h"

namespace dunlin::onnx_import {

struct ModelMaker {
  onnx::ModelProto model;
  explicit ModelMaker(int opset = 13) {
    model.set_ir_version(8);
    model.add_opset_import()->set_version(opset);
    model.mutable_graph()->set_name("test");
  }
  onnx::GraphProto& graph() { return *model.mutable_graph(); }
  static void Describe(onnx::ValueInfoProto* v, const std::string& name,
                       const std::vector<std::string>& dims) {
    v->set_name(name);
    auto* t = v->mutable_type()->mutable_tensor_type();
    t->set_elem_type(onnx::TensorProto::FLOAT);
    t->mutable_shape();
    for (const auto& d : dims) {
      auto* dim = t->mutable_shape()->add_dim();
      if (!d.empty() && (std::isdigit(d[0]) || d[0] == '-'))
        dim->set_dim_value(std::stoll(d));
      else
        dim->set_dim_param(d);
    }
  }
  void Input(const std::string& name, const std::vector<std::string>& dims) {
    Describe(graph().add_input(), name, dims);
  }
  void Output(const std::string& name) { graph().add_output()->set_name(name); }
  onnx::NodeProto& Node(const std::string& op, const std::vector<std::string>& in,
                        const std::vector<std::string>& out) {
    return NodeOf(graph(), op, in, out);
  }
  // In a graph or a function.
  template <class Proto>
  static onnx::NodeProto& NodeOf(Proto& of, const std::string& op,
                                 const std::vector<std::string>& in,
                                 const std::vector<std::string>& out) {
    auto* n = of.add_node();
    n->set_op_type(op);
    n->set_name(op + "_" + std::to_string(of.node_size()));
    for (const auto& i : in) n->add_input(i);
    for (const auto& o : out) n->add_output(o);
    return *n;
  }
  onnx::FunctionProto& Function(const std::string& name, const std::vector<std::string>& in,
                                const std::vector<std::string>& out) {
    auto* f = model.add_functions();
    f->set_domain("custom");
    f->set_name(name);
    for (const auto& i : in) f->add_input(i);
    for (const auto& o : out) f->add_output(o);
    return *f;
  }
  onnx::NodeProto& Call(const std::string& function, const std::vector<std::string>& in,
                        const std::vector<std::string>& out) {
    auto& n = Node(function, in, out);
    n.set_domain("custom");
    return n;
  }
  static void Int(onnx::NodeProto& n, const std::string& name, int64_t v) {
    auto* a = n.add_attribute();
    a->set_name(name);
    a->set_type(onnx::AttributeProto::INT);
    a->set_i(v);
  }
  // The attribute is the enclosing function's `of`.
  static void Ref(onnx::NodeProto& n, const std::string& name, const std::string& of,
                  onnx::AttributeProto::AttributeType type) {
    auto* a = n.add_attribute();
    a->set_name(name);
    a->set_type(type);
    a->set_ref_attr_name(of);
  }
  static void Ints(onnx::NodeProto& n, const std::string& name, const std::vector<int64_t>& v) {
    auto* a = n.add_attribute();
    a->set_name(name);
    a->set_type(onnx::AttributeProto::INTS);
    for (const int64_t x : v) a->add_ints(x);
  }
  onnx::TensorProto& Weight(const std::string& name, const std::vector<int64_t>& dims,
                            const std::vector<float>& values) {
    auto* t = graph().add_initializer();
    t->set_name(name);
    t->set_data_type(onnx::TensorProto::FLOAT);
    for (const int64_t d : dims) t->add_dims(d);
    t->set_raw_data(std::string(reinterpret_cast<const char*>(values.data()), values.size() * 4));
    return *t;
  }
  Result<ImportedModel> Import(const std::string& dir = "") const {
    return ImportBytes(model.SerializeAsString(), dir);
  }
  Result<ImportedModel> Feed(const std::set<std::string>& names) const {
    return ImportBytes(model.SerializeAsString(), "", {.real_dir = {}, .fed = names});
  }
  static Result<ImportedModel> ImportBytes(const std::string& bytes, const std::string& dir = "",
                                           const ImportOptions& options = {}) {
    auto buffer = *Buffer::Allocate(bytes.size());
    if (!bytes.empty()) std::memcpy(buffer->data(), bytes.data(), bytes.size());
    return ImportOnnx({buffer->data(), bytes.size()}, buffer, dir, options);
  }
};

inline std::string ErrorOf(const Result<ImportedModel>& r) {
  return r ? "no error" : r.error().message;
}

}  // namespace dunlin::onnx_import
