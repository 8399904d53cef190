// The file that keeps what `tune` measured. JSON:
//   {"format": "dunlin-tune-1", "cpu": "…",
//    "choices": [{"key": "…", "way": "…", "microseconds": {"indirect": 12.3, …}}]}
// A key names operator, attributes, shapes, thread count, instruction set and Dunlin's version, so
// one file serves them all.
#pragma once

#include <map>
#include <string>

#include "base/result.h"
#include "runtime/tune.h"

namespace dunlin {

using TuneTable = std::map<std::string, Measured>;

// "AMD EPYC 9B45 …", as the system tells it.
std::string CpuModel();
// $XDG_CACHE_HOME or ~/.cache, then dunlin/tune-<hash of the CPU's model>.json. kNotFound when the
// environment names neither.
Result<std::string> DefaultTuneFile();

// What the file holds; nothing where there is none yet. Errors name the file: kInvalidArgument for
// one that is damaged, of another format or of another CPU, kUnavailable when it cannot be read.
Result<TuneTable> ReadTuneFile(const std::string& path);
// Adds to what the file holds by now, beside it and then in its place: readers and other writers
// never see half a file. Makes the folder. Errors as above; a file that is not one of ours is left
// as it is.
Status MergeIntoTuneFile(const std::string& path, const TuneTable& table);

}  // namespace dunlin
