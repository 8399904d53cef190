#include "serve/header_forward.h"

#include <gtest/gtest.h>

namespace dunlin::serve {
namespace {

TEST(HeaderForward, NamesThatContainAMatchBecomeParameters) {
  auto forward = HeaderForward::Create("--flag", "^x-(user|trace)");
  ASSERT_TRUE(forward.has_value());
  InferRequest request;
  request.parameters["x-trace"] = int64_t{1};
  for (const std::string name : {"X-User-Id", "x-other", "my-x-user", "x-trace"})
    forward->Add(name, "v", request);
  EXPECT_EQ(request.parameters.size(), 2u);
  EXPECT_EQ(std::get<std::string>(request.parameters.at("X-User-Id")), "v");
  EXPECT_EQ(std::get<int64_t>(request.parameters.at("x-trace")), 1);  // the client's own stays
}

TEST(HeaderForward, NoPatternForwardsNothingAndABadOneIsRefused) {
  InferRequest request;
  auto none = HeaderForward::Create("--flag", "");
  ASSERT_TRUE(none.has_value());
  EXPECT_FALSE(none->any());
  none->Add("x", "v", request);
  EXPECT_TRUE(request.parameters.empty());
  const auto bad = HeaderForward::Create("--flag", "(");
  ASSERT_FALSE(bad.has_value());
  EXPECT_NE(bad.error().message.find("--flag"), std::string::npos);
}

}  // namespace
}  // namespace dunlin::serve
