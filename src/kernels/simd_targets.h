// The SIMD instruction sets compiled into this binary that this CPU can run, for tests that hold
// every one of them against a reference. Not for production code: it changes a process-wide choice.
#pragma once

#include <functional>
#include <string>

namespace dunlin {

// Calls fn(name) once per instruction set, best first, with dynamic dispatch pinned to it ("AVX3",
// "AVX2", "SSE4"); restores the normal choice before it returns.
void ForEachSimdTarget(const std::function<void(const char* name)>& fn);

// The best of them, the one that runs: "AVX3".
std::string BestSimdTarget();

}  // namespace dunlin
