// What the process's exit code says, and how an error becomes one.
#pragma once

#include "base/result.h"

namespace dunlin::cli {

enum class Exit : int {
  kOk = 0,
  kFailure =
      1,  // it began and failed: out of memory, cannot write, an operator's data broke its contract
  kUsage = 2,          // the command line is wrong
  kModel = 3,          // the model file is missing or malformed
  kUnsupported = 4,    // the model needs an operator or type that Dunlin has not
  kInput = 5,          // an input file or shape does not fit the model
  kServer = 6,         // the server or the network failed or refused
  kInterrupted = 130,  // by Ctrl-C, as shells number it
};

// What a command is busy with. Commands set it as they go; with the error's code it decides the
// exit code.
enum class Stage : uint8_t { kSetup, kLoad, kInput, kRun, kServer };

Exit ExitFor(Stage stage, Code code);

}  // namespace dunlin::cli
