#include "http/route.h"

#include <gtest/gtest.h>

namespace dunlin::http {
namespace {

TEST(Route, KnowsEveryPathOfTheProtocol) {
  struct Row {
    const char* method;
    const char* target;
    Endpoint endpoint;
    const char* model = "";
    const char* version = "";
  };
  const Row rows[] = {
      {"GET", "/v2", Endpoint::kServer},
      {"GET", "/v2/health/live", Endpoint::kLive},
      {"GET", "/v2/health/ready?x=/y", Endpoint::kReady},
      {"GET", "/v2/models/m", Endpoint::kModel, "m"},
      {"GET", "/v2/models/m/versions/12", Endpoint::kModel, "m", "12"},
      {"GET", "/v2/models/m/ready", Endpoint::kModelReady, "m"},
      {"GET", "/v2/models/m/versions/3/config", Endpoint::kModelConfig, "m", "3"},
      {"GET", "/v2/models/m/stats", Endpoint::kModelStats, "m"},
      {"GET", "/v2/models/stats", Endpoint::kAllStats},
      {"POST", "/v2/models/a%20b%2Fc/infer", Endpoint::kInfer, "a b/c"},
      {"POST", "/v2/models/m/versions/1/infer", Endpoint::kInfer, "m", "1"},
      {"POST", "/v2/repository/index", Endpoint::kIndex},
      {"POST", "/v2/repository/models/m/load", Endpoint::kLoad, "m"},
      {"POST", "/v2/repository/models/m/unload", Endpoint::kUnload, "m"},
      {"POST", "/v2/models/m/generate", Endpoint::kGenerate, "m"},
      {"POST", "/v2/models/m/versions/2/generate_stream", Endpoint::kGenerateStream, "m", "2"},
      {"GET", "/v2/systemsharedmemory/status", Endpoint::kSharedMemoryStatus},
      {"GET", "/v2/systemsharedmemory/region/r/status", Endpoint::kSharedMemoryStatus},
      {"POST", "/v2/systemsharedmemory/region/r/register", Endpoint::kSharedMemoryRegister},
      {"POST", "/v2/systemsharedmemory/unregister", Endpoint::kSharedMemoryUnregister},
      {"POST", "/v2/cudasharedmemory/region/r/register", Endpoint::kCudaSharedMemory},
      {"GET", "/v2/trace/setting", Endpoint::kTraceSetting},
      {"POST", "/v2/models/m/trace/setting", Endpoint::kTraceSetting, "m"},
      {"GET", "/v2/logging", Endpoint::kLogging},
      {"HEAD", "/v2/health/live", Endpoint::kLive},
      {"GET", "/v1/models", Endpoint::kV1Models},
      {"GET", "/v1/models/m", Endpoint::kV1Model, "m"},
      {"GET", "/v1/models/m/versions/2", Endpoint::kV1Model, "m", "2"},
      {"GET", "/v1/models/m/metadata", Endpoint::kV1Metadata, "m"},
      {"GET", "/v1/models/m/versions/2/metadata", Endpoint::kV1Metadata, "m", "2"},
      {"POST", "/v1/models/m:predict", Endpoint::kV1Predict, "m"},
      {"POST", "/v1/models/a:b:predict", Endpoint::kV1Predict, "a:b"},
      {"POST", "/v1/models/m/versions/7:predict", Endpoint::kV1Predict, "m", "7"},
      {"POST", "/v1/models/m:classify", Endpoint::kV1Other, "m"},
      {"POST", "/v1/models/m:explain", Endpoint::kNotFound},
      {"POST", "/v1/models/m/versions/x:predict", Endpoint::kNotFound},
      {"GET", "/v2/systemsharedmemory/other", Endpoint::kNotFound},
      {"GET", "/v2/systemsharedmemory/regions/r/status", Endpoint::kNotFound},
      {"GET", "/", Endpoint::kNotFound},
      {"GET", "", Endpoint::kNotFound},
      {"GET", "v2", Endpoint::kNotFound},
      {"GET", "/v2/", Endpoint::kNotFound},
      {"GET", "/v2//models/m", Endpoint::kNotFound},
      {"GET", "/v1", Endpoint::kNotFound},
      {"GET", "/v2/models", Endpoint::kNotFound},
      {"GET", "/v2/models/m/versions/x", Endpoint::kNotFound, "m"},
      {"GET", "/v2/models/m/versions", Endpoint::kNotFound, "m"},
      {"POST", "/v2/models/m/infer/more", Endpoint::kNotFound, "m"},
      {"GET", "/v2/health/other", Endpoint::kNotFound},
      {"GET", "/a/b/c/d/e/f/g/h/i/j", Endpoint::kNotFound},
  };
  for (const Row& row : rows) {
    const Route r = ParseRoute(row.method, row.target);
    EXPECT_EQ(r.endpoint, row.endpoint) << row.target;
    EXPECT_TRUE(r.method_allowed || r.endpoint == Endpoint::kNotFound) << row.target;
    EXPECT_EQ(r.version, row.version) << row.target;
    if (r.endpoint != Endpoint::kNotFound) {
      EXPECT_EQ(r.model, row.model) << row.target;
    }
  }
}

TEST(Route, WrongMethodsAreKnownAsSuch) {
  for (const char* target : {"/v2", "/v2/health/live", "/v2/models/m", "/v2/models/m/ready"})
    EXPECT_FALSE(ParseRoute("POST", target).method_allowed) << target;
  for (const char* target : {"/v2/models/m/infer", "/v2/repository/index",
                             "/v2/repository/models/m/load", "/v2/repository/r/models/m/unload"})
    EXPECT_FALSE(ParseRoute("GET", target).method_allowed) << target;
  EXPECT_FALSE(ParseRoute("GET", "/v1/models/m:predict").method_allowed);
  EXPECT_FALSE(ParseRoute("POST", "/v2/systemsharedmemory/status").method_allowed);
  EXPECT_EQ(ParseRoute("POST", "/v2/repository/r/index").repository, "r");
  EXPECT_EQ(ParseRoute("GET", "/v2/systemsharedmemory/region/a%2Fb/status").region, "a/b");
  EXPECT_EQ(ParseRoute("POST", "/v1/models/m/labels/canary:predict").label, "canary");
}

TEST(Route, PercentDecodingLeavesBrokenEscapesAlone) {
  EXPECT_EQ(PercentDecode("a%41%7a"), "aAz");
  EXPECT_EQ(PercentDecode("%"), "%");
  EXPECT_EQ(PercentDecode("%4"), "%4");
  EXPECT_EQ(PercentDecode("%4g%zz"), "%4g%zz");
  EXPECT_EQ(PercentDecode("%00"), std::string(1, '\0'));
}

}  // namespace
}  // namespace dunlin::http
