#include "cli/text.h"

#include <algorithm>
#include <cmath>

#include "base/result.h"
#include "cli/utf8.h"

namespace dunlin::cli {
namespace {

std::string Scaled(double value, double step, std::initializer_list<const char*> units) {
  auto unit = units.begin();
  while (std::abs(value) >= step && unit + 1 != units.end()) value /= step, ++unit;
  const bool whole = unit == units.begin();
  return fmt::format("{:.{}f}{}{}", value, whole ? 0 : 1, **unit ? " " : "", *unit);
}

size_t Width(const std::string& cell) { return FromUtf8(cell).size(); }

}  // namespace

std::string HumanBytes(int64_t bytes) {
  return Scaled(double(bytes), 1024, {"B", "KiB", "MiB", "GiB", "TiB"});
}
std::string HumanCount(double count) { return Scaled(count, 1000, {"", "k", "M", "G", "T"}); }

std::string HumanMillis(double millis) {
  const int digits = millis <= 0 ? 0 : std::clamp(2 - int(std::floor(std::log10(millis))), 0, 5);
  return fmt::format("{:.{}f} ms", millis, digits);
}

std::string Table::Text() const {
  const size_t columns = rows_[0].size();
  std::vector<size_t> width(columns, 0);
  std::vector<bool> right(columns, rows_.size() > 1);
  for (size_t r = 0; r < rows_.size(); ++r) {
    for (size_t c = 0; c < columns; ++c) {
      const std::string& cell = rows_[r][c];
      width[c] = std::max(width[c], Width(cell));
      if (r > 0 && !cell.empty() && cell[0] != '-' && (cell[0] < '0' || cell[0] > '9'))
        right[c] = false;
    }
  }
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (size_t c = 0; c < columns; ++c) {
      const std::string pad(width[c] - Width(row[c]), ' ');
      line += (c ? "  " : "") + (right[c] ? pad + row[c] : row[c] + pad);
    }
    text += line.substr(0, line.find_last_not_of(' ') + 1) + '\n';
  }
  return text;
}

}  // namespace dunlin::cli
