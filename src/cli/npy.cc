#include "cli/npy.h"

#include <algorithm>
#include <bit>
#include <cctype>
#include <cstring>
#include <optional>
#include <string_view>

#include "cli/files.h"
#include "cli/utf8.h"

namespace dunlin::cli {
namespace {

constexpr std::string_view kMagic = "\x93NUMPY";
// NumPy itself writes at most a few hundred bytes for a plain array; 64 KiB is room for any rank.
constexpr size_t kMaxHeader = 1 << 16;
// NumPy's own limit is 32; 64 is its limit since version 2.
constexpr size_t kMaxRank = 64;

struct Header {
  std::string descr;
  bool fortran = false;
  Dims dims;
};

// Reads the literal of a Python dict that NumPy writes; no more of Python than that.
class HeaderParser {
 public:
  explicit HeaderParser(std::string_view text) : text_(text) {}

  Result<Header> Parse() {
    Header header;
    bool has_descr = false, has_order = false, has_shape = false;
    TRY(Expect('{'));
    while (!Eat('}')) {
      const std::string key = TRY(String());
      TRY(Expect(':'));
      if (key == "descr") {
        header.descr = TRY(Descr());
        has_descr = true;
      } else if (key == "fortran_order") {
        header.fortran = TRY(Bool());
        has_order = true;
      } else if (key == "shape") {
        header.dims = TRY(Shape());
        has_shape = true;
      } else {
        return Fail(Code::kInvalidArgument, "its header has an unknown key '{}'",
                    key.substr(0, 40));
      }
      if (!Eat(',')) {
        TRY(Expect('}'));
        break;
      }
    }
    SkipSpace();
    if (at_ != text_.size()) return Fail(Code::kInvalidArgument, "text follows the header's dict");
    if (!has_descr || !has_order || !has_shape)
      return Fail(Code::kInvalidArgument, "its header lacks descr, fortran_order or shape");
    return header;
  }

 private:
  void SkipSpace() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  bool Eat(char c) {
    SkipSpace();
    if (at_ >= text_.size() || text_[at_] != c) return false;
    ++at_;
    return true;
  }
  Status Expect(char c) {
    if (Eat(c)) return {};
    return Fail(Code::kInvalidArgument, "its header should have '{}' at byte {}", c, at_);
  }
  Result<std::string> String() {
    SkipSpace();
    const char quote = at_ < text_.size() ? text_[at_] : '\0';
    const size_t end =
        quote == '\'' || quote == '"' ? text_.find(quote, at_ + 1) : std::string_view::npos;
    if (end == std::string_view::npos)
      return Fail(Code::kInvalidArgument, "its header should have a quoted string at byte {}", at_);
    std::string s(text_.substr(at_ + 1, end - at_ - 1));
    at_ = end + 1;
    return s;
  }
  Result<std::string> Descr() {
    SkipSpace();
    if (at_ < text_.size() && text_[at_] == '[')
      return Fail(Code::kInvalidArgument, "it holds records; only plain arrays are read");
    return String();
  }
  Result<bool> Bool() {
    SkipSpace();
    for (const auto& [word, value] :
         {std::pair{std::string_view("True"), true}, {"False", false}}) {
      if (text_.substr(at_, word.size()) != word) continue;
      at_ += word.size();
      return value;
    }
    return Fail(Code::kInvalidArgument, "its header's fortran_order is neither True nor False");
  }
  Result<Dims> Shape() {
    Dims dims;
    TRY(Expect('('));
    while (!Eat(')')) {
      if (dims.size() == kMaxRank)
        return Fail(Code::kInvalidArgument, "it has more than {} dimensions", kMaxRank);
      dims.push_back(TRY(Extent()));
      if (!Eat(',')) {
        TRY(Expect(')'));
        break;
      }
    }
    return dims;
  }
  Result<int64_t> Extent() {
    SkipSpace();
    int64_t value = 0;
    const size_t begin = at_;
    for (; at_ < text_.size() && std::isdigit(static_cast<unsigned char>(text_[at_])); ++at_) {
      if (__builtin_mul_overflow(value, 10, &value) ||
          __builtin_add_overflow(value, text_[at_] - '0', &value))
        return Fail(Code::kInvalidArgument, "an extent of its shape is too large");
    }
    if (at_ == begin)
      return Fail(Code::kInvalidArgument, "its header should have an extent at byte {}", at_);
    if (at_ < text_.size() && text_[at_] == 'L') ++at_;  // written by Python 2
    return value;
  }

  std::string_view text_;
  size_t at_ = 0;
};

// An element of the file: how wide, of what kind, and whether its bytes are to be swapped.
struct Element {
  char kind = 0;      // NumPy's letter: b i u f S U
  int64_t bytes = 0;  // of one element in the file
  bool swap = false;
  DType dtype = DType::kUndefined;
};

struct PlainType {
  std::string_view code;
  DType dtype;
};
constexpr PlainType kPlainTypes[] = {
    {"b1", DType::kBool}, {"i1", DType::kI8},  {"i2", DType::kI16}, {"i4", DType::kI32},
    {"i8", DType::kI64},  {"u1", DType::kU8},  {"u2", DType::kU16}, {"u4", DType::kU32},
    {"u8", DType::kU64},  {"f2", DType::kF16}, {"f4", DType::kF32}, {"f8", DType::kF64},
    {"V1", DType::kU8},   {"V2", DType::kU16}, {"f1", DType::kU8},  // of other packages: their bits
};

Result<Element> ParseDescr(std::string_view descr) {
  const auto refuse = [&] {
    return Fail(Code::kInvalidArgument,
                "its element type '{}' cannot be read; convert it in NumPy with .astype()",
                descr.substr(0, 40));
  };
  if (descr.size() < 2) return refuse();
  Element e;
  std::string_view code = descr;
  if (std::string_view("<>|=").find(descr[0]) != std::string_view::npos) {
    e.swap = descr[0] == '>';
    code.remove_prefix(1);
  }
  if (code.empty()) return refuse();
  e.kind = code[0];
  for (const PlainType& t : kPlainTypes) {
    if (t.code != code) continue;
    e.dtype = t.dtype;
    e.bytes = DTypeBits(t.dtype) / 8;
    return e;
  }
  if (e.kind != 'S' && e.kind != 'U') return refuse();
  int64_t length = 0;
  if (code.size() < 2 || code.size() > 10) return refuse();
  for (const char c : code.substr(1)) {
    if (c < '0' || c > '9') return refuse();
    length = length * 10 + (c - '0');
  }
  e.bytes = e.kind == 'U' ? length * 4 : length;
  e.dtype = DType::kString;
  return e;
}

std::string DecodeString(const std::byte* from, const Element& e) {
  if (e.kind == 'S') {
    std::string s(reinterpret_cast<const char*>(from), size_t(e.bytes));
    while (!s.empty() && s.back() == '\0') s.pop_back();
    return s;
  }
  std::u32string points(size_t(e.bytes / 4), U'\0');
  if (!points.empty()) std::memcpy(points.data(), from, size_t(e.bytes));
  if (e.swap)
    for (char32_t& p : points) p = __builtin_bswap32(p);
  while (!points.empty() && points.back() == U'\0') points.pop_back();
  return ToUtf8(points);
}

// One element from the file's form to the tensor's.
void Decode(const std::byte* from, const Element& e, const Tensor& to, int64_t index) {
  if (e.dtype == DType::kString) {
    to.mut<std::string>()[index] = DecodeString(from, e);
    return;
  }
  std::byte* out = to.raw() + index * e.bytes;
  if (e.swap)
    std::reverse_copy(from, from + e.bytes, out);
  else
    std::copy_n(from, e.bytes, out);
  // A bool of another value than 0 and 1 is undefined in C++; NumPy reads it as true.
  if (e.dtype == DType::kBool) *out = std::byte(*out != std::byte{0});
}

std::string ShapeLiteral(const Dims& dims) {
  std::string s = "(";
  for (size_t i = 0; i < dims.size(); ++i) s += fmt::format("{}{}", i ? ", " : "", dims[i]);
  if (dims.size() == 1) s += ',';
  return s + ')';
}

// The version 1 or 2 preamble, padded so that the data starts at a multiple of 64 as NumPy does.
std::string Preamble(const std::string& descr, const Dims& dims) {
  std::string dict = fmt::format("{{'descr': '{}', 'fortran_order': False, 'shape': {}, }}", descr,
                                 ShapeLiteral(dims));
  const bool long_header = dict.size() + 128 > 0xffff;
  const size_t prefix = kMagic.size() + 2 + (long_header ? 4 : 2);
  const size_t total = (prefix + dict.size() + 1 + 63) / 64 * 64;
  dict.append(total - prefix - dict.size() - 1, ' ');
  dict += '\n';
  std::string out(kMagic);
  out += long_header ? '\2' : '\1';
  out += '\0';
  for (size_t i = 0; i < (long_header ? 4u : 2u); ++i) out += char(dict.size() >> (8 * i) & 0xff);
  return out + dict;
}

std::vector<std::byte> Joined(const std::string& preamble, size_t data_bytes) {
  std::vector<std::byte> out(preamble.size() + data_bytes);
  std::memcpy(out.data(), preamble.data(), preamble.size());
  return out;
}

Result<std::vector<std::byte>> FormatStrings(const Tensor& tensor) {
  size_t longest = 1;  // NumPy has no empty 'U' type
  std::vector<std::u32string> points;
  for (const std::string& s : tensor.values<std::string>()) {
    points.push_back(FromUtf8(s));
    longest = std::max(longest, points.back().size());
  }
  const std::string preamble = Preamble(fmt::format("<U{}", longest), tensor.dims());
  std::vector<std::byte> out = Joined(preamble, points.size() * longest * 4);
  std::byte* to = out.data() + preamble.size();
  for (const std::u32string& p : points) {
    if (!p.empty()) std::memcpy(to, p.data(), p.size() * 4);
    to += longest * 4;
  }
  return out;
}

// The type NumPy has that holds all values of one it has not.
std::optional<DType> WiderType(DType t) {
  if (t == DType::kI4 || t == DType::kI2) return DType::kI8;
  if (t == DType::kU4 || t == DType::kU2) return DType::kU8;
  if (t == DType::kBF16 || IsNarrow(t)) return DType::kF32;
  return std::nullopt;
}

}  // namespace

Result<Tensor> ParseNpy(std::span<const std::byte> bytes) {
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  if (!text.starts_with(kMagic) || text.size() < kMagic.size() + 2)
    return Fail(Code::kInvalidArgument, "it is not a .npy file");
  const int version = text[kMagic.size()];
  if (version < 1 || version > 3)
    return Fail(Code::kInvalidArgument, "its .npy format version {} is not 1, 2 or 3", version);
  const size_t width = version == 1 ? 2 : 4;
  const size_t prefix = kMagic.size() + 2 + width;
  if (text.size() < prefix) return Fail(Code::kInvalidArgument, "its header is cut short");
  size_t header_bytes = 0;
  for (size_t i = 0; i < width; ++i)
    header_bytes |= size_t(uint8_t(text[kMagic.size() + 2 + i])) << (8 * i);
  if (header_bytes > kMaxHeader)
    return Fail(Code::kInvalidArgument, "its header claims {} bytes, more than any array needs",
                header_bytes);
  if (header_bytes > text.size() - prefix)
    return Fail(Code::kInvalidArgument, "its header is cut short");

  const Header header = TRY(HeaderParser(text.substr(prefix, header_bytes)).Parse());
  const Element element = TRY(ParseDescr(header.descr));
  const auto count = ElementCount(header.dims);
  const size_t have = bytes.size() - prefix - header_bytes;
  int64_t need = 0;
  if (!count || __builtin_mul_overflow(*count, element.bytes, &need) || size_t(need) != have)
    return Fail(Code::kInvalidArgument,
                "shape {} of '{}' does not match the {} bytes of data that follow",
                ToString(header.dims), header.descr, have);
  // Elements of no bytes ('S0') would let a few bytes claim any number of strings.
  if (element.bytes == 0 && *count > 0)
    return Fail(Code::kInvalidArgument, "its element type '{}' has no bytes", header.descr);

  const Tensor out = TRY(Tensor::Create(element.dtype, header.dims));
  const std::byte* data = bytes.data() + prefix + header_bytes;
  const int64_t n = *count;
  const bool verbatim =
      !element.swap && element.dtype != DType::kString && element.dtype != DType::kBool;
  if (n == 0) return out;
  if (verbatim && !header.fortran) {
    std::memcpy(out.raw(), data, have);
    return out;
  }
  if (!header.fortran || header.dims.size() < 2) {
    for (int64_t i = 0; i < n; ++i) Decode(data + i * element.bytes, element, out, i);
    return out;
  }
  // Walk the file in its order, first index fastest, and keep the row-major position beside it.
  const size_t rank = header.dims.size();
  Dims strides(rank, 1), index(rank, 0);
  for (size_t i = rank - 1; i-- > 0;) strides[i] = strides[i + 1] * header.dims[i + 1];
  int64_t to = 0;
  for (int64_t i = 0; i < n; ++i) {
    Decode(data + i * element.bytes, element, out, to);
    for (size_t d = 0; d < rank; ++d) {
      to += strides[d];
      if (++index[d] < header.dims[d]) break;
      to -= strides[d] * header.dims[d];
      index[d] = 0;
    }
  }
  return out;
}

Result<Tensor> ReadNpy(const std::string& path) {
  const auto bytes = TRY(ReadFile(path));
  auto tensor = ParseNpy(bytes);
  if (!tensor) return FailAt(path, std::move(tensor).error());
  return tensor;
}

Result<std::vector<std::byte>> FormatNpy(const Tensor& tensor) {
  if (tensor.dtype() == DType::kString) return FormatStrings(tensor);
  if (const auto wider = WiderType(tensor.dtype())) return FormatNpy(TRY(Convert(tensor, *wider)));
  for (const PlainType& t : kPlainTypes) {
    if (t.dtype != tensor.dtype()) continue;
    const char* order = DTypeBits(t.dtype) == 8 ? "|" : "<";
    const std::string preamble = Preamble(fmt::format("{}{}", order, t.code), tensor.dims());
    std::vector<std::byte> out = Joined(preamble, size_t(tensor.bytes()));
    if (tensor.bytes() > 0)
      std::memcpy(out.data() + preamble.size(), tensor.raw(), size_t(tensor.bytes()));
    return out;
  }
  return Fail(Code::kUnimplemented, "element type {} has no form in .npy files",
              DTypeName(tensor.dtype()));
}

Status WriteNpy(const std::string& path, const Tensor& tensor) {
  const auto bytes = FormatNpy(tensor);
  if (!bytes) return FailAt(path, bytes.error());
  return WriteFile(path, *bytes);
}

}  // namespace dunlin::cli
