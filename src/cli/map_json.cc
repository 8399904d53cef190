#include "cli/map_json.h"

#include <simdjson.h>

#include <charconv>
#include <limits>
#include <vector>

namespace dunlin::cli {
namespace {

using Element = simdjson::dom::element;

tl::unexpected<Error> NotA(DType t, std::string_view what) {
  return Fail(Code::kInvalidArgument, "'{}' is not a value of type {}", what, DTypeName(t));
}

template <class T>
Result<T> ToValue(Element e) {
  if constexpr (std::is_same_v<T, std::string>) {
    std::string_view s;
    if (e.get(s) != simdjson::SUCCESS) return NotA(DType::kString, simdjson::minify(e));
    return std::string(s);
  } else if constexpr (std::is_same_v<T, bool>) {
    bool b = false;
    if (e.get(b) != simdjson::SUCCESS) return NotA(DType::kBool, simdjson::minify(e));
    return b;
  } else if constexpr (kIsFloat<T>) {
    if (e.is_null()) return T(std::numeric_limits<float>::quiet_NaN());
    double d = 0;
    if (e.get(d) != simdjson::SUCCESS) return NotA(kDTypeOf<T>, simdjson::minify(e));
    if constexpr (kIsHalf<T>)
      return T(float(d));
    else
      return T(d);
  } else {
    int64_t i = 0;
    if (e.get(i) != simdjson::SUCCESS || !std::in_range<T>(i))
      return NotA(kDTypeOf<T>, simdjson::minify(e));
    return T(i);
  }
}

// Keys of an object are text, whatever they mean.
template <class T>
Result<T> ToKey(std::string_view text) {
  if constexpr (std::is_same_v<T, std::string>) {
    return std::string(text);
  } else if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>) {
    T v{};
    const auto [at, error] = std::from_chars(text.data(), text.data() + text.size(), v);
    if (error != std::errc{} || at != text.data() + text.size()) return NotA(kDTypeOf<T>, text);
    return v;
  } else {
    return NotA(kDTypeOf<T>, text);
  }
}

struct Entries {
  std::vector<std::pair<std::string_view, Element>> named;
  std::vector<std::pair<Element, Element>> pairs;
};

Result<Entries> EntriesOf(Element root) {
  Entries entries;
  if (simdjson::dom::object object; root.get(object) == simdjson::SUCCESS) {
    for (const auto [key, value] : object) entries.named.emplace_back(key, value);
    return entries;
  }
  simdjson::dom::array list;
  if (root.get(list) != simdjson::SUCCESS)
    return Fail(Code::kInvalidArgument, "a map is written {{\"key\": value}} or [[key, value]]");
  for (const Element e : list) {
    simdjson::dom::array pair;
    if (e.get(pair) != simdjson::SUCCESS || pair.size() != 2)
      return Fail(Code::kInvalidArgument, "'{}' is not a [key, value]",
                  std::string(simdjson::minify(e)));
    entries.pairs.emplace_back(pair.at(0).value(), pair.at(1).value());
  }
  return entries;
}

template <class T>
Tensor VectorOf(std::vector<T>& v) {
  Tensor t = Tensor::Create(kDTypeOf<T>, Dims{int64_t(v.size())}).value();
  std::copy(v.begin(), v.end(), t.mut<T>());
  return t;
}

}  // namespace

Result<Value> ParseMap(const PortInfo& port, std::span<const std::byte> json) {
  simdjson::dom::parser parser;
  Element root;
  if (const auto error =
          parser.parse(reinterpret_cast<const char*>(json.data()), json.size()).get(root))
    return Fail(Code::kInvalidArgument, "it is not JSON: {}", simdjson::error_message(error));
  const Entries entries = TRY(EntriesOf(root));
  Tensor keys, values;
  const Status read_keys = VisitDType(port.key, "a map's key", [&]<class T>(TypeTag<T>) -> Status {
    std::vector<T> v;
    for (const auto& [key, value] : entries.named) v.push_back(TRY(ToKey<T>(key)));
    for (const auto& [key, value] : entries.pairs) v.push_back(TRY(ToValue<T>(key)));
    keys = VectorOf(v);
    return {};
  });
  if (!read_keys) return Fail(read_keys.error());
  const Status read_values =
      VisitDType(port.dtype, "a map's value", [&]<class T>(TypeTag<T>) -> Status {
        std::vector<T> v;
        for (const auto& [key, value] : entries.named) v.push_back(TRY(ToValue<T>(value)));
        for (const auto& [key, value] : entries.pairs) v.push_back(TRY(ToValue<T>(value)));
        values = VectorOf(v);
        return {};
      });
  if (!read_values) return Fail(read_values.error());
  return Value::Map(std::move(keys), std::move(values));
}

namespace {

void WriteElement(const Tensor& t, int64_t i, JsonWriter& json) {
  const Status s = VisitDType(t.dtype(), "", [&]<class T>(TypeTag<T>) -> Status {
    const T& v = t.as<T>()[i];
    if constexpr (std::is_same_v<T, std::string>)
      json.String(v);
    else if constexpr (std::is_same_v<T, bool>)
      json.Bool(v);
    else if constexpr (kIsHalf<T>)
      json.Number(float(v));
    else
      json.Number(v);
    return {};
  });
  if (!s) json.Raw("null");
}

}  // namespace

void WriteMap(const Tensor& keys, const Tensor& values, JsonWriter& json) {
  const bool named = keys.dtype() == DType::kString;
  named ? json.BeginObject() : json.BeginArray();
  for (int64_t i = 0; i < keys.count(); ++i) {
    if (named) {
      json.Key(keys.as<std::string>()[i]);
      WriteElement(values, i, json);
      continue;
    }
    json.BeginArray();
    WriteElement(keys, i, json);
    WriteElement(values, i, json);
    json.End();
  }
  json.End();
}

}  // namespace dunlin::cli
