// SHA-256 of a file, as 64 lower-case hexadecimal digits.
#pragma once

#include <string>

#include "base/result.h"

namespace dunlin::cli {

// kNotFound when the file cannot be opened. Reads piecewise: any size of file.
Result<std::string> Sha256OfFile(const std::string& path);

}  // namespace dunlin::cli
