// What to do about an operator that is not there.
#include <algorithm>

#include "formats/onnx_describe.h"

namespace dunlin {
namespace {

bool IsOneOf(std::string_view op, std::initializer_list<std::string_view> names) {
  return std::find(names.begin(), names.end(), op) != names.end();
}

}  // namespace

std::string AdviceForMissing(std::string_view domain, std::string_view op, int opset) {
  if (domain.empty()) {
    if (IsOneOf(op, {"ATen", "PythonOp"}))
      return "the exporter's stand-in for what it could not translate; replace that call in the "
             "model and export again";
    return opset > 24 ? fmt::format(
                            "the model declares opset {}; up to 24 is known: export with a "
                            "lower opset",
                            opset)
                      : "no operator of ONNX up to opset 24; look for a misspelt name or a missing "
                        "domain";
  }
  if (domain == "ai.onnx.preview.training" || domain == "ai.onnx.training")
    return "an operator of training; export the model for inference";
  if (domain.starts_with("ai.onnx.preview"))
    return "an operator of a preview; export with operators of a released opset";
  if (domain == "ai.onnx.ml") return "no operator of ai.onnx.ml up to version 5";
  if (domain == "ai.onnx.contrib")
    return "needs onnxruntime-extensions, which is not supported; do that part of the work before "
           "or after the model";
  if (domain == "com.microsoft.nchwc" || domain == "com.ms.internal.nhwc")
    return "written by ONNX Runtime for one machine; save the model with a lower graph "
           "optimisation level, or take the original file";
  if (domain == "com.microsoft") {
    if (IsOneOf(op, {"BeamSearch", "GreedySearch", "Sampling", "WhisperBeamSearch"}))
      return "a whole loop of text generation; export the decoder alone and loop outside";
    if (IsOneOf(op,
                {"PackedAttention", "PackedMultiHeadAttention", "RemovePadding", "RestorePadding"}))
      return "works on a batch without padding; export the model without packing";
    if (op == "PagedAttention") return "export the model with GroupQueryAttention";
    if (op == "Tokenizer") return "make tokens before the model";
    if (IsOneOf(op, {"EPContext", "Snpe"}))
      return "holds a model compiled for another device; take the original file";
    return "an operator of ONNX Runtime; take the model as it was before its optimiser or "
           "quantiser, or with a lower optimisation level";
  }
  if (domain == "org.pytorch.aten" || domain.starts_with("aten") ||
      domain.starts_with("pkg.onnxscript"))
    return "what the PyTorch exporter could not translate; export again with a newer exporter or "
           "replace that call";
  return "an operator of its own domain; a model-local function of that name in the file would do";
}

}  // namespace dunlin
