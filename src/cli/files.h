// Whole files in and out, with errors that name the file and the system's reason.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace dunlin::cli {

// kNotFound when it cannot be opened, kResourceExhausted when it does not fit in memory.
Result<std::vector<std::byte>> ReadFile(const std::string& path);
Result<std::string> ReadText(const std::string& path);
// Lines without their ends; a last line without an end counts.
Result<std::vector<std::string>> ReadLines(const std::string& path);

// Written beside the target and renamed over it, so that the target is never seen half-written.
Status WriteFile(const std::string& path, std::span<const std::byte> bytes);
Status WriteText(const std::string& path, std::string_view text);

// The characters a file name cannot hold ('/' and NUL) replaced by '_'; "", "." and ".." become
// "_".
std::string FileNameFor(std::string_view tensor_name);

}  // namespace dunlin::cli
