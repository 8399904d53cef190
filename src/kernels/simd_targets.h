// The SIMD instruction sets compiled into this binary that this CPU can run.
#pragma once

#include <functional>
#include <string>

namespace dunlin {

// For tests, which hold every one against a reference; not for production code, because it changes
// a process-wide choice. Calls fn(name) once per instruction set, best first, with dynamic dispatch
// pinned to it ("AVX3", "AVX2", "SSE4"); restores the normal choice before it returns.
void ForEachSimdTarget(const std::function<void(const char* name)>& fn);

// The one that runs: "AVX3". The best there is, unless the environment variable DUNLIN_SIMD names a
// lesser one, which then is chosen for the whole process by the first call of this function. A name
// that is none of them changes nothing and is reported on stderr.
std::string BestSimdTarget();

}  // namespace dunlin
