#include "fuzz/mutate_model.h"

#include <cmath>
#include <limits>

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace dunlin::fuzz {
namespace {
constexpr int kMaxDepth = 24;
constexpr size_t kMaxPlaces = 1 << 14;
}  // namespace

void ModelMutator::Collect(Message& m, int depth) {
  if (depth > kMaxDepth || places_.size() > kMaxPlaces) return;
  const auto* d = m.GetDescriptor();
  const auto* r = m.GetReflection();
  for (int i = 0; i < d->field_count(); ++i) {
    const Field* f = d->field(i);
    if (f->name().starts_with("stripped_") || f->name() == "doc_string") continue;
    const bool repeated = f->is_repeated();
    const bool present = repeated ? r->FieldSize(m, f) > 0 : r->HasField(m, f);
    // What is absent is added now and then only: there is much more of it.
    if (present || Chance(4)) places_.push_back({&m, f});
    if (!present || f->cpp_type() != Field::CPPTYPE_MESSAGE) continue;
    for (int k = 0; k < (repeated ? r->FieldSize(m, f) : 1); ++k) {
      Message* child = repeated ? r->MutableRepeatedMessage(&m, f, k) : r->MutableMessage(&m, f);
      if (donors_.size() < kMaxPlaces) donors_.push_back(child);
      Collect(*child, depth + 1);
    }
  }
}

void ModelMutator::CollectNames(const Message& m, int depth) {
  if (depth > kMaxDepth || names_.size() > kMaxPlaces) return;
  const auto* r = m.GetReflection();
  std::vector<const Field*> fields;
  r->ListFields(m, &fields);
  for (const Field* f : fields) {
    if (f->cpp_type() == Field::CPPTYPE_MESSAGE) {
      for (int k = 0; k < (f->is_repeated() ? r->FieldSize(m, f) : 1); ++k)
        CollectNames(f->is_repeated() ? r->GetRepeatedMessage(m, f, k) : r->GetMessage(m, f),
                     depth + 1);
    } else if (f->is_repeated() && (f->name() == "input" || f->name() == "output")) {
      for (int k = 0; k < r->FieldSize(m, f); ++k) names_.push_back(r->GetRepeatedString(m, f, k));
    }
  }
}

int64_t ModelMutator::Number() {
  static constexpr int64_t kNumbers[] = {0,
                                         1,
                                         2,
                                         3,
                                         4,
                                         7,
                                         16,
                                         64,
                                         255,
                                         1000,
                                         -1,
                                         -2,
                                         -3,
                                         int64_t{1} << 16,
                                         int64_t{1} << 31,
                                         (int64_t{1} << 31) - 1,
                                         -(int64_t{1} << 31),
                                         int64_t{1} << 32,
                                         int64_t{1} << 40,
                                         int64_t{1} << 62,
                                         std::numeric_limits<int64_t>::max(),
                                         std::numeric_limits<int64_t>::min()};
  return Chance(60) ? int64_t(Below(8)) : kNumbers[Below(std::size(kNumbers))];
}

double ModelMutator::Real() {
  static const double kReals[] = {0,      -0.0,     1,         -1,  0.5, 2,    1e-30,      1e30,
                                  3.4e38, INFINITY, -INFINITY, NAN, 1e9, -1e9, 2147483648.};
  return Chance(50) ? double(int(Below(21)) - 10) / 4 : kReals[Below(std::size(kReals))];
}

std::string ModelMutator::Text(const Field& field, const std::string& old) {
  const std::string& name = field.name();
  if (name == "op_type" && !operators_.empty() && Chance(90)) {
    const std::string& op = operators_[Below(operators_.size())];
    return op.substr(op.rfind('.') + 1);
  }
  if (name == "domain") {
    static const char* kDomains[] = {"", "ai.onnx", "ai.onnx.ml", "com.microsoft", "custom"};
    return kDomains[Below(std::size(kDomains))];
  }
  if ((name == "input" || name == "output" || name == "name") && !names_.empty() && Chance(80))
    return Chance(10) ? std::string() : names_[Below(names_.size())];
  std::string bytes = old.substr(0, 4096);
  bytes.resize(bytes.size() + 64);
  bytes.resize(
      LLVMFuzzerMutate(reinterpret_cast<uint8_t*>(bytes.data()), bytes.size() - 64, bytes.size()));
  return bytes;
}

// index < 0: the field is not a list.
void ModelMutator::ChangeScalar(Message& m, const Field& f, int index) {
  const auto* r = m.GetReflection();
  const bool list = index >= 0;
  switch (f.cpp_type()) {
    case Field::CPPTYPE_INT32: {
      const bool type = f.name() == "data_type" || f.name() == "elem_type";
      const auto v = int32_t(type ? int64_t(Below(27)) : Number());
      list ? r->SetRepeatedInt32(&m, &f, index, v) : r->SetInt32(&m, &f, v);
      break;
    }
    case Field::CPPTYPE_INT64: {
      const int64_t v = f.name() == "version" ? int64_t(Below(27)) : Number();
      list ? r->SetRepeatedInt64(&m, &f, index, v) : r->SetInt64(&m, &f, v);
      break;
    }
    case Field::CPPTYPE_UINT64:
      list ? r->SetRepeatedUInt64(&m, &f, index, uint64_t(Number()))
           : r->SetUInt64(&m, &f, uint64_t(Number()));
      break;
    case Field::CPPTYPE_FLOAT:
      list ? r->SetRepeatedFloat(&m, &f, index, float(Real())) : r->SetFloat(&m, &f, float(Real()));
      break;
    case Field::CPPTYPE_DOUBLE:
      list ? r->SetRepeatedDouble(&m, &f, index, Real()) : r->SetDouble(&m, &f, Real());
      break;
    case Field::CPPTYPE_ENUM: {
      const auto* values = f.enum_type();
      const auto* v = values->value(int(Below(size_t(values->value_count()))));
      list ? r->SetRepeatedEnum(&m, &f, index, v) : r->SetEnum(&m, &f, v);
      break;
    }
    case Field::CPPTYPE_STRING: {
      const std::string old = list ? r->GetRepeatedString(m, &f, index) : r->GetString(m, &f);
      list ? r->SetRepeatedString(&m, &f, index, Text(f, old)) : r->SetString(&m, &f, Text(f, old));
      break;
    }
    default:
      break;
  }
}

void ModelMutator::ChangeList(Message& m, const Field& f) {
  const auto* r = m.GetReflection();
  const int count = r->FieldSize(m, &f);
  const size_t what = count == 0 ? 0 : Below(5);
  if (what == 1) {  // the last one goes
    r->RemoveLast(&m, &f);
  } else if (what == 2) {
    r->SwapElements(&m, &f, int(Below(size_t(count))), int(Below(size_t(count))));
  } else if (what == 3) {  // any one goes
    r->SwapElements(&m, &f, int(Below(size_t(count))), count - 1);
    r->RemoveLast(&m, &f);
  } else if (f.cpp_type() == Field::CPPTYPE_MESSAGE) {
    std::vector<const Message*> like;
    for (const Message* d : donors_)
      if (d->GetDescriptor() == f.message_type()) like.push_back(d);
    Message* added = r->AddMessage(&m, &f);
    if (like.empty()) return;
    const std::unique_ptr<Message> copy(added->New());
    copy->CopyFrom(*like[Below(like.size())]);  // it may hold the list it is added to
    added->CopyFrom(*copy);
  } else {
    switch (f.cpp_type()) {
      case Field::CPPTYPE_INT32:
        r->AddInt32(&m, &f, 0);
        break;
      case Field::CPPTYPE_INT64:
        r->AddInt64(&m, &f, 0);
        break;
      case Field::CPPTYPE_UINT64:
        r->AddUInt64(&m, &f, 0);
        break;
      case Field::CPPTYPE_FLOAT:
        r->AddFloat(&m, &f, 0);
        break;
      case Field::CPPTYPE_DOUBLE:
        r->AddDouble(&m, &f, 0);
        break;
      case Field::CPPTYPE_STRING:
        r->AddString(&m, &f, "");
        break;
      default:
        return;
    }
    ChangeScalar(m, f, count);
  }
}

void ModelMutator::ChangeField(const Place& p) {
  Message& m = *p.message;
  const Field& f = *p.field;
  const auto* r = m.GetReflection();
  const bool message = f.cpp_type() == Field::CPPTYPE_MESSAGE;
  if (f.is_repeated()) {
    const int count = r->FieldSize(m, &f);
    if (!message && count > 0 && Chance(70))
      ChangeScalar(m, f, int(Below(size_t(count))));
    else
      ChangeList(m, f);
  } else if (r->HasField(m, &f) && Chance(message ? 60 : 10)) {
    r->ClearField(&m, &f);
  } else if (message) {
    r->MutableMessage(&m, &f);
  } else {
    ChangeScalar(m, f, -1);
  }
}

void ModelMutator::Mutate(onnx::ModelProto& model) {
  for (size_t i = 0; i <= Below(3); ++i) {
    places_.clear();
    names_.clear();
    donors_.clear();
    CollectNames(model, 0);
    Collect(model, 0);
    if (places_.empty()) return;
    ChangeField(places_[Below(places_.size())]);
  }
}

void ModelMutator::Join(onnx::ModelProto& model, const onnx::ModelProto& from) {
  onnx::GraphProto& graph = *model.mutable_graph();
  const int inputs = graph.node_size() ? 1 : 0;
  graph.mutable_node()->MergeFrom(from.graph().node());
  graph.mutable_initializer()->MergeFrom(from.graph().initializer());
  if (Chance(50)) graph.mutable_input()->MergeFrom(from.graph().input());
  model.mutable_functions()->MergeFrom(from.functions());
  if (Chance(50)) graph.mutable_output()->MergeFrom(from.graph().output());
  if (inputs == 0) *model.mutable_opset_import() = from.opset_import();
  // One feeds the other.
  if (graph.node_size() > 1 && Chance(70)) {
    names_.clear();
    CollectNames(graph, 0);
    auto* node = graph.mutable_node(int(Below(size_t(graph.node_size()))));
    if (node->input_size() > 0)
      node->set_input(int(Below(size_t(node->input_size()))),
                      Text(*node->GetDescriptor()->FindFieldByName("input"), ""));
  }
}

}  // namespace dunlin::fuzz
