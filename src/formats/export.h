// What writing a model as ONNX takes and tells; the writer itself is ExportOnnx (formats/onnx.h).
#pragma once

#include <cstdint>
#include <functional>
#include <string>

namespace dunlin {

// Where weights go.
enum class ExternalData : uint8_t {
  kAuto,    // into the model file, or beside it where that would be larger than protobuf allows
  kAlways,  // large ones into a file beside the model's, <file name>.data
  kNever,
};

struct ExportOptions {
  // Of ai.onnx, 7 to 24. 0: the model's own, or the smallest one above it that has every operator.
  int opset = 0;
  ExternalData external_data = ExternalData::kAuto;
  // Bytes written so far and in all. Called often; false ends the export with kCancelled.
  std::function<bool(int64_t done, int64_t total)> progress;
};

struct ExportReport {
  int opset = 0, ir_version = 0;
  int nodes = 0;  // of sub-graphs too
  int64_t model_bytes = 0;
  std::string data_file;  // "" when all weights lie in the model file
  int64_t data_bytes = 0;
};

}  // namespace dunlin
