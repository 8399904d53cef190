// UTF-8 to code points and back, never failing: what is not UTF-8 becomes U+FFFD.
#pragma once

#include <string>
#include <string_view>

namespace dunlin::cli {

std::string ToUtf8(std::u32string_view points);
std::u32string FromUtf8(std::string_view text);

}  // namespace dunlin::cli
