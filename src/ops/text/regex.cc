// RegexFullMatch: whether a whole string matches a pattern of RE2's syntax, which takes linear time
// and bounded memory whatever the pattern.
#include <re2/re2.h>

#include "ops/text/text.h"

namespace dunlin {
namespace {

struct RegexFullMatch {
  struct Attrs {
    std::string pattern;
    template <class V>
    void Visit(V& v) {
      v("pattern", pattern);
    }
  };

  static Result<std::unique_ptr<RE2>> Compile(const std::string& pattern) {
    auto re = std::make_unique<RE2>(pattern, RE2::Quiet);
    if (!re->ok())
      return Fail(Code::kInvalidArgument, "the pattern '{}' is no regular expression: {}", pattern,
                  re->error());
    return re;
  }

  static Status Infer(const Attrs& a, InferContext& ctx) {
    TRY(Compile(a.pattern));
    const Type& x = ctx.input(0);
    if (x.dtype != DType::kString && x.dtype != DType::kUndefined)
      return Fail(Code::kInvalidArgument, "the input is {}, not strings", DTypeName(x.dtype));
    ctx.Set(0, x.ranked ? Type::Of(DType::kBool, x.dims) : Type::Unranked(DType::kBool));
    return {};
  }

  static Status Reference(const Attrs& a, RunContext& ctx) {
    const auto re = TRY(Compile(a.pattern));
    const auto* x = ctx.in(0).as<std::string>();
    bool* y = ctx.out(0).mut<bool>();
    for (int64_t i = 0; i < ctx.in(0).count(); ++i) y[i] = RE2::FullMatch(x[i], *re);
    return {};
  }
};

}  // namespace

OpDef RegexFullMatchOp() { return Declare<RegexFullMatch>("RegexFullMatch", {}); }

}  // namespace dunlin
