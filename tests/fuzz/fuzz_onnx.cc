// Bytes of a model file from anywhere: loading must answer with a model or an error, whatever they
// say.
#include <cstddef>
#include <cstdint>
#include <span>

#include "dunlin/engine.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  dunlin::LoadOptions options;
  options.external_data_dir =
      "/nonexistent";  // no file of this machine decides what the bytes mean
  const auto model = dunlin::Model::LoadBytes(std::as_bytes(std::span(data, size)), options);
  if (!model.has_value()) return model.error().message.empty() ? (__builtin_trap(), 0) : 0;
  // What loaded can be looked at.
  (void)(*model)->Text();
  (void)(*model)->operators();
  (void)(*model)->CheckInputs({});
  return 0;
}
