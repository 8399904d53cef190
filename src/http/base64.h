// Base64 (RFC 4648), as JSON carries bytes.
#pragma once

#include <string>
#include <string_view>

#include "base/result.h"

namespace dunlin::http {

// kInvalidArgument for what is not base64. Padding may be left out; line breaks are skipped.
Result<std::string> Base64Decode(std::string_view text);

}  // namespace dunlin::http
