#include "cli/compare.h"

#include <gtest/gtest.h>

#include "cli/compare_pairs.h"
#include "cli/compare_report.h"

namespace dunlin::cli {
namespace {

InnerValue Inner(std::string name, std::string node = "", int output = 0) {
  return {std::move(name), std::move(node), "Op", output};
}
std::vector<std::string> Names(const std::vector<InnerValue>& a, const std::vector<InnerValue>& b) {
  std::vector<std::string> names;
  for (const ValuePair& p : PairValues(a, b).pairs) names.push_back(p.a.name + " " + p.b.name);
  return names;
}
using Strings = std::vector<std::string>;

TEST(BaseName, IsWithoutWhatQuantisersAdd) {
  EXPECT_EQ(BaseNameOf("x_DequantizeLinear_Output").name, "x");
  EXPECT_EQ(BaseNameOf("x_QuantizeLinear_Output_2").name, "x");
  EXPECT_EQ(BaseNameOf("x_1").name, "x_1");
  EXPECT_EQ(BaseNameOf("_quantized").name, "_quantized");  // nothing would be left
  EXPECT_LT(BaseNameOf("x_DequantizeLinear_Output").rank, BaseNameOf("x_quantized").rank);
  EXPECT_LT(BaseNameOf("x_quantized").rank, BaseNameOf("x").rank);
}

TEST(PairValues, TakesWhatTheNextLayerSees) {
  EXPECT_EQ(Names({Inner("x"), Inner("y"), Inner("z")},
                  {Inner("y"), Inner("y_QuantizeLinear_Output"), Inner("y_DequantizeLinear_Output"),
                   Inner("x_quantized"), Inner("w")}),
            (Strings{"x x_quantized", "y y_DequantizeLinear_Output"}));
}

TEST(PairValues, FallsBackToNamesOfNodes) {
  EXPECT_EQ(Names({Inner("p", "conv"), Inner("q", "split", 1), Inner("r", "")},
                  {Inner("P", "conv_quant"), Inner("Q", "split", 1), Inner("R", "")}),
            (Strings{"p P", "q Q"}));
  // A node whose value already has a partner is no partner for another.
  EXPECT_EQ(Names({Inner("p", "conv"), Inner("q", "other")}, {Inner("p", "x"), Inner("P", "conv")}),
            (Strings{"p p"}));
}

InnerValue Layer(std::string name, std::string layer, const Dims& dims) {
  InnerValue v = Inner(std::move(name));
  v.layer = std::move(layer);
  v.dims = dims;
  v.ranked = true;
  return v;
}

TEST(PairValues, FollowsTheStructureWhereNamesContradictIt) {
  const std::vector<InnerValue> a = {Layer("v1", "Conv", {1, 8, 4}), Layer("v2", "Conv", {1, 8, 2}),
                                     Layer("v3", "Add", {1, 8, 2}), Layer("v4", "", {1, 8, 2}),
                                     Layer("v5", "Conv", {1, 4, -1})};
  const std::vector<InnerValue> b = {Layer("v2", "Conv", {1, 8, 4}), Layer("v5", "Conv", {1, 8, 2}),
                                     Layer("v4", "Mul", {1, 8, 2}), Layer("v6", "Add", {1, 8, 2}),
                                     Layer("v7", "Conv", {1, 4, 9})};
  EXPECT_EQ(Names(a, b), (Strings{"v1 v2", "v2 v5", "v3 v6", "v5 v7"}));
  EXPECT_FALSE(PairValues(a, b).by_name);
  // Equal names are believed where extents do not contradict them.
  EXPECT_TRUE(PairValues(a, a).by_name);
  EXPECT_EQ(PairValues(a, a).pairs.size(), a.size());
}

Compared Output(std::initializer_list<float> a, std::initializer_list<float> b) {
  Compared c{"y", "y", "", {}, ""};
  const auto n = int64_t(a.size());
  EXPECT_TRUE(c.difference.Add(Tensor::Of<float>({1, n}, a), Tensor::Of<float>({1, n}, b)));
  return c;
}

TEST(BrokenLimit, NamesTheOutputAndTheLimit) {
  const std::vector<Compared> outputs = {Output({10, 0}, {10, 1})};  // SQNR 20 dB
  EXPECT_EQ(BrokenLimit(outputs, {}), "");
  EXPECT_EQ(BrokenLimit(outputs, {.max_error = 1, .min_sqnr = 19.9, .min_agreement = 100}), "");
  for (const CompareLimits& l :
       {CompareLimits{.max_error = 0.99, .min_sqnr = {}, .min_agreement = {}},
        CompareLimits{.max_error = {}, .min_sqnr = 20.1, .min_agreement = {}}})
    EXPECT_NE(BrokenLimit(outputs, l).find("'y'"), std::string::npos);
  EXPECT_NE(
      BrokenLimit({Output({0, 1}, {1, 0})}, {.max_error = {}, .min_sqnr = {}, .min_agreement = 50})
          .find("--min-agreement"),
      std::string::npos);
}

TEST(BrokenLimit, NaNAndWhatCannotBeComparedBreakAnyLimit) {
  EXPECT_NE(BrokenLimit({Output({1, 0}, {1, NAN})},
                        {.max_error = 1e9, .min_sqnr = {}, .min_agreement = {}}),
            "");
  Compared strings{"y", "y", "", {}, "it holds strings"};
  EXPECT_NE(BrokenLimit({strings}, {.max_error = 1e9, .min_sqnr = {}, .min_agreement = {}}), "");
  EXPECT_EQ(BrokenLimit({strings}, {}), "");
}

CompareReport Report() {
  CompareReport r{
      .a = "a.onnx", .b = "b.onnx", .sets = 1, .layer_sets = 1, .outputs = {}, .layers = {}};
  r.layers = {Output({10, 0}, {10, 1}), Output({10, 0}, {10, 5}), Output({1, 0}, {1, 0})};
  r.layers[0].name = "good";
  r.layers[1].name = "<bad>";
  r.layers[2].name = "same";
  return r;
}

TEST(CompareReport, MarksTheWorstLayerAndPutsItFirst) {
  const std::string worst = CompareText(Report(), false), all = CompareText(Report(), true);
  EXPECT_LT(worst.find("<bad>"), worst.find("good"));
  EXPECT_LT(all.find("good"), all.find("<bad>"));
  EXPECT_NE(CompareJson(Report()).find("\"worst_layer\":\"<bad>\""), std::string::npos);
  const std::string svg = SqnrSvg(Report());
  EXPECT_NE(svg.find("worst: &lt;bad&gt;"), std::string::npos);
  EXPECT_EQ(svg.find("<bad>"), std::string::npos);
}

}  // namespace
}  // namespace dunlin::cli
