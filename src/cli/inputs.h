// The tensors a model is run on: from files, constants or a seeded generator.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "cli/image.h"
#include "dunlin/engine.h"

namespace dunlin::cli {

// As written on the command line. "NAME=VALUE" is split at the '=' that follows an input's name, so
// that names and file names may hold '='; where the model has one required input "NAME=" may be
// left out.
struct InputOptions {
  std::vector<std::string> files = {};  // NAME=FILE: .npy, .bin or .raw (little endian), PNG, JPEG;
                                        // a map: .json
  std::vector<std::string> shapes = {};  // NAME=1,3,224,224
  std::vector<std::string> fills = {};   // NAME=VALUE, for every element
  ImageOptions image = {};
  uint64_t seed = 1;
  // Random integers are 0 … intmax-1. Without it 2, but the whole range for 8-bit types (pixels,
  // codes).
  std::optional<int64_t> intmax = {};
  int64_t batch =
      0;  // > 0: the first extent, wherever the model leaves it open and no shape is given
  bool maps = false;  // whether the command can give maps to the model
};

struct Inputs {
  std::vector<NamedTensor> tensors;
  std::vector<NamedValue> maps;    // only with InputOptions::maps
  std::vector<std::string> notes;  // one line per input whose extents or values we chose
};

// Inputs with a default in the model are left out unless an option names them. Unknown extents take
// the value that the same symbol has in another input, else 1. Floats are uniform in [-1, 1);
// attention masks are 1, token types 0; strings "s0", "s1", …. The values depend on seed, name and
// shape alone. kInvalidArgument: an option names no input, a file does not fit, an input has no
// known rank.
Result<Inputs> MakeInputs(std::span<const PortInfo> ports, const InputOptions& options);

// The ports that options name.
std::vector<std::string> NamedPorts(std::span<const PortInfo> ports, const InputOptions& options);
// Tensors and maps.
std::vector<NamedValue> AllOf(const Inputs& inputs);

// "1,3,224,224" → extents; "" is a scalar.
Result<Dims> ParseShape(std::string_view text);

}  // namespace dunlin::cli
