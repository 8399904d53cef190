#include "cli/exit.h"

namespace dunlin::cli {

Exit ExitFor(Stage stage, Code code) {
  if (code == Code::kUnimplemented && stage != Stage::kServer) return Exit::kUnsupported;
  if (code == Code::kResourceExhausted && stage != Stage::kServer) return Exit::kFailure;
  // A folder that cannot be written.
  if (code == Code::kFailedPrecondition) return Exit::kFailure;
  switch (stage) {
    case Stage::kLoad:
      return Exit::kModel;
    case Stage::kInput:
      return Exit::kInput;
    case Stage::kServer:
      return Exit::kServer;
    case Stage::kRun:
      return code == Code::kInvalidArgument ? Exit::kInput : Exit::kFailure;
    case Stage::kSetup:
      if (code == Code::kUnavailable) return Exit::kServer;  // a host that nobody knows
      // What the command line names is not there, or is not what it should be.
      return code == Code::kInvalidArgument || code == Code::kNotFound ? Exit::kUsage
                                                                       : Exit::kFailure;
  }
  return Exit::kFailure;
}

}  // namespace dunlin::cli
