#include "cli/inputs.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>

#include "cli/files.h"
#include "cli/map_json.h"
#include "cli/npy.h"

namespace dunlin::cli {
namespace {

using Named = std::map<std::string, std::string>;  // input name → the option's value

std::string NamesOf(std::span<const PortInfo> ports) {
  std::string names;
  for (const PortInfo& p : ports) names += fmt::format("{}'{}'", names.empty() ? "" : ", ", p.name);
  return names.empty() ? "none" : names;
}

// The port that `option` begins with, the longest name winning.
const PortInfo* PortOf(std::span<const PortInfo> ports, std::string_view option) {
  const PortInfo* best = nullptr;
  for (const PortInfo& p : ports) {
    if (!option.starts_with(p.name) || option.substr(p.name.size(), 1) != "=") continue;
    if (best == nullptr || p.name.size() > best->name.size()) best = &p;
  }
  return best;
}

Result<Named> Assign(std::span<const PortInfo> ports, const std::vector<std::string>& options,
                     const char* flag) {
  Named named;
  const auto required = [](const PortInfo& p) { return !p.optional; };
  for (const std::string& option : options) {
    const PortInfo* port = PortOf(ports, option);
    std::string value;
    if (port != nullptr) {
      value = option.substr(port->name.size() + 1);
    } else if (option.find('=') == std::string::npos &&
               std::ranges::count_if(ports, required) == 1) {
      port = &*std::ranges::find_if(ports, required);
      value = option;
    } else {
      return Fail(Code::kInvalidArgument,
                  "{} {}: no input has that name; the model's inputs are {}", flag, option,
                  NamesOf(ports));
    }
    if (!named.emplace(port->name, std::move(value)).second)
      return Fail(Code::kInvalidArgument, "{} names input '{}' twice", flag, port->name);
  }
  return named;
}

const std::string* Find(const Named& named, const std::string& name) {
  const auto it = named.find(name);
  return it == named.end() ? nullptr : &it->second;
}

// SplitMix64 (Steele, Lea, Flood 2014): any 64-bit state gives a good stream, so a hash can be the
// seed.
class Random {
 public:
  Random(uint64_t seed, std::string_view name) : state_(seed) {
    for (const char c : name) state_ = (state_ ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  uint64_t Bits() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  double Unit() { return double(Bits() >> 11) * 0x1p-53; }
  int64_t Below(int64_t n) { return int64_t(Bits() % uint64_t(n)); }

 private:
  uint64_t state_;
};

bool Contains(std::string_view name, std::string_view part) {
  return std::ranges::search(name, part, {}, [](char c) {
           return char(std::tolower(static_cast<unsigned char>(c)));
         }).begin() != name.end();
}

// The value that an integer input of this name must have for a model to make sense of it.
std::optional<int64_t> ConventionalValue(std::string_view name) {
  if (Contains(name, "attention_mask") || Contains(name, "input_mask")) return 1;
  if (Contains(name, "token_type_ids") || Contains(name, "segment_ids")) return 0;
  return std::nullopt;
}

Status FillRandom(const Tensor& t, const std::string& name, const InputOptions& options) {
  Random random(options.seed, name);
  const int64_t n = t.count();
  if (IsNarrow(t.dtype())) {  // these bits are a finite value of any of them
    for (int64_t i = 0; i < t.bytes(); ++i) t.raw()[i] = std::byte(random.Bits() & 0x77);
    return {};
  }
  return VisitDType(t.dtype(), name, [&]<class T>(TypeTag<T>) -> Status {
    T* y = t.mut<T>();
    if constexpr (std::is_same_v<T, std::string>) {
      for (int64_t i = 0; i < n; ++i) y[i] = fmt::format("s{}", i);
    } else if constexpr (std::is_same_v<T, bool>) {
      for (int64_t i = 0; i < n; ++i) y[i] = random.Below(2) != 0;
    } else if constexpr (kIsFloat<T>) {
      for (int64_t i = 0; i < n; ++i) y[i] = T(float(2 * random.Unit() - 1));
    } else if (const auto value = ConventionalValue(name)) {
      std::fill_n(y, n, T(*value));
    } else if (sizeof(T) == 1 && !options.intmax) {
      for (int64_t i = 0; i < n; ++i) y[i] = T(random.Bits());
    } else {
      const int64_t most = sizeof(T) == 8 ? std::numeric_limits<int64_t>::max()
                                          : int64_t(std::numeric_limits<T>::max());
      const int64_t below = std::clamp<int64_t>(options.intmax.value_or(2), 1, most);
      for (int64_t i = 0; i < n; ++i) y[i] = T(random.Below(below));
    }
    return {};
  });
}

Status FillConstant(const Tensor& t, const std::string& name, const std::string& text) {
  if (t.dtype() == DType::kString) {
    std::fill_n(t.mut<std::string>(), t.count(), text);
    return {};
  }
  const auto refuse = [&] {
    return Fail(Code::kInvalidArgument, "--fill {}={}: '{}' is not a value of type {}", name, text,
                text, DTypeName(t.dtype()));
  };
  const char* end = text.data() + text.size();
  return VisitDType(t.dtype(), name, [&]<class T>(TypeTag<T>) -> Status {
    if constexpr (std::is_same_v<T, bool>) {
      if (text != "0" && text != "1" && text != "true" && text != "false") return refuse();
      std::fill_n(t.mut<T>(), t.count(), text == "1" || text == "true");
    } else if constexpr (kIsNumber<T>) {
      std::conditional_t<kIsHalf<T>, float, T> value{};
      const auto [at, error] = std::from_chars(text.data(), end, value);
      if (error != std::errc{} || at != end) return refuse();
      std::fill_n(t.mut<T>(), t.count(), T(value));
    }
    return {};
  });
}

// What is known of the extents of all inputs: the values of symbols seen so far.
using Symbols = std::map<std::string, int64_t>;

void Learn(const PortInfo& port, const Dims& dims, Symbols& symbols) {
  if (!port.has_shape || port.dims.size() != dims.size()) return;
  for (size_t i = 0; i < dims.size() && i < port.dim_names.size(); ++i)
    if (!IsKnown(port.dims[i]) && !port.dim_names[i].empty())
      symbols.emplace(port.dim_names[i], dims[i]);
}

Result<Dims> ChooseDims(const PortInfo& port, const InputOptions& options, const Symbols& symbols,
                        bool& chose) {
  if (!port.has_shape)
    return Fail(Code::kInvalidArgument,
                "the model does not say the rank of input '{}'; give --shape {}=…", port.name,
                port.name);
  Dims dims = port.dims;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (IsKnown(dims[i])) continue;
    const auto it = i < port.dim_names.size() ? symbols.find(port.dim_names[i]) : symbols.end();
    if (i == 0 && options.batch > 0)
      dims[i] = options.batch;
    else
      dims[i] = it != symbols.end() ? it->second : 1;
    chose = true;
  }
  return dims;
}

// One extent that is still unknown follows from the number of elements in the file.
Dims FitToCount(Dims dims, int64_t count) {
  int64_t known = 1, unknown = 0;
  size_t at = 0;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (!IsKnown(dims[i]))
      at = i, ++unknown;
    else if (dims[i] == 0 || __builtin_mul_overflow(known, dims[i], &known))
      return dims;
  }
  if (unknown == 1 && count % known == 0) dims[at] = count / known;
  return dims;
}

Status NeedType(const PortInfo& port) {
  if (port.dtype != DType::kUndefined) return {};
  return Fail(Code::kInvalidArgument,
              "the model does not say the element type of input '{}'; give it as .npy", port.name);
}

Result<Tensor> FromRaw(const PortInfo& port, const std::vector<std::byte>& bytes,
                       const std::optional<Dims>& shape) {
  TRY(NeedType(port));
  if (port.dtype == DType::kString)
    return Fail(Code::kInvalidArgument, "strings have no raw form; give them as .npy");
  const int64_t count = int64_t(bytes.size()) * 8 / DTypeBits(port.dtype);
  const Dims dims = FitToCount(shape ? *shape : port.dims, count);
  const auto want = ElementCount(dims);
  if (!want || (!shape && !port.has_shape))
    return Fail(Code::kInvalidArgument,
                "{} bytes of {} do not tell the extents of {}; give --shape", bytes.size(),
                DTypeName(port.dtype), ToString(port.dims));
  if (ByteSize(port.dtype, *want) != int64_t(bytes.size()))
    return Fail(Code::kInvalidArgument, "it has {} bytes, {} of {} needs {}", bytes.size(),
                ToString(dims), DTypeName(port.dtype), ByteSize(port.dtype, *want));
  Tensor t = TRY(Tensor::Create(port.dtype, dims));
  if (!bytes.empty()) std::memcpy(t.raw(), bytes.data(), bytes.size());
  if (port.dtype == DType::kBool)
    for (int64_t i = 0; i < t.count(); ++i) t.raw()[i] = std::byte(t.raw()[i] != std::byte{0});
  return t;
}

// bf16 and the types of 8 bits and less: NumPy files hold their values in a wider type, or their
// bits in an unsigned one.
Result<Tensor> ToTypeNumPyLacks(Tensor t, DType want) {
  if (want != DType::kBF16 && !IsNarrow(want)) return t;
  const DType have = t.dtype();
  if (IsNarrowInt(want) ? have == DType::kI8 || have == DType::kU8 : have == DType::kF32)
    return Convert(t, want);
  const bool bits =
      want == DType::kBF16 ? have == DType::kU16 : have == DType::kU8 && !IsPacked(want);
  return bits ? Tensor::Over(want, t.dims(), t.buffer(), t.offset()) : t;
}

Result<Tensor> FromBytes(const PortInfo& port, const std::string& path,
                         const std::vector<std::byte>& bytes, const std::optional<Dims>& shape,
                         const InputOptions& options) {
  if (path.ends_with(".bin") || path.ends_with(".raw")) return FromRaw(port, bytes, shape);
  if (LooksLikeImage(bytes)) {
    TRY(NeedType(port));
    const Image image = TRY(DecodeImage(bytes));
    return ImageToTensor(image, port.dtype, shape ? *shape : port.dims, options.image);
  }
  if (!path.ends_with(".npy"))
    return Fail(Code::kInvalidArgument, "it is no .npy, .bin, .raw, PNG or JPEG file");
  Tensor t = TRY(ParseNpy(bytes));
  t = TRY(ToTypeNumPyLacks(std::move(t), port.dtype));
  if (port.dtype != DType::kUndefined && t.dtype() != port.dtype)
    return Fail(Code::kInvalidArgument,
                "it holds {}, the model's input is {}; convert it in NumPy with .astype()",
                DTypeName(t.dtype()), DTypeName(port.dtype));
  if (shape && !(*shape == t.dims())) {
    if (ElementCount(*shape) != t.count())
      return Fail(Code::kInvalidArgument, "its extents {} cannot be read as --shape {}",
                  ToString(t.dims()), ToString(*shape));
    t = t.Reshaped(*shape);
  }
  return t;
}

Result<Tensor> FromFile(const PortInfo& port, const std::string& path,
                        const std::optional<Dims>& shape, const InputOptions& options) {
  const auto bytes = TRY(ReadFile(path));
  auto t = FromBytes(port, path, bytes, shape, options);
  if (!t) return FailAt(fmt::format("input '{}' from {}", port.name, path), std::move(t).error());
  return t;
}

bool IsMap(const PortInfo& port) { return port.key != DType::kUndefined && !port.sequence; }

Result<Value> MapFromFile(const PortInfo& port, const std::string* path, bool allowed) {
  if (!allowed)
    return Fail(Code::kInvalidArgument, "input '{}' is a map, which only 'dunlin run' can give",
                port.name);
  if (path == nullptr)
    return Fail(Code::kInvalidArgument, "input '{}' is a map; give it with --input {}=FILE.json",
                port.name, port.name);
  auto value = ParseMap(port, TRY(ReadFile(*path)));
  if (!value)
    return FailAt(fmt::format("input '{}' from {}", port.name, *path), std::move(value).error());
  return value;
}

}  // namespace

Result<Dims> ParseShape(std::string_view text) {
  Dims dims;
  const char* at = text.data();
  const char* end = at + text.size();
  while (at != end) {
    int64_t extent = 0;
    const auto [next, error] = std::from_chars(at, end, extent);
    const bool last = next == end;
    if (error != std::errc{} || extent < 0 || (!last && *next != ',') ||
        (!last && next + 1 == end) || dims.size() == 64)
      return Fail(Code::kInvalidArgument, "'{}' is not a shape such as 1,3,224,224", text);
    dims.push_back(extent);
    at = last ? end : next + 1;
  }
  return dims;
}

std::vector<std::string> NamedPorts(std::span<const PortInfo> ports, const InputOptions& options) {
  std::vector<std::string> names;
  for (const auto* list : {&options.files, &options.fills, &options.shapes})
    for (const std::string& option : *list)
      if (const PortInfo* port = PortOf(ports, option)) names.push_back(port->name);
  return names;
}

Result<Inputs> MakeInputs(std::span<const PortInfo> ports, const InputOptions& options) {
  const Named files = TRY(Assign(ports, options.files, "--input"));
  const Named fills = TRY(Assign(ports, options.fills, "--fill"));
  std::map<std::string, Dims> shapes;
  for (const auto& [name, text] : TRY(Assign(ports, options.shapes, "--shape"))) {
    auto dims = ParseShape(text);
    if (!dims) return FailAt(fmt::format("--shape {}", name), std::move(dims).error());
    shapes.emplace(name, *dims);
  }
  const auto shape_of = [&](const std::string& name) {
    const auto it = shapes.find(name);
    return it == shapes.end() ? std::nullopt : std::optional<Dims>(it->second);
  };

  // Files and shapes first: they fix symbols that the other inputs share.
  Symbols symbols;
  std::map<std::string, Tensor> ready;
  for (const PortInfo& port : ports) {
    if (IsMap(port)) continue;
    if (const std::string* path = Find(files, port.name)) {
      const Tensor t = TRY(FromFile(port, *path, shape_of(port.name), options));
      Learn(port, t.dims(), symbols);
      ready.emplace(port.name, t);
    } else if (const auto shape = shape_of(port.name)) {
      Learn(port, *shape, symbols);
    }
  }
  Inputs inputs;
  for (const PortInfo& port : ports) {
    if (const auto it = ready.find(port.name); it != ready.end()) {
      inputs.tensors.push_back({port.name, it->second});
      continue;
    }
    const std::string* fill = Find(fills, port.name);
    const auto shape = shape_of(port.name);
    if (port.optional && fill == nullptr && !shape) continue;
    if (IsMap(port)) {
      Value map = TRY(MapFromFile(port, Find(files, port.name), options.maps));
      inputs.maps.push_back({port.name, std::move(map)});
      continue;
    }
    if (port.sequence)
      return Fail(Code::kInvalidArgument,
                  "input '{}' is a sequence, which the command line cannot give", port.name);
    TRY(NeedType(port));
    bool chose = false;
    const Dims dims = shape ? *shape : TRY(ChooseDims(port, options, symbols, chose));
    const Tensor t = TRY(Tensor::Create(port.dtype, dims));
    TRY(fill != nullptr ? FillConstant(t, port.name, *fill) : FillRandom(t, port.name, options));
    inputs.tensors.push_back({port.name, t});
    inputs.notes.push_back(fmt::format(
        "input '{}': {} {}, {}{}", port.name, DTypeName(port.dtype), ToString(dims),
        fill != nullptr ? "filled" : "generated",
        chose ? fmt::format(" (open extents were chosen; set them with --shape {}=…)", port.name)
              : ""));
  }
  return inputs;
}

std::vector<NamedValue> AllOf(const Inputs& inputs) {
  std::vector<NamedValue> all = inputs.maps;
  for (const NamedTensor& t : inputs.tensors) all.push_back({t.name, t.tensor});
  return all;
}

}  // namespace dunlin::cli
