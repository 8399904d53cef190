// Operators on strings (ONNX): StringNormalizer, StringConcat, StringSplit; the family's
// table.
#include <locale.h>
#include <wctype.h>

#include <algorithm>
#include <set>

#include "ops/op.h"
#include "ops/text/text.h"
#include "ops/text/tfidf.h"
#include "tensor/memory.h"

namespace dunlin {
namespace {

Status NeedStrings(InferContext& ctx, int i) {
  const DType t = ctx.dtype(i);
  if (t == DType::kUndefined || t == DType::kString) return {};
  return Fail(Code::kInvalidArgument, "input {} is {}, not strings", i, DTypeName(t));
}

// ---- upper and lower case of UTF-8 ----

// One code point at s[at], whose length is put in `bytes`; -1 for a byte that is not UTF-8.
int32_t Decode(std::string_view s, size_t at, size_t& bytes) {
  const auto byte = [&](size_t i) { return i < s.size() ? uint8_t(s[i]) : uint8_t(0); };
  const uint8_t first = byte(at);
  bytes = 1;
  if (first < 0x80) return first;
  const size_t length = first >= 0xf0 && first < 0xf8   ? 4
                        : first >= 0xe0 && first < 0xf0 ? 3
                        : first >= 0xc2 && first < 0xe0 ? 2
                                                        : 0;
  if (length == 0) return -1;
  int32_t point = first & (0x7f >> length);
  for (size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80) return -1;
    point = point << 6 | (byte(at + i) & 0x3f);
  }
  bytes = length;
  return point;
}

void Encode(int32_t point, std::string& to) {
  if (point < 0x80) {
    to += char(point);
  } else if (point < 0x800) {
    to += char(0xc0 | point >> 6);
    to += char(0x80 | (point & 0x3f));
  } else if (point < 0x10000) {
    to += char(0xe0 | point >> 12);
    to += char(0x80 | (point >> 6 & 0x3f));
    to += char(0x80 | (point & 0x3f));
  } else {
    to += char(0xf0 | point >> 18);
    to += char(0x80 | (point >> 12 & 0x3f));
    to += char(0x80 | (point >> 6 & 0x3f));
    to += char(0x80 | (point & 0x3f));
  }
}

enum class Case : uint8_t { kKeep, kLower, kUpper };

std::string ToCase(const std::string& s, Case to) {
  if (to == Case::kKeep) return s;
  // The process's own locale plays no part; language-specific rules (Turkish i) are not applied.
  static const locale_t locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", nullptr);
  std::string out;
  out.reserve(s.size());
  for (size_t at = 0, bytes = 0; at < s.size(); at += bytes) {
    const int32_t point = Decode(s, at, bytes);
    if (point < 0 || (point >= 0x80 && locale == nullptr)) {
      out.append(s, at, bytes);
    } else if (locale == nullptr) {
      out += char(to == Case::kLower ? tolower(point) : toupper(point));
    } else {
      const auto wide = wint_t(point);
      Encode(int32_t(to == Case::kLower ? towlower_l(wide, locale) : towupper_l(wide, locale)),
             out);
    }
  }
  return out;
}

// Drops stop words and changes case. Input [C] or [1,C]; when nothing is left, one empty string.
struct StringNormalizer {
  struct Attrs {
    std::string case_change_action = "NONE";
    bool is_case_sensitive = false;
    std::string locale;  // accepted and not used
    std::vector<std::string> stopwords;
    template <class V>
    void Visit(V& v) {
      v("case_change_action", case_change_action);
      v("is_case_sensitive", is_case_sensitive);
      v("locale", locale);
      v("stopwords", stopwords);
    }
  };
  static Result<Case> CaseOf(const Attrs& a) {
    if (a.case_change_action == "NONE") return Case::kKeep;
    if (a.case_change_action == "LOWER") return Case::kLower;
    if (a.case_change_action == "UPPER") return Case::kUpper;
    return Fail(Code::kInvalidArgument, "case_change_action '{}' is not NONE, LOWER or UPPER",
                a.case_change_action);
  }
  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(CaseOf(a));
    TRY(NeedStrings(ctx, 0));
    Type t = Type::Unranked(DType::kString);
    if (ctx.input(0).ranked) {
      const Dims& d = ctx.input(0).dims;
      if (d.rank() < 1 || d.rank() > 2 || (d.rank() == 2 && IsKnown(d[0]) && d[0] != 1))
        return Fail(Code::kInvalidArgument, "extents {} are neither [C] nor [1,C]", ToString(d));
      t = Type::Of(DType::kString, d.rank() == 1 ? Dims{kUnknownDim} : Dims{1, kUnknownDim});
    }
    ctx.Set(0, t);
    return {};
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    const Case to = TRY(CaseOf(a)), compare = a.is_case_sensitive ? Case::kKeep : Case::kLower;
    std::set<std::string> stop;
    for (const std::string& s : a.stopwords) stop.insert(ToCase(s, compare));
    std::vector<std::string> kept;
    for (int64_t i = 0; i < x.count(); ++i) {
      const std::string& s = x.as<std::string>()[i];
      if (!stop.contains(ToCase(s, compare))) kept.push_back(ToCase(s, to));
    }
    if (kept.empty()) kept.emplace_back();
    const auto n = int64_t(kept.size());
    TensorView& y = *TRY(ctx.Allocate(0, DType::kString, x.rank() == 1 ? Dims{n} : Dims{1, n}));
    std::move(kept.begin(), kept.end(), y.mut<std::string>());
    return {};
  }
};

struct StringConcat {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(NeedStrings(ctx, 0));
    TRY(NeedStrings(ctx, 1));
    const Type &a = ctx.input(0), &b = ctx.input(1);
    if (!a.ranked || !b.ranked) {
      ctx.Set(0, Type::Unranked(DType::kString));
      return {};
    }
    const auto dims = Broadcast(a.dims, b.dims);
    if (!dims)
      return Fail(Code::kInvalidArgument, "extents {} and {} do not broadcast", ToString(a.dims),
                  ToString(b.dims));
    ctx.Set(0, Type::Of(DType::kString, *dims));
    return {};
  }
  // The element of `v` that stands for element `at` of extents `dims`.
  static const std::string& Element(const TensorView& v, const Dims& dims, int64_t at) {
    int64_t index = 0, stride = 1;
    for (int i = dims.rank() - 1, j = v.rank() - 1; i >= 0; --i, --j) {
      const int64_t position = at % dims[size_t(i)];
      at /= dims[size_t(i)];
      if (j < 0) continue;
      if (v.dims[size_t(j)] != 1) index += position * stride;
      stride *= v.dims[size_t(j)];
    }
    return v.as<std::string>()[index];
  }
  static Status Reference(const Attrs&, RunContext& ctx) {
    TensorView& y = ctx.out(0);
    const int64_t n = y.count();
    size_t bytes = 0;  // a loop can double a string until memory is gone
    for (int64_t i = 0; i < n; ++i)
      bytes += Element(ctx.in(0), y.dims, i).size() + Element(ctx.in(1), y.dims, i).size();
    TRY(CheckMemory(bytes));
    for (int64_t i = 0; i < n; ++i)
      y.mut<std::string>()[i] = Element(ctx.in(0), y.dims, i) + Element(ctx.in(1), y.dims, i);
    return {};
  }
};

// Splits every string; pieces along a new last extent, filled up with empty strings, and their
// number.
struct StringSplit {
  struct Attrs {
    std::string delimiter;  // empty: runs of white space
    std::optional<int64_t> maxsplit;
    template <class V>
    void Visit(V& v) {
      v("delimiter", delimiter);
      v("maxsplit", maxsplit);
    }
  };
  static Status Infer(const Attrs&, InferContext& ctx) {
    TRY(NeedStrings(ctx, 0));
    Type t = ctx.input(0);
    t.dtype = DType::kI64;
    if (ctx.output_count() > 1) ctx.Set(1, t);
    t.dtype = DType::kString;
    if (t.ranked) t.dims.push_back(kUnknownDim);
    ctx.Set(0, t);
    return {};
  }
  static std::vector<std::string> Split(const Attrs& a, std::string_view s) {
    constexpr std::string_view kSpace = " \t\n\v\f\r";
    std::vector<std::string> pieces;
    const bool spaces = a.delimiter.empty();
    const auto skip = [&] { s.remove_prefix(std::min(s.find_first_not_of(kSpace), s.size())); };
    if (spaces) skip();
    if (spaces && s.empty()) return pieces;
    while (!a.maxsplit || int64_t(pieces.size()) < *a.maxsplit) {
      const size_t end = spaces ? s.find_first_of(kSpace) : s.find(a.delimiter);
      if (end == s.npos) break;
      pieces.emplace_back(s.substr(0, end));
      s.remove_prefix(end + (spaces ? 0 : a.delimiter.size()));
      if (spaces) skip();
    }
    if (!spaces || !s.empty()) pieces.emplace_back(s);
    return pieces;
  }
  static Status Reference(const Attrs& a, RunContext& ctx) {
    const TensorView& x = ctx.in(0);
    std::vector<std::vector<std::string>> pieces;
    size_t most = 0;
    for (int64_t i = 0; i < x.count(); ++i) {
      pieces.push_back(Split(a, x.as<std::string>()[i]));
      most = std::max(most, pieces.back().size());
    }
    Dims dims = x.dims;
    dims.push_back(int64_t(most));
    TensorView& y = *TRY(ctx.Allocate(0, DType::kString, dims));
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (ctx.output_count() > 1 && ctx.wants(1))
        ctx.out(1).mut<int64_t>()[i] = int64_t(pieces[i].size());
      std::move(pieces[i].begin(), pieces[i].end(), y.mut<std::string>() + i * most);
    }
    return {};
  }
};

}  // namespace

std::span<const OpDef> TextOps() {
  static const OpDef ops[] = {
      Declare<StringNormalizer>("StringNormalizer", {}),
      Declare<StringConcat>("StringConcat", {.min_inputs = 2, .max_inputs = 2}),
      Declare<StringSplit>("StringSplit", {.max_outputs = 2}),
      Declare<TfIdfVectorizer>("TfIdfVectorizer", {}),
      RegexFullMatchOp(),
  };
  return ops;
}

}  // namespace dunlin
