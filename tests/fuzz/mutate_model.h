// Changes an ONNX model into a similar one: most results still parse, many still load.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "formats/onnx/messages.pb.h"

namespace dunlin::fuzz {

class ModelMutator {
 public:
  // operators: names to choose from, "Conv" or "domain.Name".
  ModelMutator(uint32_t seed, const std::vector<std::string>& operators)
      : random_(seed), operators_(operators) {}
  void Mutate(onnx::ModelProto& model);
  // Puts parts of `from` into `model`.
  void Join(onnx::ModelProto& model, const onnx::ModelProto& from);

 private:
  using Message = google::protobuf::Message;
  using Field = google::protobuf::FieldDescriptor;
  struct Place {
    Message* message;
    const Field* field;
  };
  size_t Below(size_t n) { return n == 0 ? 0 : random_() % n; }
  bool Chance(int percent) { return Below(100) < size_t(percent); }
  void Collect(Message& m, int depth);
  void CollectNames(const Message& m, int depth);
  int64_t Number();
  double Real();
  std::string Text(const Field& field, const std::string& old);
  void ChangeScalar(Message& m, const Field& f, int index);
  void ChangeList(Message& m, const Field& f);
  void ChangeField(const Place& p);

  std::mt19937 random_;
  const std::vector<std::string>& operators_;
  std::vector<Place> places_;
  std::vector<std::string> names_;      // of values
  std::vector<const Message*> donors_;  // messages to copy from
};

}  // namespace dunlin::fuzz
