// Readable form of graphs and attributes.
#include <fmt/format.h>

#include "ir/graph.h"

namespace dunlin {
namespace {

std::string Quoted(std::string_view s) {
  std::string r = "\"";
  for (const char c : s) {
    if (c == '"' || c == '\\') r += '\\';
    if (static_cast<unsigned char>(c) < 0x20)
      r += fmt::format("\\x{:02x}", c);
    else
      r += c;
  }
  return r + '"';
}

class Printer : public AttrVisitor {
 public:
  explicit Printer(bool full) : full_(full) {}
  std::string text;
  void operator()(std::string_view n, int64_t& v) override { Add(n, std::to_string(v)); }
  void operator()(std::string_view n, float& v) override { Add(n, fmt::format("{}", v)); }
  void operator()(std::string_view n, bool& v) override { Add(n, v ? "true" : "false"); }
  void operator()(std::string_view n, std::string& v) override { Add(n, Quoted(v)); }
  void operator()(std::string_view n, DType& v) override { Add(n, DTypeName(v)); }
  void operator()(std::string_view n, std::vector<int64_t>& v) override {
    Add(n, fmt::format("[{}]", fmt::join(v, ",")));
  }
  void operator()(std::string_view n, std::vector<float>& v) override {
    Add(n, fmt::format("[{}]", fmt::join(v, ",")));
  }
  void operator()(std::string_view n, std::vector<std::string>& v) override {
    std::string s = "[";
    for (const auto& x : v) s += Quoted(x) + ',';
    Add(n, s + ']');
  }
  void operator()(std::string_view n, std::optional<int64_t>& v) override {
    if (v) Add(n, std::to_string(*v));
  }
  void operator()(std::string_view n, std::optional<float>& v) override {
    if (v) Add(n, fmt::format("{}", *v));
  }
  void operator()(std::string_view n, Tensor& t) override {
    if (!t.defined()) return;
    std::string s = fmt::format("{}{}", DTypeName(t.dtype()), ToString(t.dims()));
    if (full_) {
      if (t.dtype() == DType::kString)
        for (const auto& x : t.values<std::string>()) s += Quoted(x);
      else
        s += std::string(reinterpret_cast<const char*>(t.raw()), size_t(t.bytes()));
    }
    Add(n, s);
  }

 private:
  void Add(std::string_view name, std::string_view value) {
    if (!text.empty()) text += ' ';
    text += fmt::format("{}={}", name, value);
  }
  bool full_;
};

std::string Print(const Attrs& a, bool full) {
  Printer p(full);
  // Visitors may write; the printer does not, so reading through the mutable interface is sound.
  const_cast<Attrs&>(a).Visit(p);
  return p.text;
}

std::string TypeText(const Graph& g, const Type& t) {
  std::string s(DTypeName(t.dtype));
  if (!t.ranked) {
    s += "[*]";
  } else {
    s += '[';
    for (size_t i = 0; i < t.dims.size(); ++i) {
      if (i) s += ',';
      const int64_t d = t.dims[i];
      if (IsKnown(d))
        s += std::to_string(d);
      else if (IsSymbol(d) && SymbolIndex(d) < int(g.symbols().names.size()))
        s += g.symbols().names[size_t(SymbolIndex(d))];
      else
        s += '?';
    }
    s += ']';
  }
  return ToString(t, std::move(s));
}

void Write(const Graph& g, int indent, std::string& out) {
  const std::string pad(size_t(indent), ' ');
  const auto name = [&](ValueId v) {
    return v == ValueId::kNone ? std::string("_") : "%" + g.value(v).name;
  };
  for (const ValueId v : g.inputs())
    out += fmt::format("{}input {} : {}\n", pad, name(v), TypeText(g, g.value(v).type));
  std::vector<bool> shown(g.value_count(), false);
  for (const NodeId id : g.SoundOrder()) {
    const Node& n = g.node(id);
    for (const ValueId v : n.inputs) {
      if (v == ValueId::kNone || !g.value(v).is_constant() || shown[size_t(v)]) continue;
      shown[size_t(v)] = true;
      const Tensor& t = g.value(v).constant;
      std::string values;
      if (t.count() <= 8 && t.dtype() != DType::kString) {
        if (auto ints = ToInts(t))
          values = fmt::format(" = {}", fmt::join(*ints, " "));
        else if (auto f = Convert(t, DType::kF32))
          values = fmt::format(" = {}", fmt::join(f->values<float>(), " "));
      }
      out += fmt::format("{}const {} : {}{}\n", pad, name(v), TypeText(g, g.value(v).type), values);
    }
    std::string outs, ins, types;
    for (const ValueId v : n.outputs) {
      outs += (outs.empty() ? "" : ", ") + name(v);
      types += (types.empty() ? "" : ", ") +
               (v == ValueId::kNone ? std::string("_") : TypeText(g, g.value(v).type));
    }
    for (const ValueId v : n.inputs) ins += (ins.empty() ? "" : ", ") + name(v);
    const std::string attrs = ToString(*n.attrs);
    const std::string domain = n.op->domain.empty() ? "" : std::string(n.op->domain) + ".";
    out += fmt::format("{}{} = {}{}({}){}{} : {}\n", pad, outs, domain, n.op->name, ins,
                       attrs.empty() ? "" : " {" + attrs, attrs.empty() ? "" : "}", types);
    for (const auto& s : n.subgraphs) {
      out += pad + "  {\n";
      Write(*s, indent + 4, out);
      out += pad + "  }\n";
    }
  }
  for (const ValueId v : g.outputs())
    out += fmt::format("{}output {} : {}\n", pad, name(v), TypeText(g, g.value(v).type));
}

}  // namespace

std::string ToString(const Attrs& attrs) { return Print(attrs, false); }
std::string Fingerprint(const Attrs& attrs) { return Print(attrs, true); }

std::string Graph::ToText() const {
  std::string out;
  Write(*this, 0, out);
  return out;
}

}  // namespace dunlin
