#include "cli/outputs.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "cli/files.h"
#include "cli/map_json.h"
#include "cli/npy.h"

namespace dunlin::cli {
namespace {

constexpr int64_t kFirstValues = 6;
constexpr size_t kFirstMaps = 8;

// The values as doubles; empty when the type has no numbers we can show.
std::vector<double> Numbers(const Tensor& t, int64_t limit) {
  std::vector<double> out;
  if (t.dtype() == DType::kString) return out;
  const Status s = VisitDType(t.dtype(), "", [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (!std::is_same_v<T, std::string>) {
      const T* x = t.as<T>();
      out.reserve(size_t(limit));
      for (int64_t i = 0; i < limit; ++i) {
        if constexpr (kIsHalf<T>)
          out.push_back(float(x[i]));
        else
          out.push_back(double(x[i]));
      }
    }
    return {};
  });
  if (!s) out.clear();
  return out;
}

// The first values, as text.
std::vector<std::string> Texts(const Tensor& t, int64_t limit) {
  std::vector<std::string> texts;
  if (t.dtype() == DType::kString) {
    for (const std::string& s : t.values<std::string>().first(size_t(limit)))
      texts.push_back(fmt::format("\"{}\"", s.substr(0, 80)));
  } else {
    for (const double v : Numbers(t, limit)) texts.push_back(fmt::format("{:.6g}", v));
  }
  return texts;
}

std::string FirstValues(const Tensor& t) {
  const int64_t n = std::min(t.count(), kFirstValues);
  std::string text = fmt::format("{}", fmt::join(Texts(t, n), ", "));
  if (n < t.count()) text += ", …";
  return text;
}

// "{cat: 0.9, dog: 0.1, …}"
std::string FirstEntries(const Tensor& keys, const Tensor& values) {
  const int64_t n = std::min(keys.count(), kFirstValues);
  std::vector<std::string> entries = Texts(keys, n);
  const std::vector<std::string> right = Texts(values, n);
  for (size_t i = 0; i < entries.size() && i < right.size(); ++i) entries[i] += ": " + right[i];
  if (n < keys.count()) entries.push_back("…");
  return fmt::format("{{{}}}", fmt::join(entries, ", "));
}

std::string SummaryOfMaps(const std::string& name, const Value& v) {
  std::string text = fmt::format("{}: sequence of {} maps\n", name, v.sequence.size());
  for (size_t i = 0; i < std::min(v.sequence.size(), kFirstMaps); ++i)
    text += fmt::format("  [{}] {}\n", i, FirstEntries(v.keys[i], v.sequence[i]));
  if (v.sequence.size() > kFirstMaps)
    text += fmt::format("  … and {} more\n", v.sequence.size() - kFirstMaps);
  return text;
}

std::string SummaryOf(const std::string& name, const Tensor& t) {
  std::string line = fmt::format("{}: {} {}", name, DTypeName(t.dtype()), ToString(t.dims()));
  double low = INFINITY, high = -INFINITY, sum = 0;
  int64_t finite = 0, nan = 0, infinite = 0;
  for (const double v : Numbers(t, t.count())) {
    if (std::isnan(v))
      ++nan;
    else if (std::isinf(v))
      ++infinite;
    else
      low = std::min(low, v), high = std::max(high, v), sum += v, ++finite;
  }
  if (finite > 0)
    line += fmt::format("  min {:.6g}  mean {:.6g}  max {:.6g}", low, sum / double(finite), high);
  if (nan > 0) line += fmt::format("  NaN {}", nan);
  if (infinite > 0) line += fmt::format("  infinite {}", infinite);
  if (t.count() > 0) line += fmt::format("\n  {}", FirstValues(t));
  return line + '\n';
}

// A map, or a list of them.
std::string MapsJson(const Value& v) {
  JsonWriter json;
  if (v.kind == Value::Kind::kMap) {
    WriteMap(v.keys[0], v.tensor, json);
  } else {
    json.BeginArray();
    for (size_t i = 0; i < v.sequence.size(); ++i) WriteMap(v.keys[i], v.sequence[i], json);
    json.End();
  }
  return json.text() + '\n';
}

struct Rows {
  int64_t count = 0;
  int64_t classes = 0;
};
Rows RowsOf(const Tensor& t) {
  Dims dims = t.dims();
  while (dims.size() > 1 && dims.back() == 1) dims.resize(dims.size() - 1);
  const int64_t classes = dims.empty() ? 1 : dims.back();
  return {classes == 0 ? 0 : t.count() / classes, classes};
}

}  // namespace

Result<std::vector<std::string>> SaveOutputs(const std::string& dir,
                                             std::span<const NamedValue> outputs) {
  std::error_code error;
  std::filesystem::create_directories(dir, error);
  if (error)
    return Fail(Code::kFailedPrecondition, "cannot make the folder {}: {}", dir, error.message());
  std::vector<std::string> paths;
  std::set<std::string> taken;
  // Two outputs may differ only in characters that became '_'.
  const auto path_for = [&](std::string name, const char* extension) {
    while (!taken.insert(name).second) name += '_';
    paths.push_back(fmt::format("{}/{}.{}", dir, name, extension));
    return paths.back();
  };
  const auto save = [&](const std::string& name, const Tensor& t) {
    return WriteNpy(path_for(name, "npy"), t);
  };
  for (const NamedValue& output : outputs) {
    const std::string name = FileNameFor(output.name);
    switch (output.value.kind) {
      case Value::Kind::kNone:
        break;
      case Value::Kind::kTensor:
        TRY(save(name, output.value.tensor));
        break;
      case Value::Kind::kMap:
        TRY(WriteText(path_for(name, "json"), MapsJson(output.value)));
        break;
      case Value::Kind::kSequence:
        if (!output.value.keys.empty()) {
          TRY(WriteText(path_for(name, "json"), MapsJson(output.value)));
          break;
        }
        for (size_t i = 0; i < output.value.sequence.size(); ++i)
          TRY(save(fmt::format("{}.{}", name, i), output.value.sequence[i]));
        break;
    }
  }
  return paths;
}

std::string Summary(std::span<const NamedValue> outputs) {
  std::string text;
  for (const NamedValue& output : outputs) {
    switch (output.value.kind) {
      case Value::Kind::kNone:
        text += fmt::format("{}: absent\n", output.name);
        break;
      case Value::Kind::kTensor:
        text += SummaryOf(output.name, output.value.tensor);
        break;
      case Value::Kind::kMap:
        text += fmt::format("{}: map of {}\n  {}\n", output.name, output.value.tensor.count(),
                            FirstEntries(output.value.keys[0], output.value.tensor));
        break;
      case Value::Kind::kSequence:
        if (!output.value.keys.empty()) {
          text += SummaryOfMaps(output.name, output.value);
          break;
        }
        text += fmt::format("{}: sequence of {}\n", output.name, output.value.sequence.size());
        for (size_t i = 0; i < output.value.sequence.size(); ++i)
          text += SummaryOf(fmt::format("{}[{}]", output.name, i), output.value.sequence[i]);
        break;
    }
  }
  return text;
}

std::vector<Ranked> TopK(std::span<const double> scores, int k) {
  std::vector<Ranked> all;
  for (size_t i = 0; i < scores.size(); ++i)
    if (!std::isnan(scores[i])) all.push_back({int64_t(i), scores[i]});
  const size_t keep = std::min(all.size(), size_t(std::max(k, 0)));
  std::partial_sort(all.begin(), all.begin() + std::ptrdiff_t(keep), all.end(),
                    [](const Ranked& a, const Ranked& b) {
                      return a.score != b.score ? a.score > b.score : a.index < b.index;
                    });
  all.resize(keep);
  return all;
}

std::string TopKText(std::span<const NamedValue> outputs, int k,
                     std::span<const std::string> labels) {
  constexpr int64_t kMaxRows = 8;
  std::string text;
  for (const NamedValue& output : outputs) {
    if (output.value.kind != Value::Kind::kTensor) continue;
    const Tensor& t = output.value.tensor;
    const Rows rows = RowsOf(t);
    const std::vector<double> numbers = Numbers(t, t.count());
    if (numbers.empty()) continue;
    for (int64_t r = 0; r < std::min(rows.count, kMaxRows); ++r) {
      text += rows.count == 1 ? fmt::format("{}:\n", output.name)
                              : fmt::format("{}[{}]:\n", output.name, r);
      const auto scores =
          std::span(numbers).subspan(size_t(r * rows.classes), size_t(rows.classes));
      for (const Ranked& best : TopK(scores, k)) {
        const bool named = best.index < int64_t(labels.size());
        text += fmt::format("  {:>10.6f}  {:>6}  {}\n", best.score, best.index,
                            named ? labels[size_t(best.index)] : "");
        while (text.ends_with(" \n")) text.erase(text.size() - 2, 1);
      }
    }
    if (rows.count > kMaxRows) text += fmt::format("  … and {} more rows\n", rows.count - kMaxRows);
  }
  return text;
}

}  // namespace dunlin::cli
