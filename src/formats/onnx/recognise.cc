// What people hand to a program that opens ONNX models, and is none.
#include <algorithm>

#include "formats/onnx/internal.h"

namespace dunlin::onnx_import {
namespace {

struct Signature {
  size_t at;
  std::string_view bytes;
  std::string_view what;
};

constexpr Signature kSignatures[] = {
    {0, "version https://git-lfs",
     "a Git LFS pointer, not the model itself; fetch the model with 'git lfs pull'"},
    {0, "PK\x03\x04",
     "a zip archive (or a PyTorch checkpoint); unpack or export it to .onnx first"},
    {0, "\x1f\x8b", "compressed with gzip; decompress it first (gunzip)"},
    {0, "\x28\xb5\x2f\xfd", "compressed with zstd; decompress it first (unzstd)"},
    {0,
     "\xfd"
     "7zXZ",
     "compressed with xz; decompress it first (unxz)"},
    {0, "BZh", "compressed with bzip2; decompress it first (bunzip2)"},
    {4, "ORTM",
     "a model in ONNX Runtime's own format (.ort); use the .onnx file that it was made from"},
    {4, "TFL3", "a TensorFlow Lite model; convert it to ONNX first"},
    {0, "GGUF", "a GGUF model; convert or export it to ONNX first"},
    {0, "7767517", "an ncnn model; convert or export it to ONNX first"},
    {0, "\x80\x02", "a Python pickle (a PyTorch checkpoint); export the model to ONNX first"},
    {0, "<!DOCTYPE", "a web page: the download went wrong"},
    {0, "<!doctype", "a web page: the download went wrong"},
    {0, "<html", "a web page: the download went wrong"},
    {0, "<HTML", "a web page: the download went wrong"},
    {0, "<?xml", "XML text (an OpenVINO model, or an error from a web server)"},
    {0, "ir_version:", "an ONNX model in text form; save it in binary form"},
    {0, "producer_name:", "an ONNX model in text form; save it in binary form"},
    {0, "graph {", "an ONNX model in text form; save it in binary form"},
    {0, "{", "JSON text; save the model in ONNX's binary form"},
};

}  // namespace

std::string OtherFormat(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  for (const Signature& s : kSignatures)
    if (text.size() >= s.at && text.substr(s.at).starts_with(s.bytes)) return std::string(s.what);
  // Behind eight bytes of a length, safetensors begin with JSON.
  if (text.size() > 9 && text[8] == '{' && text.substr(5, 3) == std::string_view("\0\0\0", 3))
    return "a safetensors file: weights without a model; export the model to ONNX";
  if (std::all_of(text.begin(), text.end(), [](char c) { return c == '\0'; }))
    return "nothing but zeros: the download or copy went wrong";
  return {};
}

}  // namespace dunlin::onnx_import
