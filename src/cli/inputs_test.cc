#include "cli/inputs.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "cli/files.h"
#include "cli/npy.h"

namespace dunlin::cli {
namespace {

using testing::HasSubstr;

PortInfo Port(std::string name, DType dtype, Dims dims, std::vector<std::string> dim_names = {}) {
  PortInfo p;
  p.name = std::move(name);
  p.dtype = dtype;
  p.has_shape = true;
  p.dims = dims;
  p.dim_names = dim_names.empty() ? std::vector<std::string>(dims.size()) : std::move(dim_names);
  return p;
}

Inputs Make(const std::vector<PortInfo>& ports, const InputOptions& options) {
  auto inputs = MakeInputs(ports, options);
  EXPECT_TRUE(inputs) << inputs.error().message;
  return inputs ? *inputs : Inputs{};
}
std::string Message(const std::vector<PortInfo>& ports, const InputOptions& options) {
  const auto inputs = MakeInputs(ports, options);
  return inputs ? "(accepted)" : inputs.error().message;
}

std::string Saved(const std::string& name, std::string_view bytes) {
  const std::string path = testing::TempDir() + name;
  EXPECT_TRUE(WriteText(path, bytes));
  return path;
}

TEST(ParseShape, ReadsExtentsAndRefusesTheRest) {
  EXPECT_EQ(*ParseShape("1,3,224"), (Dims{1, 3, 224}));
  EXPECT_EQ(*ParseShape(""), Dims{});
  EXPECT_EQ(*ParseShape("0"), Dims{0});
  for (const char* bad : {"1,", ",1", "1,,2", "a", "-1", "1.5", "1 2", "99999999999999999999"})
    EXPECT_FALSE(ParseShape(bad)) << bad;
}

TEST(MakeInputs, IsDeterministicPerSeedNameAndShape) {
  const std::vector<PortInfo> one = {Port("a", DType::kF32, {4})};
  const std::vector<PortInfo> two = {Port("b", DType::kF32, {4}), Port("a", DType::kF32, {4})};
  const auto values = [](const Inputs& i, size_t at) {
    const auto v = i.tensors[at].tensor.values<float>();
    return std::vector<float>(v.begin(), v.end());
  };
  EXPECT_EQ(values(Make(one, {}), 0), values(Make(two, {}), 1));
  EXPECT_NE(values(Make(two, {}), 0), values(Make(two, {}), 1));
  EXPECT_NE(values(Make(one, {.seed = 2}), 0), values(Make(one, {}), 0));
  for (const float v : values(Make(one, {}), 0)) EXPECT_TRUE(v >= -1 && v < 1);
}

TEST(MakeInputs, IntegersStayInRange) {
  const std::vector<PortInfo> ports = {
      Port("ids", DType::kI64, {1000}), Port("pixels", DType::kU8, {1000}),
      Port("attention_mask", DType::kI64, {5}), Port("token_type_ids", DType::kI32, {5})};
  const Inputs two = Make(ports, {});
  for (const int64_t v : two.tensors[0].tensor.values<int64_t>()) EXPECT_TRUE(v == 0 || v == 1);
  EXPECT_THAT(two.tensors[1].tensor.values<uint8_t>(), testing::Contains(testing::Ge(200)));
  for (const int64_t v : two.tensors[2].tensor.values<int64_t>()) EXPECT_EQ(v, 1);
  for (const int32_t v : two.tensors[3].tensor.values<int32_t>()) EXPECT_EQ(v, 0);
  const Inputs many = Make(ports, {.intmax = 30});
  EXPECT_THAT(many.tensors[0].tensor.values<int64_t>(), testing::Contains(29));
  for (const uint8_t v : many.tensors[1].tensor.values<uint8_t>()) EXPECT_LT(v, 30);
}

TEST(MakeInputs, OpenExtentsAreOneUnlessTheirSymbolIsKnown) {
  const std::vector<PortInfo> ports = {
      Port("ids", DType::kI64, {-2, -3}, {"batch", "length"}),
      Port("past", DType::kF32, {-2, 8, -4}, {"batch", "", "past"})};
  const Inputs plain = Make(ports, {});
  EXPECT_EQ(plain.tensors[0].tensor.dims(), (Dims{1, 1}));
  EXPECT_THAT(plain.notes[0], HasSubstr("--shape ids="));
  const Inputs shaped = Make(ports, {.shapes = {"past=4,8,9"}});
  EXPECT_EQ(shaped.tensors[0].tensor.dims(), (Dims{4, 1}));
  EXPECT_EQ(shaped.tensors[1].tensor.dims(), (Dims{4, 8, 9}));
  EXPECT_EQ(Make(ports, {.batch = 3}).tensors[1].tensor.dims(), (Dims{3, 8, 1}));
}

TEST(MakeInputs, NamesMayHoldEqualsSignsAndMayBeLeftOutWhenThereIsOne) {
  EXPECT_EQ(
      Make({Port("a=b", DType::kF32, {-1}), Port("a", DType::kF32, {-1})}, {.shapes = {"a=b=7"}})
          .tensors[0]
          .tensor.dims(),
      Dims{7});
  PortInfo optional = Port("scale", DType::kF32, {1});
  optional.optional = true;
  const Inputs only = Make({Port("x", DType::kF32, {-1}), optional}, {.shapes = {"5"}});
  ASSERT_EQ(only.tensors.size(), 1u);
  EXPECT_EQ(only.tensors[0].tensor.dims(), Dims{5});
}

TEST(MakeInputs, FillReachesEveryElementOfEveryType) {
  const Inputs inputs = Make({Port("f", DType::kF16, {2}), Port("i", DType::kI64, {}),
                              Port("b", DType::kBool, {1}), Port("s", DType::kString, {2})},
                             {.fills = {"f=0.5", "i=16000", "b=true", "s=hi there"}});
  EXPECT_EQ(float(inputs.tensors[0].tensor.as<Half>()[1]), 0.5f);
  EXPECT_EQ(inputs.tensors[1].tensor.as<int64_t>()[0], 16000);
  EXPECT_TRUE(inputs.tensors[2].tensor.as<bool>()[0]);
  EXPECT_EQ(inputs.tensors[3].tensor.as<std::string>()[1], "hi there");
  EXPECT_THAT(Message({Port("u", DType::kU8, {1})}, {.fills = {"u=256"}}),
              HasSubstr("not a value of type u8"));
  EXPECT_THAT(Message({Port("i", DType::kI32, {1})}, {.fills = {"i=1.5"}}),
              HasSubstr("not a value of type i32"));
}

TEST(MakeInputs, RawFilesGiveOneOpenExtent) {
  const std::string path = Saved("six.raw", std::string_view("\1\0\2\0\3\0\4\0\5\0\6\0", 12));
  const Inputs inputs = Make({Port("x", DType::kI16, {-1, 2})}, {.files = {path}});
  EXPECT_EQ(inputs.tensors[0].tensor.dims(), (Dims{3, 2}));
  EXPECT_EQ(inputs.tensors[0].tensor.as<int16_t>()[5], 6);
  EXPECT_EQ(Make({Port("x", DType::kI16, {-1, -1})}, {.files = {path}, .shapes = {"2,3"}})
                .tensors[0]
                .tensor.dims(),
            (Dims{2, 3}));
  EXPECT_THAT(Message({Port("x", DType::kI16, {-1, -1})}, {.files = {path}}),
              HasSubstr("give --shape"));
  EXPECT_THAT(Message({Port("x", DType::kI16, {5})}, {.files = {path}}), HasSubstr("needs 10"));
}

TEST(MakeInputs, NpyFilesMustHaveTheModelsType) {
  const std::string path = testing::TempDir() + "double.npy";
  ASSERT_TRUE(WriteNpy(path, Tensor::Of<double>({2}, {1, 2})));
  EXPECT_THAT(Message({Port("x", DType::kF32, {2})}, {.files = {"x=" + path}}),
              HasSubstr("it holds f64, the model's input is f32"));
  EXPECT_EQ(Make({Port("x", DType::kF64, {2})}, {.files = {"x=" + path}})
                .tensors[0]
                .tensor.as<double>()[1],
            2);
}

TEST(MakeInputs, MistakesAreNamed) {
  const std::vector<PortInfo> ports = {Port("x", DType::kF32, {1}), Port("y", DType::kF32, {1})};
  EXPECT_THAT(Message(ports, {.fills = {"z=1"}}), HasSubstr("the model's inputs are 'x', 'y'"));
  EXPECT_THAT(Message(ports, {.fills = {"x=1", "x=2"}}), HasSubstr("twice"));
  EXPECT_THAT(Message(ports, {.files = {"x=/no/such/file.npy"}}), HasSubstr("No such file"));
  EXPECT_THAT(Message(ports, {.shapes = {"x=1,x"}}), HasSubstr("not a shape"));
  PortInfo unranked = Port("x", DType::kF32, {});
  unranked.has_shape = false;
  EXPECT_THAT(Message({unranked}, {}), HasSubstr("--shape x="));
}

}  // namespace
}  // namespace dunlin::cli
