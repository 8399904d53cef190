#include "cli/compare_pairs.h"

#include <algorithm>
#include <map>
#include <set>

namespace dunlin::cli {
namespace {

// Of onnxruntime.quantization, which other tools follow. A tool may put a number behind these when
// a value is quantised more than once.
struct Suffix {
  std::string_view text;
  int rank;
};
constexpr Suffix kSuffixes[] = {
    {"_DequantizeLinear_Output", 0}, {"_dequantized", 0},          {"_quantized", 1},
    {"_QuantizeLinear_Output", 1},   {"_QuantizeLinear_Input", 3},
};
constexpr int kPlain = 2;  // of a model with suffixed values: before it is rounded to codes
constexpr std::string_view kNodeSuffixes[] = {"_quant", "_quantized"};

std::string_view WithoutNumber(std::string_view text) {
  const size_t end = text.find_last_not_of("0123456789");
  return end != std::string_view::npos && end + 1 < text.size() && text[end] == '_'
             ? text.substr(0, end)
             : text;
}

std::string NodeKey(const InnerValue& v) {
  std::string_view node = v.node;
  for (const std::string_view suffix : kNodeSuffixes)
    if (node.ends_with(suffix)) node.remove_suffix(suffix.size());
  return std::string(node) + '\n' + std::to_string(v.output);
}

// The best value of every base name.
std::map<std::string_view, const InnerValue*> ByBaseName(std::span<const InnerValue> values) {
  std::map<std::string_view, const InnerValue*> best;
  for (const InnerValue& v : values) {
    const BaseName base = BaseNameOf(v.name);
    const auto [it, fresh] = best.emplace(base.name, &v);
    if (!fresh && base.rank < BaseNameOf(it->second->name).rank) it->second = &v;
  }
  return best;
}

}  // namespace

BaseName BaseNameOf(std::string_view value) {
  for (const std::string_view text : {value, WithoutNumber(value)})
    for (const Suffix& s : kSuffixes)
      if (text.size() > s.text.size() && text.ends_with(s.text))
        return {text.substr(0, text.size() - s.text.size()), s.rank};
  return {value, kPlain};
}

namespace {

std::vector<ValuePair> ByName(std::span<const InnerValue> a, std::span<const InnerValue> b) {
  const auto bases_a = ByBaseName(a), bases_b = ByBaseName(b);
  std::map<const InnerValue*, const InnerValue*> pairs;  // of a to of b
  std::set<std::string> nodes_a;                         // whose outputs have a partner
  std::set<const InnerValue*> taken;
  for (const auto& [base, v] : bases_a)
    if (const auto it = bases_b.find(base); it != bases_b.end()) {
      pairs.emplace(v, it->second);
      taken.insert(it->second);
      // The base's own node, where what stands in for it is another's.
      for (const InnerValue& other : a)
        if (BaseNameOf(other.name).name == base) nodes_a.insert(NodeKey(other));
    }
  std::map<std::string, const InnerValue*> nodes_b;
  for (const InnerValue& v : b)
    if (!v.node.empty() && !taken.contains(&v)) nodes_b.emplace(NodeKey(v), &v);
  for (const InnerValue& v : a) {
    if (v.node.empty() || pairs.contains(&v) || nodes_a.contains(NodeKey(v))) continue;
    if (const auto it = nodes_b.find(NodeKey(v)); it != nodes_b.end())
      pairs.emplace(&v, it->second);
  }
  std::vector<ValuePair> out;
  for (const InnerValue& v : a)
    if (const auto it = pairs.find(&v); it != pairs.end()) out.push_back({v, *it->second});
  return out;
}

bool Contradict(const InnerValue& a, const InnerValue& b) {
  if (!a.ranked || !b.ranked) return false;
  if (a.dims.size() != b.dims.size()) return true;
  for (size_t i = 0; i < a.dims.size(); ++i)
    if (a.dims[i] >= 0 && b.dims[i] >= 0 && a.dims[i] != b.dims[i]) return true;
  return false;
}

std::vector<ValuePair> ByStructure(std::span<const InnerValue> a, std::span<const InnerValue> b) {
  constexpr size_t kMost = 8192;  // layers of each: the table has that squared
  const auto layers = [](std::span<const InnerValue> values) {
    std::vector<const InnerValue*> out;
    for (const InnerValue& v : values)
      if (!v.layer.empty() && out.size() < kMost) out.push_back(&v);
    return out;
  };
  const auto x = layers(a), y = layers(b);
  const auto alike = [&](size_t i, size_t j) {
    return x[i]->layer == y[j]->layer && !Contradict(*x[i], *y[j]);
  };
  // longest[i][j]: of x from i on and y from j on.
  const size_t width = y.size() + 1;
  std::vector<uint16_t> longest((x.size() + 1) * width);
  for (size_t i = x.size(); i-- > 0;)
    for (size_t j = y.size(); j-- > 0;)
      longest[i * width + j] =
          alike(i, j) ? uint16_t(longest[(i + 1) * width + j + 1] + 1)
                      : std::max(longest[(i + 1) * width + j], longest[i * width + j + 1]);
  std::vector<ValuePair> pairs;
  for (size_t i = 0, j = 0; i < x.size() && j < y.size();) {
    if (alike(i, j))
      pairs.push_back({*x[i++], *y[j++]});
    else
      longest[(i + 1) * width + j] >= longest[i * width + j + 1] ? ++i : ++j;
  }
  return pairs;
}

}  // namespace

Pairing PairValues(std::span<const InnerValue> a, std::span<const InnerValue> b) {
  Pairing p{.pairs = ByName(a, b)};
  const auto wrong =
      std::ranges::count_if(p.pairs, [](const ValuePair& v) { return Contradict(v.a, v.b); });
  if (!p.pairs.empty() && wrong * 10 <= std::ssize(p.pairs)) return p;
  return {.pairs = ByStructure(a, b), .by_name = false};
}

}  // namespace dunlin::cli
