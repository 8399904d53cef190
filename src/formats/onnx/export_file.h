// The files of an exported model.
#pragma once

#include "formats/onnx/export.h"

namespace dunlin::onnx_export {

// Writes beside the targets and renames over them, the data first, so that a model is never seen
// half-written. kCancelled when the progress function says so; then nothing is left behind.
Status WriteModel(const std::string& path, const Message& message, const DataFile& data,
                  const ExportOptions& options);

}  // namespace dunlin::onnx_export
