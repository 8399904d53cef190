// Values inside a model, as outputs.
#include "dunlin/values.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "dunlin/engine.h"

namespace dunlin {
namespace {

constexpr const char* kModel = DUNLIN_ASSETS "/tiny_fashion.onnx";

std::vector<std::string> NamesOf(const std::vector<InnerValue>& values) {
  std::vector<std::string> names;
  for (const InnerValue& v : values) names.push_back(v.name);
  return names;
}

Result<std::vector<NamedValue>> RunWith(const std::vector<std::string>& extra, OptLevel opt) {
  LoadOptions options;
  options.opt = opt;
  options.extra_outputs = extra;
  const auto model = TRY(Model::Load(kModel, options));
  Session session = TRY(Session::Create(model));
  const PortInfo& port = model->inputs()[0];
  Dims dims = port.dims;
  dims[0] = 2;
  Tensor x = TRY(Tensor::Create(port.dtype, dims));
  for (int64_t i = 0; i < x.count(); ++i) x.mut<float>()[i] = float(i % 97) / 97;
  return session.Run({{port.name, x}});
}

TEST(InnerValues, AreTheRealNumbersBetweenInputsAndOutputs) {
  const auto values = InnerValues(kModel);
  ASSERT_TRUE(values.has_value()) << values.error().message;
  const auto model = Model::Load(kModel);
  for (const InnerValue& v : *values) {
    EXPECT_NE(v.name, (*model)->outputs()[0].name);
    EXPECT_NE(v.name, (*model)->inputs()[0].name);
  }
  // What a layer passes on is behind its activation.
  const auto conv = std::ranges::find(*values, "Conv", &InnerValue::layer);
  ASSERT_NE(conv, values->end());
  EXPECT_NE(conv->op, "Conv");
  EXPECT_TRUE(conv->ranked);
  EXPECT_EQ(InnerValues("none.onnx").error().code, Code::kNotFound);
}

TEST(ExtraOutputs, ComeBehindTheModelsOwnAndChangeNothing) {
  const auto names = NamesOf(*InnerValues(kModel));
  const auto plain = RunWith({}, OptLevel::kDefault);
  const auto more = RunWith(names, OptLevel::kDefault), written = RunWith(names, OptLevel::kNone);
  ASSERT_TRUE(plain && more && written);
  ASSERT_EQ(more->size(), plain->size() + names.size());
  for (size_t i = 0; i < names.size(); ++i) EXPECT_EQ((*more)[plain->size() + i].name, names[i]);
  // Of every value, what the graph as written gives.
  for (size_t i = 0; i < more->size(); ++i) {
    const Tensor &a = (*more)[i].value.tensor, &b = (*written)[i].value.tensor;
    ASSERT_EQ(a.dims(), b.dims());
    if (a.dtype() != DType::kF32) continue;
    for (int64_t k = 0; k < a.count(); ++k)
      ASSERT_NEAR(a.as<float>()[k], b.as<float>()[k], 1e-3) << (*more)[i].name;
  }
}

TEST(ExtraOutputs, MustBeNamesOfTheModel) {
  const auto r = RunWith({"no such value"}, OptLevel::kDefault);
  ASSERT_FALSE(r.has_value());
  EXPECT_EQ(r.error().code, Code::kNotFound);
  EXPECT_NE(r.error().message.find("no such value"), std::string::npos);
}

}  // namespace
}  // namespace dunlin
