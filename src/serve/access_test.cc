#include "serve/access.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>

namespace dunlin::serve {
namespace {

namespace fs = std::filesystem;
using Headers = std::map<std::string, std::string, std::less<>>;

constexpr ApiGroup kAll[] = {ApiGroup::kHealth,      ApiGroup::kMetadata,
                             ApiGroup::kInference,   ApiGroup::kSharedMemory,
                             ApiGroup::kModelConfig, ApiGroup::kModelRepository,
                             ApiGroup::kStatistics,  ApiGroup::kTrace,
                             ApiGroup::kLogging,     ApiGroup::kMetrics};

Status Check(const AccessPolicy& policy, ApiGroup group, const Headers& headers,
             std::string_view identity = {}, bool grpc = false) {
  return policy.Check(group, {.header = [&headers](std::string_view name) -> std::string_view {
                                const auto it = headers.find(name);
                                return it == headers.end() ? std::string_view() : it->second;
                              },
                              .peer_identity = identity,
                              .grpc = grpc});
}
int CodeOf(const Status& status) { return status ? 0 : int(status.error().code); }

class Access : public testing::Test {
 protected:
  Access() : folder_(fs::temp_directory_path() / fmt::format("dunlin-access-{}", ::getpid())) {
    fs::create_directories(folder_);
  }
  ~Access() override { fs::remove_all(folder_); }
  std::string Write(const std::string& name, const std::string& text, mode_t mode = 0600) const {
    const std::string path = (folder_ / name).string();
    std::ofstream(path) << text;
    ::chmod(path.c_str(), mode);
    return path;
  }
  static std::string ErrorOf(AccessOptions options) {
    const auto policy = AccessPolicy::Create(std::move(options));
    return policy ? "" : policy.error().message;
  }
  const fs::path folder_;
};

TEST_F(Access, NothingIsRestrictedUntilSomethingIsSaid) {
  const AccessPolicy policy;
  for (const ApiGroup group : kAll) EXPECT_TRUE(Check(policy, group, {}));
}

TEST_F(Access, RestrictedGroupsWantTheirHeader) {
  const auto policy =
      AccessPolicy::Create({.http_restricted = {"model-repository,logging:Admin-Key=v=1"},
                            .grpc_restricted = {"inference:k=w"}});
  ASSERT_TRUE(policy) << policy.error().message;
  const AccessPolicy& p = **policy;
  EXPECT_TRUE(Check(p, ApiGroup::kInference, {}));
  EXPECT_TRUE(Check(p, ApiGroup::kLogging, {{"admin-key", "v=1"}}));
  const Status refused = Check(p, ApiGroup::kModelRepository, {{"admin-key", "v=2"}});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, kPermissionDenied);
  EXPECT_EQ(refused.error().message, "This API is restricted, expecting header 'Admin-Key'");
  EXPECT_TRUE(Check(p, ApiGroup::kLogging, {}, {}, true));
  EXPECT_TRUE(Check(p, ApiGroup::kInference, {{"triton-grpc-protocol-k", "w"}}, {}, true));
  const Status grpc = Check(p, ApiGroup::kInference, {{"k", "w"}}, {}, true);
  ASSERT_FALSE(grpc);
  EXPECT_EQ(grpc.error().code, Code::kUnavailable);
  EXPECT_EQ(grpc.error().message,
            "This protocol is restricted, expecting header 'triton-grpc-protocol-k'");
}

TEST_F(Access, ARestrictedValueMayStandInAFile) {
  const auto policy =
      AccessPolicy::Create({.http_restricted = {"trace:key=@" + Write("value", "hidden\n")}});
  ASSERT_TRUE(policy) << policy.error().message;
  EXPECT_TRUE(Check(**policy, ApiGroup::kTrace, {{"key", "hidden"}}));
  EXPECT_FALSE(Check(**policy, ApiGroup::kTrace, {{"key", "hidden\n"}}));
}

TEST_F(Access, RolesCoverTheirGroups) {
  const auto policy = AccessPolicy::Create(
      {.tokens_file = Write("tokens",
                            "# comment\n\n"
                            "infer-token-0123456 infer  a client\n"
                            "admin-token-0123456\tadmin root\r\n"
                            "scrape-token-012345 metrics\n"
                            "mixed-token-0123456 infer,metrics both\n"),
       .identities_file = Write("identities", "spiffe://x/ops admin\nclient infer\n", 0644)});
  ASSERT_TRUE(policy) << policy.error().message;
  const AccessPolicy& p = **policy;
  const auto allowed = [&](const std::string& token) {
    std::string bits;
    for (const ApiGroup group : kAll)
      bits += Check(p, group, {{"authorization", "Bearer " + token}}) ? '1' : '0';
    return bits;
  };
  EXPECT_EQ(allowed("infer-token-0123456"), "1110101000");
  EXPECT_EQ(allowed("admin-token-0123456"), "1111111111");
  EXPECT_EQ(allowed("scrape-token-012345"), "1000001001");
  EXPECT_EQ(allowed("mixed-token-0123456"), "1110101001");
  EXPECT_EQ(allowed("wrong-token-0123456"), "1000000000");
  EXPECT_EQ(allowed(""), "1000000000");
  EXPECT_TRUE(Check(p, ApiGroup::kTrace, {}, "ops\nspiffe://x/ops"));
  EXPECT_EQ(CodeOf(Check(p, ApiGroup::kTrace, {}, "client")), int(kPermissionDenied));
  EXPECT_EQ(CodeOf(Check(p, ApiGroup::kTrace, {}, "spiffe://x/op")), int(kUnauthenticated));
  EXPECT_EQ(CodeOf(Check(p, ApiGroup::kInference, {})), int(kUnauthenticated));
  EXPECT_EQ(CodeOf(Check(p, ApiGroup::kInference, {{"authorization", "Basic aTpi"}})),
            int(kUnauthenticated));
  EXPECT_TRUE(Check(p, ApiGroup::kInference, {{"authorization", "bearer infer-token-0123456"}}));
}

TEST_F(Access, HealthMayBeClosedToo) {
  const auto policy = AccessPolicy::Create(
      {.tokens_file = Write("tokens", "infer-token-0123456 infer\n"), .open_health = false});
  ASSERT_TRUE(policy);
  EXPECT_FALSE(Check(**policy, ApiGroup::kHealth, {}));
  EXPECT_TRUE(
      Check(**policy, ApiGroup::kHealth, {{"authorization", "Bearer infer-token-0123456"}}));
}

TEST_F(Access, ReloadTakesEffectOnlyWhenTheFileIsGood) {
  const auto policy =
      AccessPolicy::Create({.tokens_file = Write("tokens", "first-token-0123456 infer\n")});
  ASSERT_TRUE(policy);
  const auto works = [&](const std::string& token) {
    return Check(**policy, ApiGroup::kInference, {{"authorization", "Bearer " + token}})
        .has_value();
  };
  Write("tokens", "second-token-012345 nonsense\n");
  EXPECT_FALSE((*policy)->Reload());
  EXPECT_TRUE(works("first-token-0123456"));
  Write("tokens", "second-token-012345 infer\n");
  EXPECT_TRUE((*policy)->Reload());
  EXPECT_FALSE(works("first-token-0123456"));
  EXPECT_TRUE(works("second-token-012345"));
}

TEST_F(Access, MistakesAreNamedAndSecretsAreNot) {
  const auto tokens = [&](const std::string& text, mode_t mode = 0600) {
    return ErrorOf({.tokens_file = Write("tokens", text, mode)});
  };
  EXPECT_NE(tokens("good-token-0123456 infer\n", 0644).find("holds secrets"), std::string::npos);
  const std::string short_one = tokens("# x\nsecret infer\n");
  EXPECT_NE(short_one.find("tokens:2: a token of fewer than 16"), std::string::npos) << short_one;
  EXPECT_EQ(short_one.find("secret"), std::string::npos);
  const std::string role = tokens("good-token-0123456 inferr\n");
  EXPECT_NE(role.find("tokens:1: the second word must be a list of roles"), std::string::npos);
  EXPECT_EQ(role.find("good-token"), std::string::npos);
  EXPECT_NE(tokens("good-token-0123456\n").find("expected a token"), std::string::npos);
  EXPECT_NE(ErrorOf({.tokens_file = "/none"}).find("cannot open /none"), std::string::npos);
  for (const char* bad :
       {"inference", "inference:key", "inference:=v", "inference:k=", "infer:k=v", ":k=v", "k=v"}) {
    const std::string error = ErrorOf({.http_restricted = {bad}});
    EXPECT_NE(error.find("--http-restricted-api"), std::string::npos) << bad;
  }
}

}  // namespace
}  // namespace dunlin::serve
