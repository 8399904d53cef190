// The pieces that our pictures (SVG) are written with.
#pragma once

#include <string>

namespace dunlin::cli {

std::string SvgEscaped(const std::string& text);
// White ground and a title at x = left; the caller closes with "</svg>".
std::string SvgBegin(double width, double height, double left, const std::string& title);
// `extra`, `style`: attributes.
std::string SvgText(double x, double y, const std::string& text, const char* extra = "");
std::string SvgLine(double x0, double y0, double x1, double y1, const char* style);

}  // namespace dunlin::cli
