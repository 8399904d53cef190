#include "cli/compare_report.h"

#include <algorithm>
#include <cmath>

#include "base/json_writer.h"
#include "cli/svg.h"
#include "cli/text.h"

namespace dunlin::cli {
namespace {

constexpr size_t kMostRows = 10;  // of layers, unless all are wanted

double Sqnr(const Compared& c) { return c.difference.sqnr_db(); }

// The layers that were compared, in order; and the one of the least SQNR, if any is not equal.
std::vector<const Compared*> Layers(const CompareReport& r) {
  std::vector<const Compared*> layers;
  for (const Compared& c : r.layers)
    if (c.unlike.empty() && c.difference.elements() > 0) layers.push_back(&c);
  return layers;
}
const Compared* Worst(const std::vector<const Compared*>& layers) {
  const auto it = std::ranges::min_element(layers, {}, [](const Compared* c) { return Sqnr(*c); });
  return it == layers.end() || (*it)->difference.equal() ? nullptr : *it;
}

// Without folders, which a picture has no room for.
std::string FileOf(const std::string& path) { return path.substr(path.find_last_of('/') + 1); }

std::string Agreed(int64_t part, int64_t whole) {
  if (whole == 0) return "-";
  return fmt::format("{:.2f} % ({} of {})", 100 * double(part) / double(whole), part, whole);
}

std::string OutputsText(const CompareReport& r) {
  Table table({"output", "SQNR", "cosine", "max error", "relative", "mean error", "relative",
               "best agrees", "in best five", "NaN/Inf"});
  std::string rest;
  for (const Compared& c : r.outputs) {
    const Difference& d = c.difference;
    if (!c.unlike.empty()) {
      rest += fmt::format("{}: not compared, {}\n", c.name, c.unlike);
      continue;
    }
    table.Add({c.name, SqnrText(d), fmt::format("{:.6f}", d.cosine()),
               fmt::format("{:.3g}", d.max_error()), fmt::format("{:.2g}", d.max_relative()),
               fmt::format("{:.3g}", d.mean_error()), fmt::format("{:.2g}", d.mean_relative()),
               Agreed(d.agreed(), d.rows()), Agreed(d.in_five(), d.rows_of_five()),
               fmt::format("{}", d.non_finite())});
  }
  return (table.empty() ? "" : table.Text()) + rest;
}

std::string LayersText(const CompareReport& r, bool all) {
  std::vector<const Compared*> layers = Layers(r);
  const Compared* worst = Worst(layers);
  const size_t count = layers.size();
  if (!all) {
    std::ranges::stable_sort(layers, {}, [](const Compared* c) { return Sqnr(*c); });
    layers.resize(std::min(count, kMostRows));
  }
  Table table({"layer", "operator", "SQNR", "cosine", "max error", "mean relative", ""});
  for (const Compared* c : layers) {
    const Difference& d = c->difference;
    table.Add({c->name, c->op, SqnrText(d), fmt::format("{:.6f}", d.cosine()),
               fmt::format("{:.3g}", d.max_error()), fmt::format("{:.2g}", d.mean_relative()),
               c == worst ? "worst" : ""});
  }
  std::string text = fmt::format(
      "\n{} layers correspond by {} ({} values of the first model and {} of the second have no "
      "partner), on {} inputs{}\n",
      count, r.by_name ? "name" : "order, operator and extents", r.only_a, r.only_b, r.layer_sets,
      all || count <= kMostRows ? "" : fmt::format("; the {} worst:", kMostRows));
  if (!table.empty()) text += table.Text();
  for (const Compared& c : r.layers)
    if (!c.unlike.empty()) text += fmt::format("{}: not compared, {}\n", c.name, c.unlike);
  return text;
}

void ComparedJson(JsonWriter& json, const Compared& c) {
  const Difference& d = c.difference;
  json.BeginObject().Key("name").String(c.name).Key("other").String(c.other);
  if (!c.op.empty()) json.Key("operator").String(c.op);
  if (!c.unlike.empty()) {
    json.Key("not_compared").String(c.unlike).End();
    return;
  }
  json.Key("elements").Int(d.elements()).Key("equal").Bool(d.equal());
  json.Key("sqnr_db").Double(d.sqnr_db()).Key("cosine").Double(d.cosine(), 9);
  json.Key("max_error").Double(d.max_error()).Key("mean_error").Double(d.mean_error());
  json.Key("max_relative_error").Double(d.max_relative());
  json.Key("mean_relative_error").Double(d.mean_relative());
  json.Key("rows").Int(d.rows()).Key("rows_agreed").Int(d.agreed());
  json.Key("rows_of_five").Int(d.rows_of_five()).Key("rows_in_five").Int(d.in_five());
  json.Key("non_finite_differences").Int(d.non_finite()).End();
}

}  // namespace

std::string CompareText(const CompareReport& r, bool all_layers) {
  std::string text =
      fmt::format("{}\nagainst {}, on {} inputs\n\n{}", r.b, r.a, r.sets, OutputsText(r));
  if (r.layer_sets > 0) text += LayersText(r, all_layers);
  return text;
}

std::string CompareJson(const CompareReport& r) {
  JsonWriter json;
  json.BeginObject().Key("a").String(r.a).Key("b").String(r.b);
  json.Key("inputs").Int(int64_t(r.sets)).Key("layer_inputs").Int(int64_t(r.layer_sets));
  json.Key("outputs").BeginArray();
  for (const Compared& c : r.outputs) ComparedJson(json, c);
  json.End().Key("layers").BeginArray();
  for (const Compared& c : r.layers) ComparedJson(json, c);
  json.End();
  json.Key("layers_by").String(r.by_name ? "name" : "structure");
  const Compared* worst = Worst(Layers(r));
  json.Key("worst_layer").String(worst == nullptr ? "" : worst->name);
  return json.End().text() + '\n';
}

std::string SqnrSvg(const CompareReport& r) {
  constexpr double kWidth = 900, kHeight = 420, kLeft = 60, kRight = 880, kTop = 50, kBottom = 360;
  const std::vector<const Compared*> layers = Layers(r);
  const Compared* worst = Worst(layers);
  double low = 0, high = 10;  // dB; what is equal stands at the upper border
  for (const Compared* c : layers)
    if (std::isfinite(Sqnr(*c))) {
      low = std::min(low, std::floor(Sqnr(*c) / 10) * 10);
      high = std::max(high, std::ceil(Sqnr(*c) / 10) * 10);
    }
  const auto y = [&](double db) {
    return kBottom - (std::clamp(db, low, high) - low) / (high - low) * (kBottom - kTop);
  };
  const auto x = [&](size_t i) {
    return kLeft +
           (double(i) + 0.5) / double(std::max<size_t>(1, layers.size())) * (kRight - kLeft);
  };
  std::string svg =
      SvgBegin(kWidth, kHeight, kLeft, fmt::format("{} against {}", FileOf(r.b), FileOf(r.a)));
  const double step = high - low > 100 ? 20 : 10;
  for (double db = low; db <= high; db += step) {
    svg += SvgLine(kLeft, y(db), kRight, y(db), "stroke=\"#e4e4e4\"");
    svg += SvgText(kLeft - 8, y(db) + 4, fmt::format("{:g}", db), "text-anchor=\"end\"");
  }
  svg += SvgText(kLeft, kTop - 8, "SQNR in dB of each layer, in the order of computation");
  for (size_t i = 0; i < layers.size(); ++i) {
    const Compared& c = *layers[i];
    svg += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3.5\" fill=\"{}\"><title>{}</title></circle>\n",
        x(i), y(Sqnr(c)), &c == worst ? "#D55E00" : "#0072B2",
        SvgEscaped(fmt::format("{} ({}): {}", c.name, c.op, SqnrText(c.difference))));
    if (&c == worst)
      svg += SvgText(x(i), std::min(kBottom + 24, y(Sqnr(c)) + 20),
                     fmt::format("worst: {}, {}", c.name, SqnrText(c.difference)),
                     x(i) > (kLeft + kRight) / 2 ? "text-anchor=\"end\"" : "");
  }
  return svg + "</svg>\n";
}

}  // namespace dunlin::cli
