#include "http/header_pattern.h"

#include <gtest/gtest.h>

namespace dunlin::http {
namespace {

TEST(HeaderPattern, WhatMatchesBecomesAParameter) {
  const std::vector<HeaderField> headers = {
      {"X-Tenant", "a"}, {"my-x-tenant", "b"}, {"Host", "c"}, {"x-other", "d"}};
  decltype(serve::InferRequest::parameters) found;
  HeaderPattern::Create("x-tenant").value()->Forward(headers, found);
  ASSERT_EQ(found.size(), 2u) << "whatever the case, anywhere in the name";
  EXPECT_EQ(std::get<std::string>(found["X-Tenant"]), "a");
  found.clear();
  HeaderPattern::Create("^x-.*").value()->Forward(headers, found);
  EXPECT_EQ(found.size(), 2u);
  EXPECT_EQ(std::get<std::string>(found["x-other"]), "d");
  found.clear();
  HeaderPattern::Create("").value()->Forward(headers, found);
  EXPECT_TRUE(found.empty());
}

TEST(HeaderPattern, WhatIsNoExpressionIsRefused) {
  const auto bad = HeaderPattern::Create("(");
  ASSERT_FALSE(bad);
  EXPECT_NE(bad.error().message.find("--http-header-forward-pattern '('"), std::string::npos);
}

}  // namespace
}  // namespace dunlin::http
