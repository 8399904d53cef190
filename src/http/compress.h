// gzip and deflate (zlib format) bodies.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dunlin::http {

enum class Encoding : unsigned char { kIdentity, kGzip, kDeflate };
std::string_view EncodingName(Encoding encoding);

// Of a Content-Encoding header; kUnimplemented for what is neither of the three.
Result<Encoding> ParseContentEncoding(std::string_view header);
// The one of gzip and deflate that an Accept-Encoding header likes best; kIdentity when none.
Encoding ChooseEncoding(std::string_view accept_encoding);

// Never takes more than limit bytes and a little: kInvalidArgument when the result would be larger,
// or the data is damaged or cut short. The result has kBodyPadding spare bytes.
Result<std::string> Decompress(std::string_view data, Encoding encoding, int64_t limit);
Result<std::string> Compress(std::string_view data, Encoding encoding);

}  // namespace dunlin::http
