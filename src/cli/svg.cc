#include "cli/svg.h"

#include <fmt/format.h>

namespace dunlin::cli {

std::string SvgEscaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '&')
      out += "&amp;";
    else if (static_cast<unsigned char>(c) < ' ')
      out += ' ';
    else
      out += c;
  }
  return out;
}

std::string SvgBegin(double width, double height, double left, const std::string& title) {
  return fmt::format(
             "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" "
             "viewBox=\"0 0 {0:.0f} {1:.0f}\" font-family=\"sans-serif\" font-size=\"12\">\n<rect "
             "width=\"100%\" height=\"100%\" fill=\"white\"/>\n",
             width, height) +
         SvgText(left, 24, title, "font-size=\"15\" font-weight=\"bold\"");
}

std::string SvgText(double x, double y, const std::string& text, const char* extra) {
  return fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" {}>{}</text>\n", x, y, extra,
                     SvgEscaped(text));
}

std::string SvgLine(double x0, double y0, double x1, double y1, const char* style) {
  return fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" {}/>\n", x0, y0,
                     x1, y1, style);
}

}  // namespace dunlin::cli
