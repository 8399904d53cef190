#include "cli/exit.h"

namespace dunlin::cli {

Exit ExitFor(Stage stage, Code code) {
  if (code == Code::kUnimplemented && stage != Stage::kServer) return Exit::kUnsupported;
  if (code == Code::kResourceExhausted && stage != Stage::kServer) return Exit::kFailure;
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
      break;
  }
  return Exit::kFailure;
}

}  // namespace dunlin::cli
