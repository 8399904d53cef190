// What packing requests of different lengths gains on the engine, without a server:
//
//   bench_ragged MODEL [--threads N] [--rounds N]
//
// The ways to run n requests whose lengths are drawn from 8 to 128, interleaved; each line is the
// median of the ratios of one round. MODEL has inputs [batch, length] of i64, as text encoders do.
#include <fmt/core.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <random>
#include <thread>

#include "dunlin/engine.h"

namespace dunlin {
namespace {

using Request = std::vector<NamedTensor>;
constexpr int64_t kShortest = 8, kLongest = 128;

Tensor Filled(int64_t rows, int64_t length, int64_t value) {
  Tensor t = Tensor::Create(DType::kI64, {rows, length}).value();
  std::fill_n(t.mut<int64_t>(), t.count(), value);
  return t;
}

// Token ids are random, masks are ones and kinds zeros.
int64_t ValueFor(const std::string& input, std::mt19937& rng) {
  if (input.find("mask") != std::string::npos) return 1;
  return input.find("type") != std::string::npos ? 0 : int64_t(rng() % 5000);
}

Request Draw(const Model& model, std::mt19937& rng) {
  const int64_t length = kShortest + int64_t(rng() % uint64_t(kLongest - kShortest + 1));
  Request r;
  for (const PortInfo& p : model.inputs()) {
    Tensor t = Filled(1, length, 0);
    for (int64_t i = 0; i < length; ++i) t.mut<int64_t>()[i] = ValueFor(p.name, rng);
    r.push_back({p.name, std::move(t)});
  }
  return r;
}

// One batch, as long as its longest request or as `least`; what is added is masked.
Request Padded(const std::vector<Request>& requests, int64_t least) {
  int64_t length = least;
  for (const Request& r : requests) length = std::max(length, r[0].tensor.dims()[1]);
  Request out;
  for (size_t i = 0; i < requests[0].size(); ++i) {
    Tensor t = Filled(int64_t(requests.size()), length, 0);
    for (size_t r = 0; r < requests.size(); ++r)
      std::memcpy(t.mut<int64_t>() + int64_t(r) * length, requests[r][i].tensor.raw(),
                  size_t(requests[r][i].tensor.bytes()));
    out.push_back({requests[0][i].name, std::move(t)});
  }
  return out;
}

struct Way {
  const char* name;
  std::function<void(const std::vector<Request>&)> run;
  std::vector<double> microseconds = {};
};

double Time(const std::function<void()>& f) {
  const auto begin = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - begin)
      .count();
}

template <class T>
T Must(Result<T> r) {
  if (r) return std::move(*r);
  fmt::print(stderr, "bench_ragged: {}\n", r.error().message);
  std::exit(1);
}

double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + ptrdiff_t(v.size() / 2), v.end());
  return v[v.size() / 2];
}

void Compare(const std::shared_ptr<const Model>& model, int threads, int rounds, size_t count) {
  Session session = Must(Session::Create(model, {.threads = threads}));
  std::vector<Session> halves;
  for (int i = 0; i < 2; ++i) halves.push_back(Must(Session::Create(model, {.threads = 1})));
  const auto one_by_one = [](Session& s, const std::vector<Request>& all, size_t from,
                             size_t step) {
    for (size_t i = from; i < all.size(); i += step) Must(s.Run(all[i]));
  };
  std::vector<Way> ways = {
      {"padded to 128", [&](const auto& all) { Must(session.Run(Padded(all, kLongest))); }},
      {"padded to the longest", [&](const auto& all) { Must(session.Run(Padded(all, 0))); }},
      {"one by one", [&](const auto& all) { one_by_one(session, all, 0, 1); }},
      {"packed", [&](const auto& all) {
         const std::vector<std::span<const NamedTensor>> spans(all.begin(), all.end());
         Must(session.RunRagged(spans));
       }}};
  if (threads == 2)
    ways.push_back({"two at a time", [&](const auto& all) {
                      std::thread other([&] { one_by_one(halves[1], all, 1, 2); });
                      one_by_one(halves[0], all, 0, 2);
                      other.join();
                    }});
  std::mt19937 rng(11);
  // Few enough lengths for all their plans to be kept.
  std::vector<std::vector<Request>> batches(std::max<size_t>(1, 40 / count));
  for (auto& batch : batches)
    for (size_t i = 0; i < count; ++i) batch.push_back(Draw(*model, rng));
  for (int round = -1; round < rounds; ++round)  // the first one plans
    for (const auto& batch : batches)
      for (Way& way : ways) {
        const double t = Time([&] { way.run(batch); });
        if (round >= 0) way.microseconds.push_back(t);
      }
  for (const Way& way : ways) {
    std::vector<double> to_128, to_longest;
    for (size_t i = 0; i < way.microseconds.size(); ++i) {
      to_128.push_back(ways[0].microseconds[i] / way.microseconds[i]);
      to_longest.push_back(ways[1].microseconds[i] / way.microseconds[i]);
    }
    fmt::print(
        "{:>2} requests, {} threads  {:<22} {:8.0f} us  x{:.2f} of padded to 128  x{:.2f} of "
        "padded to the longest\n",
        count, threads, way.name, Median(way.microseconds), Median(to_128), Median(to_longest));
  }
}

int Main(int argc, char** argv) {
  int threads = 0, rounds = 5;
  std::string path;
  for (int i = 1; i < argc; ++i) {
    const std::string_view a = argv[i];
    if (a == "--threads" && i + 1 < argc)
      threads = std::atoi(argv[++i]);
    else if (a == "--rounds" && i + 1 < argc)
      rounds = std::atoi(argv[++i]);
    else
      path = a;
  }
  LoadOptions options;
  options.threads = threads;
  const auto model = Must(Model::Load(path, options));
  if (const Status s = model->ragged(); !s) {
    fmt::print(stderr, "bench_ragged: {}\n", s.error().message);
    return 1;
  }
  for (const size_t count : {size_t(2), size_t(4), size_t(8), size_t(16)})
    Compare(model, threads, rounds, count);
  return 0;
}

}  // namespace
}  // namespace dunlin

int main(int argc, char** argv) { return dunlin::Main(argc, argv); }
