#include "dunlin/operators.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>

#include "formats/onnx.h"
#include "formats/onnx_operators.h"
#include "ops/op.h"

namespace dunlin {
namespace {

const std::vector<OperatorSupport>& All() {
  static const auto* all = new std::vector<OperatorSupport>(SupportedOperators(""));
  return *all;
}

const OperatorSupport* Find(const std::string& name) {
  for (const OperatorSupport& s : All())
    if (s.FullName() == name) return &s;
  return nullptr;
}

TEST(Operators, RowsAreUnique) {
  std::set<std::pair<std::string_view, std::string_view>> seen;
  for (const OnnxOperator& op : OnnxOperators()) {
    EXPECT_TRUE(seen.emplace(op.domain, op.name).second) << op.FullName() << " is there twice";
    const std::vector<int> versions = op.Versions();
    EXPECT_TRUE(std::ranges::is_sorted(versions)) << op.FullName();
  }
}

// What the engine declares or the importer rewrites is in the table, and its sample runs.
TEST(Operators, NothingThatRunsIsMissing) {
  std::set<std::string> names;
  for (const OpDef* op : AllOps())
    if (op->domain != "dunlin") names.insert(OnnxOperator{op->domain, op->name, "", ""}.FullName());
  for (const RewrittenOperator& op : RewrittenOperators())
    // The same operators in NHWC, which only ONNX Runtime's own files have.
    if (op.domain != "com.ms.internal.nhwc")
      names.insert(OnnxOperator{op.domain, op.name, "", ""}.FullName());
  for (const std::string& name : names)
    EXPECT_NE(Find(name), nullptr)
        << name << ": it needs a row in formats/onnx/operators.cc with a form that runs";
}

TEST(Operators, TypesAndPathsAreWhatRuns) {
  const OperatorSupport* conv = Find("Conv");
  ASSERT_NE(conv, nullptr);
  EXPECT_EQ(conv->versions, (std::vector<int>{1, 11, 22}));
  EXPECT_TRUE(std::ranges::count(conv->types, DType::kF32));
  EXPECT_FALSE(std::ranges::count(conv->types, DType::kString));
  EXPECT_FALSE(conv->paths.contains("view"));
  const OperatorSupport* reshape = Find("Reshape");
  ASSERT_NE(reshape, nullptr);
  EXPECT_TRUE(reshape->paths.contains("view"));
}

TEST(Operators, WhatTheImporterRewritesSaysInto) {
  const OperatorSupport* scatter = Find("Scatter");
  ASSERT_NE(scatter, nullptr);
  EXPECT_EQ(scatter->rewritten, std::vector<std::string>{"ScatterElements"});
}

TEST(Operators, ATypeOutsideTheSpecificationIsRefused) {
  EXPECT_FALSE(Refusal("And", "", 7, DType::kBool));
  EXPECT_TRUE(Refusal("And", "", 7, DType::kString));
  EXPECT_FALSE(Refusal("NoSuchThing", "", 7, DType::kString));
}

TEST(Operators, FirstVersionsAreOnnxs) {
  EXPECT_EQ(FirstVersion("Gelu", ""), 20);
  EXPECT_EQ(FirstVersion("NoSuchThing", ""), 0);
}

// Such a string is not computed by any kernel: it is copied to the caller's output.
TEST(Operators, StringsMayGoStraightToAnOutput) {
  for (const char* op : {"Identity", "Flatten", "Constant"}) {
    const OperatorSupport* s = Find(op);
    ASSERT_NE(s, nullptr) << op;
    EXPECT_TRUE(std::ranges::count(s->types, DType::kString)) << op;
  }
}

}  // namespace
}  // namespace dunlin
