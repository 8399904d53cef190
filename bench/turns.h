// The side of a program that bench/compare.py's Worker starts: it says it is ready, then runs its
// work as often as each line of its input says.
#pragma once

#include <fmt/format.h>

#include <chrono>
#include <iostream>
#include <iterator>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dunlin {

// Milliseconds since `start`.
inline double MillisSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

// Prints "ready MILLISECONDS ABOUT", the time of loading and what is run; answers each line N with
// the milliseconds of N runs, on one line. `run` does the work once and returns a Result<double>,
// the milliseconds it took.
template <class F>
Status AnswerTurns(double load_ms, std::string_view about, const F& run) {
  std::cout << fmt::format("ready {:.3f} {}", load_ms, about) << std::endl;
  for (int count = 0; std::cin >> count;) {
    std::string line;
    for (int i = 0; i < count; ++i)
      fmt::format_to(std::back_inserter(line), "{}{:.4f}", i == 0 ? "" : " ", TRY(run()));
    std::cout << line << std::endl;
  }
  return {};
}

}  // namespace dunlin
