// Requests of different lengths, packed into one run: each gets what a run of its own gives.
#include <gtest/gtest.h>

#include <cmath>

#include "dunlin/engine.h"
#include "formats/onnx.h"
#include "kernels/simd_targets.h"
#include "passes/testing.h"

namespace dunlin {
namespace {

constexpr int64_t kWords = 50, kWidth = 24, kHeads = 3, kLongest = 64;

// A text encoder as torch exports it: token, kind and position embeddings, a mask of zeros and
// ones, two layers, and what is taken of a whole sequence.
class Encoder {
 public:
  Encoder() {
    Graph& g = b_.graph();
    const Dims shape = {g.symbols().Intern("batch"), g.symbols().Intern("sequence")};
    ids_ = b_.Input(shape, DType::kI64);
    mask_ = b_.Input(shape, DType::kI64);
    kinds_ = b_.Input(shape, DType::kI64);
  }

  std::unique_ptr<Graph> Make() {
    const ValueId places = b_.Add("Range", {Scalar(0), Extent(1), Scalar(1)});
    ValueId x = b_.Add("Add", {Embed(kWords, ids_), Embed(2, kinds_)});
    x = b_.Add("Add", {x, b_.Add("Unsqueeze", {Embed(kLongest, places), Ints({0})})});
    x = Norm(x);
    const ValueId kept =
        b_.Add("Cast", {b_.Add("Unsqueeze", {mask_, Ints({1, 2})})}, {{"to", DType::kF32}});
    const ValueId holes = b_.Add("Mul", {b_.Add("Sub", {b_.Scalar(1), kept}), b_.Scalar(-10000)});
    for (int layer = 0; layer < 2; ++layer) {
      x = Norm(b_.Add("Add", {x, Attention(x, holes)}));
      const ValueId up = b_.Add("Gelu", {Linear(x, kWidth, 2 * kWidth)});
      x = Norm(b_.Add("Add", {x, Linear(up, 2 * kWidth, kWidth)}));
    }
    const ValueId first = b_.Add("Gather", {x, Scalar(0)}, {{"axis", int64_t{1}}});
    const ValueId pooled = b_.Add("Tanh", {Linear(first, kWidth, 7)});
    const ValueId weights =
        b_.Add("Cast", {b_.Add("Unsqueeze", {mask_, Ints({2})})}, {{"to", DType::kF32}});
    const ValueId sum =
        b_.Add("ReduceSum", {b_.Add("Mul", {x, weights}), Ints({1})}, {{"keepdims", false}});
    const ValueId count = b_.Add(
        "Clip",
        {b_.Add("ReduceSum", {weights, Ints({1})}, {{"keepdims", false}}), b_.Scalar(1e-9f)});
    return b_.Finish({x, pooled, b_.Add("Div", {sum, count}), Heads(x)});
  }

 private:
  ValueId Ints(std::initializer_list<int64_t> v) {
    return b_.Const(Tensor::Ints(std::span<const int64_t>(v.begin(), v.size())));
  }
  ValueId Scalar(int64_t v) { return b_.Const(Tensor::Scalar<int64_t>(v)); }
  ValueId Extent(int64_t axis) {
    return b_.Add("Gather", {b_.Add("Shape", {ids_}), Scalar(axis)}, {{"axis", int64_t{0}}});
  }
  ValueId Embed(int64_t rows, ValueId at) {
    return b_.Add("Gather", {b_.Weights({rows, kWidth}), at}, {{"axis", int64_t{0}}});
  }
  ValueId Linear(ValueId x, int64_t from, int64_t to) {
    return b_.Add("Add",
                  {b_.Add("MatMul", {x, b_.Weights({from, to}, -0.3f, 0.3f)}), b_.Weights({to})});
  }
  ValueId Norm(ValueId x) {
    return b_.Add("LayerNormalization", {x, b_.Weights({kWidth}, 0.5f, 1.5f), b_.Weights({kWidth})},
                  {{"axis", int64_t{-1}}});
  }
  ValueId Heads(ValueId x) {
    const ValueId shape = b_.Add(
        "Concat",
        {b_.Add("Unsqueeze", {Extent(0), Ints({0})}), b_.Add("Unsqueeze", {Extent(1), Ints({0})}),
         Ints({kHeads}), Ints({kWidth / kHeads})},
        {{"axis", int64_t{0}}});
    return b_.Add("Transpose", {b_.Add("Reshape", {x, shape})},
                  {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
  }
  ValueId Attention(ValueId x, ValueId holes) {
    const ValueId q = Heads(Linear(x, kWidth, kWidth)), k = Heads(Linear(x, kWidth, kWidth)),
                  v = Heads(Linear(x, kWidth, kWidth));
    const ValueId turned = b_.Add("Transpose", {k}, {{"perm", std::vector<int64_t>{0, 1, 3, 2}}});
    const ValueId scores =
        b_.Add("Add", {b_.Add("Mul", {b_.Add("MatMul", {q, turned}), b_.Scalar(0.35f)}), holes});
    const ValueId mixed = b_.Add(
        "Transpose", {b_.Add("MatMul", {b_.Add("Softmax", {scores}, {{"axis", int64_t{-1}}}), v})},
        {{"perm", std::vector<int64_t>{0, 2, 1, 3}}});
    return Linear(b_.Add("Reshape", {mixed, b_.Add("Concat",
                                                   {b_.Add("Unsqueeze", {Extent(0), Ints({0})}),
                                                    b_.Add("Unsqueeze", {Extent(1), Ints({0})}),
                                                    Ints({kWidth})},
                                                   {{"axis", int64_t{0}}})}),
                  kWidth, kWidth);
  }
  GraphBuilder b_;
  ValueId ids_{}, mask_{}, kinds_{};
};

Result<std::shared_ptr<const Model>> Load(std::unique_ptr<Graph> g) {
  ImportedModel m;
  for (const ValueId v : g->inputs()) m.inputs.push_back({g->value(v).name, g->value(v).type});
  for (size_t i = 0; i < g->outputs().size(); ++i)
    m.outputs.push_back({"out" + std::to_string(i), Type{}});
  m.metadata["opset"] = "17";
  m.graph = std::move(g);
  const std::string bytes = TRY(ExportOnnxBytes(m, {.opset = 20}));
  return Model::LoadBytes(std::as_bytes(std::span(bytes)));
}

std::vector<NamedTensor> Request(std::mt19937& rng, int64_t rows, int64_t length) {
  const auto fill = [&](int64_t below) {
    Tensor t = Tensor::Create(DType::kI64, {rows, length}).value();
    for (int64_t i = 0; i < t.count(); ++i) t.mut<int64_t>()[i] = int64_t(rng() % uint64_t(below));
    return t;
  };
  Tensor mask = fill(4);  // every fourth token is not there
  for (int64_t i = 0; i < mask.count(); ++i)
    mask.mut<int64_t>()[i] = mask.as<int64_t>()[i] != 0 ? 1 : 0;
  return {{"in0", fill(kWords)}, {"in1", mask}, {"in2", fill(2)}};
}

void ExpectEqual(const Tensor& a, const Tensor& b, const std::string& where) {
  ASSERT_EQ(a.dims(), b.dims()) << where;
  float scale = 1e-3f;
  for (const float v : b.values<float>()) scale = std::max(scale, std::abs(v));
  for (int64_t i = 0; i < a.count(); ++i)
    ASSERT_LE(std::abs(a.as<float>()[i] - b.as<float>()[i]), 1e-5f * scale) << where << " at " << i;
}

void ExpectPackedEqualsAlone(Session& session, std::mt19937& rng, int round) {
  std::vector<std::vector<NamedTensor>> requests;
  const auto count = 1 + int(rng() % 7);
  for (int i = 0; i < count; ++i)
    requests.push_back(
        Request(rng, rng() % 8 == 0 ? 3 : 1, i == 0 ? 1 : 1 + int64_t(rng() % kLongest)));
  const std::vector<std::span<const NamedTensor>> spans(requests.begin(), requests.end());
  const auto packed = session.RunRagged(spans);
  ASSERT_TRUE(packed.has_value()) << packed.error().message;
  ASSERT_EQ(packed->size(), requests.size());
  for (size_t r = 0; r < requests.size(); ++r) {
    const auto alone = session.Run(requests[r]).value();
    ASSERT_EQ((*packed)[r].size(), alone.size());
    for (size_t o = 0; o < alone.size(); ++o) {
      EXPECT_EQ((*packed)[r][o].name, alone[o].name);
      ExpectEqual((*packed)[r][o].tensor, alone[o].value.tensor,
                  fmt::format("round {} request {} of {} output {}", round, r, count, o));
    }
  }
}

TEST(Ragged, EachRequestGetsWhatARunOfItsOwnGives) {
  ForEachSimdTarget([](const char* target) {
    SCOPED_TRACE(target);
    const auto model = Load(Encoder().Make());
    ASSERT_TRUE(model.has_value()) << model.error().message;
    ASSERT_TRUE((*model)->ragged().has_value()) << (*model)->ragged().error().message;
    for (const int threads : {1, 2}) {
      auto session = Session::Create(*model, {.threads = threads}).value();
      std::mt19937 rng(uint32_t(threads) + 5);
      for (int round = 0; round < 10; ++round) ExpectPackedEqualsAlone(session, rng, round);
    }
  });
}

class RaggedRun : public ::testing::Test {
 protected:
  std::shared_ptr<const Model> model = Load(Encoder().Make()).value();
  Session session = Session::Create(model).value();
  std::mt19937 rng{1};
  Result<std::vector<std::vector<NamedTensor>>> Run(
      const std::vector<std::vector<NamedTensor>>& requests, const RunOptions& options = {}) {
    const std::vector<std::span<const NamedTensor>> spans(requests.begin(), requests.end());
    return session.RunRagged(spans, options);
  }
};

TEST_F(RaggedRun, GivesTheOutputsThatAreAskedFor) {
  const auto r = Run({Request(rng, 1, 5), Request(rng, 1, 9)}, {.outputs = {"out1"}});
  ASSERT_TRUE(r.has_value()) << r.error().message;
  for (const auto& outputs : *r) {
    ASSERT_EQ(outputs.size(), 1u);
    EXPECT_EQ(outputs[0].name, "out1");
    EXPECT_EQ(outputs[0].tensor.dims(), (Dims{1, 7}));
  }
  EXPECT_FALSE(Run({Request(rng, 1, 5)}, {.outputs = {"none"}}).has_value());
}

TEST_F(RaggedRun, RefusesWhatARunOfItsOwnRefuses) {
  auto wrong = Request(rng, 1, 5);
  wrong[0].tensor.mut<int64_t>()[3] = kWords;  // no such word
  const auto r = Run({Request(rng, 1, 5), wrong});
  ASSERT_FALSE(r.has_value());
  EXPECT_EQ(r.error().code, Code::kInvalidArgument);
  EXPECT_FALSE(Run({Request(rng, 1, kLongest), Request(rng, 1, kLongest + 1)}).has_value());
  auto uneven = Request(rng, 1, 5);
  uneven[1] = Request(rng, 1, 6)[1];
  EXPECT_FALSE(Run({uneven}).has_value());
}

TEST_F(RaggedRun, AnInputWithoutTokensDoesNotDisturbTheOthers) {
  const std::vector<std::vector<NamedTensor>> requests = {Request(rng, 0, 5), Request(rng, 1, 4)};
  const auto r = Run(requests);
  ASSERT_TRUE(r.has_value()) << r.error().message;
  EXPECT_EQ((*r)[0][0].tensor.dims(), (Dims{0, 5, kWidth}));
  ExpectEqual((*r)[1][0].tensor, session.Run(requests[1]).value()[0].value.tensor, "alone");
}

TEST_F(RaggedRun, CanBeCancelled) {
  const auto r = Run({Request(rng, 1, 5)}, {.cancelled = [] { return true; }});
  ASSERT_FALSE(r.has_value());
  EXPECT_EQ(r.error().code, Code::kCancelled);
}

TEST(RaggedModels, AreToldByName) {
  GraphBuilder b;
  Graph& g = b.graph();
  const ValueId x = b.Input({g.symbols().Intern("n"), g.symbols().Intern("t"), 4});
  const auto model = Load(b.Finish({b.Add("CumSum", {x, b.Const(Tensor::Scalar<int64_t>(1))},
                                          {{"reverse", true}})}))
                         .value();
  const Status s = model->ragged();
  ASSERT_FALSE(s.has_value());
  EXPECT_NE(s.error().message.find("of type CumSum mixes positions"), std::string::npos)
      << s.error().message;
}

}  // namespace
}  // namespace dunlin
