#include "serve/config.h"

#include <gtest/gtest.h>

#include <random>

#include "serve/config_check.h"
#include "serve/spec.h"

namespace dunlin::serve {
namespace {

using inference::ModelConfig;

PortInfo Port(const std::string& name, DType dtype, Dims dims) {
  PortInfo p;
  p.name = name;
  p.dtype = dtype;
  p.has_shape = true;
  p.dims = std::move(dims);
  return p;
}

const std::vector<PortInfo> kBatchIn = {Port("x", DType::kF32, {-2, 16})};
const std::vector<PortInfo> kBatchOut = {Port("y", DType::kF32, {-2, 4})};
const std::vector<PortInfo> kFixedIn = {Port("x", DType::kF32, {1, 16})};
const std::vector<PortInfo> kFixedOut = {Port("y", DType::kF32, {1, 4})};

// Parses, normalises, completes; the error's message or "".
std::string ErrorOf(const std::string& text, const std::vector<PortInfo>& in,
                    const std::vector<PortInfo>& out, AutoComplete mode = AutoComplete::kOn,
                    ModelConfig* result = nullptr) {
  auto config = ParseConfigText(text);
  if (!config) return config.error().message;
  if (const Status s = Normalise(*config, "m"); !s) return s.error().message;
  if (const Status s = CompleteAndCheck(*config, in, out, mode); !s) return s.error().message;
  if (result != nullptr) *result = *config;
  return "";
}

TEST(ComputeOf, IsTheParameterCompute) {
  inference::ModelConfig c;
  EXPECT_EQ(*ComputeOf(c), dunlin::Compute::kF32);
  auto& value = *(*c.mutable_parameters())["compute"].mutable_string_value();
  value = "bf16";
  EXPECT_EQ(*ComputeOf(c), dunlin::Compute::kBF16);
  value = "int8";
  EXPECT_EQ(*ComputeOf(c), dunlin::Compute::kInt8);
  value = "half";
  EXPECT_EQ(ComputeOf(c).error().code, Code::kInvalidArgument);
}

TEST(ConfigText, ReadsWhatTheTextFormatAllows) {
  const auto config = ParseConfigText(R"(
    # a comment
    name: "m" 'odel', max_batch_size: 8;
    input [ { name: "x" data_type: TYPE_FP32 dims: [ -1, 16 ] }, { name: "z", dims: 1 } ]
    output: { name: "y\x41" }
    instance_group { count: 3 kind: KIND_CPU }
    parameters { key: "intra_op_thread_count" value: { string_value: "2" } }
  )");
  ASSERT_TRUE(config) << config.error().message;
  EXPECT_EQ(config->name(), "model");
  EXPECT_EQ(config->input_size(), 2);
  EXPECT_EQ(config->input(0).dims(0), -1);
  EXPECT_EQ(config->output(0).name(), "yA");
  EXPECT_EQ(config->parameters().at("intra_op_thread_count").string_value(), "2");
}

TEST(ConfigText, ErrorsNameThePlace) {
  const auto unknown = ParseConfigText("name: 'm'\nnonsense: 3\n");
  ASSERT_FALSE(unknown);
  EXPECT_NE(unknown.error().message.find("line 2"), std::string::npos) << unknown.error().message;
  EXPECT_NE(unknown.error().message.find("nonsense"), std::string::npos);
  EXPECT_FALSE(ParseConfigText("max_batch_size: 'eight'"));
  EXPECT_FALSE(ParseConfigText("input {"));
}

TEST(ConfigText, SurvivesRandomDamage) {
  const std::string good =
      "name: \"m\" max_batch_size: 8 input [ { name: \"x\" data_type: TYPE_FP32 dims: [ -1, 16 ] } "
      "] "
      "version_policy { specific { versions: [1, 2] } } parameters { key: \"a\" value: { "
      "string_value: \"b\" } }";
  std::mt19937 random(7);
  for (int i = 0; i < 20000; ++i) {
    std::string text = good;
    for (int k = 0; k < 4; ++k) {
      const size_t at = random() % text.size();
      switch (random() % 3) {
        case 0:
          text[at] = char(random());
          break;
        case 1:
          text.erase(at, 1 + random() % 8);
          break;
        default:
          text.insert(at, text.substr(random() % text.size(), random() % 16));
      }
      if (text.empty()) text = " ";
    }
    auto config = ParseConfigText(text);
    if (!config || !Normalise(*config, "m")) continue;
    (void)CompleteAndCheck(*config, kBatchIn, kBatchOut, AutoComplete::kOn).has_value();
  }
}

TEST(AutoComplete, DynamicFirstExtentBecomesTheBatch) {
  ModelConfig c;
  ASSERT_EQ(ErrorOf("", kBatchIn, kBatchOut, AutoComplete::kOn, &c), "");
  EXPECT_EQ(c.max_batch_size(), 4);
  EXPECT_TRUE(c.has_dynamic_batching());
  EXPECT_EQ(c.dynamic_batching().preferred_batch_size(0), 4);
  ASSERT_EQ(c.input_size(), 1);
  ASSERT_EQ(c.input(0).dims_size(), 1);
  EXPECT_EQ(c.input(0).dims(0), 16);
  EXPECT_EQ(c.input(0).data_type(), inference::TYPE_FP32);
  EXPECT_EQ(c.instance_group(0).count(), 2);
  EXPECT_EQ(c.instance_group(0).kind(), inference::ModelInstanceGroup::KIND_CPU);
  EXPECT_EQ(c.version_policy().latest().num_versions(), 1u);
  EXPECT_EQ(c.platform(), "onnxruntime_onnx");
}

TEST(AutoComplete, FixedFirstExtentMeansNoBatching) {
  ModelConfig c;
  ASSERT_EQ(ErrorOf("", kFixedIn, kFixedOut, AutoComplete::kOn, &c), "");
  EXPECT_EQ(c.max_batch_size(), 0);
  EXPECT_FALSE(c.has_dynamic_batching());
  EXPECT_EQ(c.input(0).dims_size(), 2);
}

TEST(AutoComplete, AnExplicitZeroIsRespected) {
  ModelConfig c;
  ASSERT_EQ(ErrorOf("max_batch_size: 0", kBatchIn, kBatchOut, AutoComplete::kOn, &c), "");
  EXPECT_EQ(c.max_batch_size(), 0);
  ASSERT_EQ(c.input(0).dims_size(), 2);
  EXPECT_EQ(c.input(0).dims(0), -1);
}

TEST(AutoComplete, InputsWrittenWithTheirBatchDimensionMeanNoBatching) {
  ModelConfig c;
  ASSERT_EQ(ErrorOf("input { name: 'x' data_type: TYPE_FP32 dims: [-1, 16] }", kBatchIn, kBatchOut,
                    AutoComplete::kOn, &c),
            "");
  EXPECT_EQ(c.max_batch_size(), 0);
}

TEST(AutoComplete, ScalarsBecomeOneElementThatIsReshaped) {
  const std::vector<PortInfo> in = {Port("x", DType::kF32, {1, 4}), Port("sr", DType::kI64, {})};
  ModelConfig c;
  ASSERT_EQ(ErrorOf("", in, kFixedOut, AutoComplete::kOn, &c), "");
  ASSERT_EQ(c.input(1).dims_size(), 1);
  EXPECT_EQ(c.input(1).dims(0), 1);
  EXPECT_TRUE(c.input(1).has_reshape());
  EXPECT_EQ(c.input(1).reshape().shape_size(), 0);
}

TEST(ConfigCheck, SaysWhatDoesNotFitTheGraph) {
  EXPECT_NE(ErrorOf("name: 'other'", kFixedIn, kFixedOut)
                .find("unexpected directory name 'm' for model 'other', directory name must equal "
                      "model name"),
            std::string::npos);
  EXPECT_EQ(ErrorOf("max_batch_size: 2", kFixedIn, kFixedOut),
            "autofill failed for model 'm': model does not support batching while non-zero "
            "max_batch_size is specified");
  EXPECT_EQ(ErrorOf("input { name: 'q' data_type: TYPE_FP32 dims: [1, 16] }", kFixedIn, kFixedOut),
            "unexpected inference input 'q', allowed inputs are: x");
  EXPECT_EQ(ErrorOf("input { name: 'x' data_type: TYPE_INT32 dims: [1, 16] }", kFixedIn, kFixedOut),
            "unable to load model 'm', configuration expects datatype TYPE_INT32 for input 'x', "
            "model provides TYPE_FP32");
  EXPECT_EQ(ErrorOf("input { name: 'x' data_type: TYPE_FP32 dims: [16] }", kFixedIn, kFixedOut),
            "model 'm', tensor 'x': the model expects 2 dimensions (shape [1,16]) but the model "
            "configuration specifies 1 dimensions (shape [16])");
  EXPECT_EQ(ErrorOf("max_batch_size: 4 dynamic_batching { preferred_batch_size: 8 }", kBatchIn,
                    kBatchOut),
            "dynamic batching preferred size must be <= max batch size for m");
  EXPECT_NE(ErrorOf("ensemble_scheduling {}", kFixedIn, kFixedOut).find("is not supported"),
            std::string::npos);
  EXPECT_NE(
      ErrorOf("default_model_filename: '../secret'", kFixedIn, kFixedOut).find("version folder"),
      std::string::npos);
  EXPECT_NE(
      ErrorOf("", kFixedIn, kFixedOut, AutoComplete::kOff).find("must specify at least one output"),
      std::string::npos);
  EXPECT_EQ(ErrorOf("output { name: 'y' data_type: TYPE_FP32 dims: [1, 4] }", kFixedIn, kFixedOut,
                    AutoComplete::kOff),
            "unable to load model 'm', configuration expects 0 inputs, model provides 1");
}

// Every rule with a text that breaks it.
constexpr std::pair<const char*, const char*> kRules[] = {
    {"max_batch_size: -1", "'max_batch_size' must be non-negative value for m"},
    {"input { data_type: TYPE_FP32 }", "model input must specify 'name' for m"},
    {"max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: 0 }",
     "model input 'x' dimension must be integer >= 1, or -1 to indicate a variable-size "
     "dimension "
     "for m"},
    {"max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: 16 reshape { shape: [0, 16] } "
     "}",
     "model input 'x' reshape dimensions must be integer >= 1, or -1 to indicate a variable-size "
     "dimension for m"},
    {"max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: 15 reshape { shape: [4, 4] } "
     "}",
     "model input 'x' has different size for dims and reshape for m"},
    {"max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: [2, -1, 3] reshape { shape: "
     "[6, -1] } }",
     "model input 'x' has different size for dims and reshape for m"},
    {"max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: [-1, -1] reshape { shape: "
     "[-1] } }",
     "model input 'x' has different number of variable-size dimensions for dims and reshape for "
     "m"},
    {"max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: 16 format: FORMAT_NHWC }",
     "model input NHWC/NCHW require 3 dims for m"},
    {"max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: 16 is_shape_tensor: true }",
     "shape tensors are only supported for TensorRT platform for m"},
    {"max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: 16 is_non_linear_format_io: "
     "true }",
     "Non-linear IO format is only supported for the TensorRT platform for m"},
    {"max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: 16 } input { name: 'x' }",
     "model input 'x' is specified more than once for m"},
    {"max_batch_size: 8 dynamic_batching { preferred_batch_size: [4, 0] }",
     "dynamic batching preferred size must be positive for m"},
    {"max_batch_size: 8 dynamic_batching { preferred_batch_size: [4, 9] }",
     "dynamic batching preferred size must be <= max batch size for m"},
    {"dynamic_batching { priority_levels: 2 }",
     "default priority level must be in range [1, 2] for m"},
    {"dynamic_batching { priority_levels: 2 default_priority_level: 3 }",
     "default priority level must be in range [1, 2] for m"},
    {"dynamic_batching { priority_levels: 18446744073709551615 default_priority_level: 1 }",
     "priority_levels must be at most 1000 for m, got 18446744073709551615"},
    {"dynamic_batching { priority_levels: 2 default_priority_level: 1 priority_queue_policy { "
     "key: "
     "3 value {} } }",
     "priority queue policy must have priority level in range [1, 2] for m"},
    {"dynamic_batching { priority_levels: 2 default_priority_level: 1 preserve_ordering: true }",
     "Only one priority level is allowed when 'preserve_ordering' is true for m"},
    {"dynamic_batching { preserve_ordering: true default_queue_policy { timeout_action: DELAY "
     "default_timeout_microseconds: 1 } }",
     "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is true for m"},
    {"instance_group { kind: KIND_GPU name: 'g' }",
     "instance group g of model m has kind KIND_GPU but server does not support GPUs"},
    {"instance_group { gpus: 0 }",
     "instance group m_0 of model m has kind KIND_CPU but specifies one or more GPUs"},
    {"instance_group { profile: '1' }",
     "instance group m_0 of model m and platform onnxruntime_onnx specifies profile field which "
     "is "
     "only supported for TensorRT models"},
    {"instance_group { count: -1 }",
     "instance group m_0 of model m has count -1; counts must be positive and at most 256 "
     "together"},
    {"instance_group [ { count: 200 }, { count: 57 } ]",
     "instance group m_1 of model m has count 57; counts must be positive and at most 256 "
     "together"},
    {"instance_group { passive: true }",
     "all instance groups of model m are passive; nothing could serve it"},
    {"model_metrics { metric_control {} }", "metric control must specify 'metric_identifier'"},
    {"model_metrics { metric_control { metric_identifier {} } }",
     "metric identifier must specify non-empty 'family'"},
    {"model_metrics { metric_control { metric_identifier { family: 'f' } } }",
     "metric control must specify 'histogram_options'"},
    {"model_metrics { metric_control { metric_identifier { family: 'f' } histogram_options {} } "
     "}",
     "histogram options must specify non-empty 'buckets'"},
    {"model_metrics { metric_control { metric_identifier { family: 'f' } histogram_options { "
     "buckets: [1, 1] } } }",
     "histogram options must specify 'buckets' in ascending order"},
    {"model_transaction_policy { decoupled: true } response_cache { enable: true }",
     "Response Cache does not currently support model m with 'decoupled' transaction policy. "
     "Please "
     "disable the response cache."},
    {"sequence_batching {} response_cache { enable: true }",
     "Response Cache does not currently support model m with sequence batching scheduler. Please "
     "disable the response cache."},
    {"sequence_batching {}", "model 'm' asks for sequence_batching, which is not supported"},
    {"ensemble_scheduling {}", "model 'm' asks for ensemble_scheduling, which is not supported"},
    {"model_operations { op_library_filename: 'x.so' }",
     "model 'm' asks for model_operations (libraries of custom operators), which is not "
     "supported"},
    {"backend: 'tensorrt'",
     "unable to find backend library for backend 'tensorrt': this server runs ONNX models "
     "(backend "
     "'onnxruntime' or 'dunlin')"},
    {"platform: 'tensorrt_plan'", "unexpected platform type 'tensorrt_plan' for m"},
    {"backend: 'onnxruntime' platform: 'tensorrt_plan'",
     "unexpected 'platform' and 'backend' pair, got:tensorrt_plan, onnxruntime"},
};

TEST(ConfigCheck, RulesInTheProtocolsWords) {
  for (const auto& [text, error] : kRules)
    EXPECT_EQ(ErrorOf(text, kBatchIn, kBatchOut), error) << text;
  EXPECT_EQ(ErrorOf("max_batch_size: 8", kFixedIn, kFixedOut, AutoComplete::kOff),
            "model configuration must specify at least one output for m");
  EXPECT_EQ(
      ErrorOf("max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 dims: 16 }", kFixedIn,
              kFixedOut, AutoComplete::kOff),
      "model 'm', tensor 'x': for the model to support batching the shape should have at least "
      "1 dimension and the first dimension must be -1; but shape expected by the model is "
      "[1,16]");
}

TEST(ConfigCheck, ReshapesThatKeepTheElements) {
  const std::vector<PortInfo> in = {Port("x", DType::kF32, {-2, 8, -3, 6})};
  for (const char* dims : {"dims: [2, 4, -1, 6] reshape { shape: [8, -1, 6] }",
                           "dims: [8, 1, -1, 2, 3] reshape { shape: [8, -1, 6] }"})
    EXPECT_EQ(ErrorOf("max_batch_size: 8 input { name: 'x' data_type: TYPE_FP32 " +
                          std::string(dims) + "}",
                      in, kBatchOut),
              "");
}

TEST(ConfigCheck, NamesWhatHasNoEffect) {
  ModelConfig c;
  ASSERT_EQ(
      ErrorOf("optimization { cuda { graphs: true graph_spec { batch_size: 1 } } priority: "
              "PRIORITY_MAX } runtime: 'x' instance_group { rate_limiter {} host_policy: 'h' } "
              "parameters { key: 'execution_mode' value { string_value: '1' } } parameters { "
              "key: 'slo_p99_ms' value { string_value: '20' } }",
              kBatchIn, kBatchOut, AutoComplete::kOn, &c),
      "");
  EXPECT_EQ(IgnoredFields(c),
            (std::vector<std::string>{"instance_group.host_policy", "instance_group.rate_limiter",
                                      "optimization.cuda", "optimization.priority",
                                      "parameters.execution_mode", "runtime"}));
  ASSERT_EQ(ErrorOf("", kBatchIn, kBatchOut, AutoComplete::kOn, &c), "");
  EXPECT_TRUE(IgnoredFields(c).empty());
}

TEST(AutoComplete, InstanceGroupsAreNamed) {
  ModelConfig c;
  ASSERT_EQ(ErrorOf("", kBatchIn, kBatchOut, AutoComplete::kOn, &c), "");
  EXPECT_EQ(c.instance_group(0).name(), "m");
  ASSERT_EQ(ErrorOf("instance_group [ {}, { name: 'mine' count: 3 }, { kind: KIND_MODEL } ]",
                    kBatchIn, kBatchOut, AutoComplete::kOn, &c),
            "");
  EXPECT_EQ(c.instance_group(0).name(), "m_0");
  EXPECT_EQ(c.instance_group(1).name(), "mine");
  EXPECT_EQ(c.instance_group(1).count(), 3);
  EXPECT_EQ(c.instance_group(2).name(), "m_2");
}

// What clients of the protocol's reference server get for such a model, byte for byte.
TEST(ConfigJson, WholeOfAnAutoCompletedModel) {
  ModelConfig c;
  ASSERT_EQ(ErrorOf("", kBatchIn, kBatchOut, AutoComplete::kOn, &c), "");
  EXPECT_EQ(
      ConfigToJson(c),
      R"({"name":"m","platform":"onnxruntime_onnx","backend":"onnxruntime","runtime":"",)"
      R"("version_policy":{"latest":{"num_versions":1}},"max_batch_size":4,)"
      R"("input":[{"name":"x","data_type":"TYPE_FP32","format":"FORMAT_NONE","dims":[16],)"
      R"("is_shape_tensor":false,"allow_ragged_batch":false,"optional":false,)"
      R"("is_non_linear_format_io":false}],)"
      R"("output":[{"name":"y","data_type":"TYPE_FP32","dims":[4],"label_filename":"",)"
      R"("is_shape_tensor":false,"is_non_linear_format_io":false}],"batch_input":[],)"
      R"("batch_output":[],"optimization":{"priority":"PRIORITY_DEFAULT",)"
      R"("input_pinned_memory":{"enable":true},"output_pinned_memory":{"enable":true},)"
      R"("gather_kernel_buffer_threshold":0,"eager_batching":false},)"
      R"("dynamic_batching":{"preferred_batch_size":[4],"max_queue_delay_microseconds":0,)"
      R"("preserve_ordering":false,"priority_levels":0,"default_priority_level":0,)"
      R"("priority_queue_policy":{}},"instance_group":[{"name":"m","kind":"KIND_CPU","count":2,)"
      R"("gpus":[],"secondary_devices":[],"profile":[],"passive":false,"host_policy":""}],)"
      R"("default_model_filename":"model.onnx","cc_model_filenames":{},"metric_tags":{},)"
      R"("parameters":{},"model_warmup":[]})");
}

TEST(ModelSpec, TakesMetricsCacheAndWarmup) {
  const std::string text = R"(
    response_cache { enable: true }
    input { name: 'x' optional: true }
    instance_group [ { count: 3 }, { count: 1 passive: true } ]
    model_metrics { metric_control { metric_identifier { family: 'f' }
                                     histogram_options { buckets: [1, 2.5] } } }
    model_warmup { name: 'w' inputs { key: 'x' value { data_type: TYPE_FP32 dims: 16
                                                       input_data_file: 'a' } } })";
  ModelConfig c;
  ASSERT_EQ(ErrorOf(text, kBatchIn, kBatchOut, AutoComplete::kOn, &c), "");
  const ModelSpec spec = MakeSpec(c, *ParseConfigText(text), 1, "/models/m", {}).value();
  EXPECT_TRUE(spec.response_cache);
  EXPECT_TRUE(spec.inputs[0].optional);
  EXPECT_EQ(spec.instances, 3);
  EXPECT_EQ(spec.histograms.at("f"), (std::vector<double>{1, 2.5}));
  EXPECT_EQ(spec.warmup[0].inputs[0].file, "/models/m/warmup/a");
  inference::ModelWarmup::Input& x = c.mutable_model_warmup(0)->mutable_inputs()->at("x");
  x.set_input_data_file("../../secret");
  EXPECT_FALSE(MakeSpec(c, {}, 1, "/models/m", {}));
  x.clear_input_data_type();
  EXPECT_FALSE(MakeSpec(c, {}, 1, "/models/m", {}));
}

TEST(ConfigJson, PrintsDefaultsNumbersAndEnums) {
  ModelConfig c;
  ASSERT_EQ(ErrorOf("parameters { key: 'b' value { string_value: '2' } } parameters { key: 'a' "
                    "value { string_value: '\"' } }",
                    kBatchIn, kBatchOut, AutoComplete::kOn, &c),
            "");
  const std::string json = ConfigToJson(c);
  for (const char* part :
       {"\"name\":\"m\"", "\"max_batch_size\":4", "\"data_type\":\"TYPE_FP32\"", "\"dims\":[16]",
        "\"kind\":\"KIND_CPU\"", "\"default_model_filename\":\"model.onnx\"",
        "\"version_policy\":{\"latest\":{\"num_versions\":1}}", "\"cc_model_filenames\":{}",
        "\"max_queue_delay_microseconds\":0",
        "\"parameters\":{\"a\":{\"string_value\":\"\\\"\"},\"b\":{\"string_value\":\"2\"}}"})
    EXPECT_NE(json.find(part), std::string::npos) << part << " in " << json;
  const auto back = ParseConfigJson(json);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(ConfigToJson(*back), json);
}

TEST(ModelSpec, KnowsWhatNobodySaid) {
  ModelConfig c;
  ASSERT_EQ(ErrorOf("", kBatchIn, kBatchOut, AutoComplete::kOn, &c), "");
  auto spec = MakeSpec(c, {}, 1, "/nowhere", {.max_queue_size = 5});
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->instances, 0);
  EXPECT_EQ(spec->threads, 0);
  EXPECT_EQ(spec->queue.max_size, 5);
  ASSERT_TRUE(spec->batching);
  EXPECT_TRUE(spec->batching->automatic());
  const ModelConfig written = *ParseConfigText(
      "instance_group [ { count: 2 }, { count: 1 } ] dynamic_batching { "
      "max_queue_delay_microseconds: 9 }");
  c.mutable_dynamic_batching()->set_max_queue_delay_microseconds(9);
  spec = MakeSpec(c, written, 1, "/nowhere", {});
  EXPECT_EQ(spec->instances, 3);
  EXPECT_FALSE(spec->batching->automatic());
  EXPECT_EQ(spec->batching->preferred_sizes, std::vector<int64_t>{4});
  (*c.mutable_parameters())["intra_op_thread_count"].set_string_value("7");
  EXPECT_EQ(MakeSpec(c, {}, 1, "/nowhere", {})->threads, 7);
  (*c.mutable_parameters())["intra_op_thread_count"].set_string_value("many");
  EXPECT_FALSE(MakeSpec(c, {}, 1, "/nowhere", {}));
}

TEST(ModelSpec, TakesQueuePoliciesAndTheSlo) {
  const std::string text = R"(
    max_batch_size: 8
    dynamic_batching {
      preferred_batch_size: [ 8, 2 ] priority_levels: 2 default_priority_level: 2
      default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 70 }
      priority_queue_policy { key: 1 value { max_queue_size: 3 allow_timeout_override: true } } }
    parameters { key: "slo_p99_ms" value { string_value: "2.5" } })";
  ModelConfig c;
  ASSERT_EQ(ErrorOf(text, kBatchIn, kBatchOut, AutoComplete::kOn, &c), "");
  const auto spec = MakeSpec(c, *ParseConfigText(text), 1, "/nowhere", {.max_queue_size = 5});
  ASSERT_TRUE(spec) << spec.error().message;
  EXPECT_EQ(spec->batching->preferred_sizes, (std::vector<int64_t>{2, 8}));
  EXPECT_EQ(spec->queue.timeout_action, TimeoutAction::kDelay);
  EXPECT_EQ(spec->queue.default_timeout.count(), 70);
  EXPECT_EQ(spec->queue.max_size, 5);
  EXPECT_FALSE(spec->queue.allow_timeout_override);
  EXPECT_EQ(spec->batching->policies.at(1).max_size, 3);
  EXPECT_TRUE(spec->batching->policies.at(1).allow_timeout_override);
  EXPECT_EQ(spec->slo.count(), 2500);
  (*c.mutable_parameters())["slo_p99_ms"].set_string_value("soon");
  EXPECT_FALSE(MakeSpec(c, {}, 1, "/nowhere", {}));
}

TEST(ModelSpec, TakesPreserveOrdering) {
  for (const bool ordered : {false, true}) {
    const std::string text =
        fmt::format("max_batch_size: 8 dynamic_batching {{ preserve_ordering: {} }}", ordered);
    ModelConfig c;
    ASSERT_EQ(ErrorOf(text, kBatchIn, kBatchOut, AutoComplete::kOn, &c), "");
    const auto spec = MakeSpec(c, *ParseConfigText(text), 1, "/nowhere", {});
    ASSERT_TRUE(spec) << spec.error().message;
    EXPECT_EQ(spec->batching->preserve_ordering, ordered);
  }
}

TEST(ModelSpec, LabelFilesStayInsideTheModel) {
  ModelConfig c;
  ASSERT_EQ(
      ErrorOf("output { name: 'y' data_type: TYPE_FP32 dims: 4 label_filename: '../../etc/passwd' "
              "} max_batch_size: 4",
              kBatchIn, kBatchOut, AutoComplete::kOn, &c),
      "");
  const auto spec = MakeSpec(c, {}, 1, "/nowhere", {});
  ASSERT_FALSE(spec);
  EXPECT_NE(spec.error().message.find("inside the model's folder"), std::string::npos);
}

}  // namespace
}  // namespace dunlin::serve
