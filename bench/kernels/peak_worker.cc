// The processor's peak as work to be timed in turns with kernels (../turns.h): nothing but
// multiply-adds on registers, on one core.
//   peak_worker f32|int8
// Prints after the time of loading: how many operations a run is (a multiplication and an addition
// are two) and with which instructions.
#include <chrono>
#include <iostream>
#include <string>

#include "base/result.h"
#include "bench/turns.h"
#include "kernels/gemm.h"
#include "kernels/simd_targets.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace dunlin {
namespace {

struct Peak {
  double operations = 0;  // of a run
  std::string instructions;
  void (*run)() = nullptr;
};

constexpr int64_t kFmaRounds = 50000;

Peak SinglePeak() {
  return {2 * double(RunPureFma(kFmaRounds)), BestSimdTarget() + " multiply-add",
          [] { RunPureFma(kFmaRounds); }};
}

#if defined(__x86_64__)

// Ten sums hide a latency of five cycles at two instructions a cycle. Assembly, since a compiler
// takes products that do not change out of the loop.
constexpr int kRounds = 50000, kSums = 10;
constexpr double kSteps = double(kRounds) * kSums;

#define DUNLIN_SUMS(step) \
  step(0) step(1) step(2) step(3) step(4) step(5) step(6) step(7) step(8) step(9)

// Products of u8 and s8, added in pairs to 16 bits with saturation, in fours to 32 bits.
__attribute__((target("avx2"))) void BytePairs() {
  __m256i sum[kSums] = {}, product;
  const __m256i a = _mm256_set1_epi8(1), b = a, ones = _mm256_set1_epi16(1);
  for (int i = 0; i < kRounds; ++i) {
#define DUNLIN_STEP(k)                                                                 \
  __asm__ volatile("vpmaddubsw %3, %2, %1\n\tvpmaddwd %4, %1, %1\n\tvpaddd %1, %0, %0" \
                   : "+x"(sum[k]), "=&x"(product)                                      \
                   : "x"(a), "x"(b), "x"(ones));
    DUNLIN_SUMS(DUNLIN_STEP)
#undef DUNLIN_STEP
  }
}

// Products of 16 bits, into which bytes were widened before: exact.
__attribute__((target("avx2"))) void WidePairs() {
  __m256i sum[kSums] = {}, product;
  const __m256i a = _mm256_set1_epi16(1), b = a;
  for (int i = 0; i < kRounds; ++i) {
#define DUNLIN_STEP(k)                                        \
  __asm__ volatile("vpmaddwd %3, %2, %1\n\tvpaddd %1, %0, %0" \
                   : "+x"(sum[k]), "=&x"(product)             \
                   : "x"(a), "x"(b));
    DUNLIN_SUMS(DUNLIN_STEP)
#undef DUNLIN_STEP
  }
}

__attribute__((target("avx2"))) void DotOf256() {
  __m256i sum[kSums] = {};
  const __m256i a = _mm256_set1_epi8(1), b = a;
  for (int i = 0; i < kRounds; ++i) {
#define DUNLIN_STEP(k) \
  __asm__ volatile("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum[k]) : "x"(a), "x"(b));
    DUNLIN_SUMS(DUNLIN_STEP)
#undef DUNLIN_STEP
  }
}

__attribute__((target("avx512f"))) void DotOf512() {
  __m512i sum[kSums] = {};
  const __m512i a = _mm512_set1_epi8(1), b = a;
  for (int i = 0; i < kRounds; ++i) {
#define DUNLIN_STEP(k) __asm__ volatile("vpdpbusd %2, %1, %0" : "+v"(sum[k]) : "v"(a), "v"(b));
    DUNLIN_SUMS(DUNLIN_STEP)
#undef DUNLIN_STEP
  }
}

bool HasAvxVnni() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __builtin_cpu_supports("avx2") && __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 &&
         (a >> 4 & 1) != 0;
}

Result<Peak> BytePeak() {
  if (__builtin_cpu_supports("avx512vnni")) return Peak{kSteps * 128, "vpdpbusd zmm", DotOf512};
  if (HasAvxVnni()) return Peak{kSteps * 64, "vpdpbusd ymm", DotOf256};
  if (!__builtin_cpu_supports("avx2"))
    return Fail(Code::kUnimplemented, "int8: the peak is measured from AVX2 on");
  const Peak peaks[] = {{kSteps * 64, "vpmaddubsw + vpmaddwd + vpaddd ymm", BytePairs},
                        {kSteps * 32, "vpmaddwd + vpaddd ymm", WidePairs}};
  // Which is faster differs between processors.
  const auto rate = [](const Peak& peak) {
    double best = 0;
    for (int i = 0; i < 50; ++i) {
      const auto start = std::chrono::steady_clock::now();
      peak.run();
      best = std::max(best, peak.operations / MillisSince(start));
    }
    return best;
  };
  return rate(peaks[0]) > 1.02 * rate(peaks[1]) ? peaks[0] : peaks[1];
}

#else

Result<Peak> BytePeak() {
  return Fail(Code::kUnimplemented, "int8: the peak is measured on x86-64 only");
}

#endif

Status Serve(int argc, char** argv) {
  const std::string type = argc > 1 ? argv[1] : "";
  if (type != "f32" && type != "int8")
    return Fail(Code::kInvalidArgument, "'{}': expected f32 or int8", type);
  const Peak peak = type == "f32" ? SinglePeak() : TRY(BytePeak());
  return AnswerTurns(0, fmt::format("{} {}", peak.operations, peak.instructions),
                     [&]() -> Result<double> {
                       const auto start = std::chrono::steady_clock::now();
                       peak.run();
                       return MillisSince(start);
                     });
}

}  // namespace
}  // namespace dunlin

int main(int argc, char** argv) {
  const dunlin::Status status = dunlin::Serve(argc, argv);
  if (!status.has_value()) std::cerr << "peak_worker: " << status.error().message << std::endl;
  return status.has_value() ? 0 : 1;
}
