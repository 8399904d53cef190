#include "passes/ragged_roles.h"

namespace dunlin {
namespace {

// Axes in order, neighbouring plain ones as their product; plain extents of 1 say nothing.
struct Group {
  AxisRole role = AxisRole::kPlain;
  int64_t extent = 1;  // of plain ones
  bool operator==(const Group&) const = default;
};

using Groups = std::vector<Group>;

Groups GroupsOf(const std::vector<AxisRole>& axes, const Dims& dims) {
  Groups groups;
  for (size_t i = 0; i < axes.size(); ++i) {
    if (axes[i] != AxisRole::kPlain)
      groups.push_back({axes[i], 1});
    else if (!groups.empty() && groups.back().role == AxisRole::kPlain)
      groups.back().extent *= dims[i];
    else if (dims[i] != 1)
      groups.push_back({AxisRole::kPlain, dims[i]});
  }
  return groups;
}

// With batch and tokens that are neighbours as one extent.
Groups Merged(const Groups& groups) {
  Groups merged;
  for (const Group& g : groups)
    if (g.role == AxisRole::kTokens && !merged.empty() && merged.back().role == AxisRole::kBatch)
      merged.back() = g;
    else
      merged.push_back(g);
  return merged;
}

int64_t PlainCount(const std::vector<AxisRole>& axes, const Dims& dims) {
  int64_t n = 1;
  for (size_t i = 0; i < axes.size(); ++i)
    if (axes[i] == AxisRole::kPlain) n *= dims[i];
  return n;
}

bool PlainAreKnown(const Role& r) {
  for (size_t i = 0; i < r.axes.size(); ++i)
    if (r.axes[i] == AxisRole::kPlain && !IsKnown(r.dims[i])) return false;
  return true;
}

}  // namespace

Result<Role> Combine(const std::vector<Role>& parts) {
  Role out{Role::Kind::kPacked, {}, {}};
  size_t rank = 0;
  for (const Role& p : parts) rank = std::max(rank, p.axes.size());
  out.axes.assign(rank, AxisRole::kPlain);
  out.dims = Dims(rank, 1);
  for (const Role& p : parts) {
    if (p.kind == Role::Kind::kExtents)
      return Fail(Code::kUnimplemented, "computes with the number of tokens");
    for (size_t i = 0; i < p.axes.size(); ++i) {
      const size_t at = rank - p.axes.size() + i;
      if (p.axes[i] == AxisRole::kPlain && p.dims[i] == 1) continue;
      const bool free = out.axes[at] == AxisRole::kPlain && out.dims[at] == 1;
      if (!free && out.axes[at] != p.axes[i])
        return Fail(Code::kUnimplemented, "brings together axes that packing keeps apart");
      out.axes[at] = p.axes[i];
      if (free || !IsKnown(out.dims[at])) out.dims[at] = p.dims[i];
    }
  }
  if (out.count(AxisRole::kBatch) > 1) return Fail(Code::kUnimplemented, "pairs sequences");
  return out;
}

Status CheckLevels(const std::vector<Role>& parts) {
  const auto any = [&](auto is) { return std::any_of(parts.begin(), parts.end(), is); };
  if (any([](const Role& r) { return r.has_tokens(); }) &&
      any([](const Role& r) { return r.per_segment(); }))
    return Fail(Code::kUnimplemented, "brings together a value of a sequence and its tokens");
  return {};
}

Result<Role> Regroup(const Role& from, const Dims& to, int64_t batch, int64_t tokens) {
  const auto refuse = [] {
    return Fail(Code::kUnimplemented, "merges or cuts the batch or the tokens");
  };
  if (!PlainAreKnown(from)) return refuse();
  Role out{Role::Kind::kPacked, {}, to};
  size_t unknown = to.size();
  for (size_t i = 0; i < to.size(); ++i) {
    out.axes.push_back(to[i] == batch    ? AxisRole::kBatch
                       : to[i] == tokens ? AxisRole::kTokens
                                         : AxisRole::kPlain);
    if (IsKnown(to[i]) || out.axes.back() != AxisRole::kPlain) continue;
    if (unknown != to.size()) return refuse();
    unknown = i;
  }
  const Groups whole = GroupsOf(from.axes, from.dims), merged = Merged(whole);
  const auto fits = [&] {
    const Groups groups = GroupsOf(out.axes, out.dims);
    return groups == whole || groups == merged || Merged(groups) == whole;
  };
  if (unknown == to.size()) {
    if (fits()) return out;
    return refuse();
  }
  // What nobody knows is what the others leave: the batch, the tokens, both in one, or plain.
  for (const AxisRole role : {AxisRole::kBatch, AxisRole::kTokens}) {
    out.axes[unknown] = role;
    if (fits()) return out;
  }
  out.axes[unknown] = AxisRole::kPlain;
  out.dims[unknown] = 1;
  const int64_t rest = PlainCount(out.axes, out.dims);
  out.dims[unknown] = rest == 0 ? 0 : PlainCount(from.axes, from.dims) / rest;
  if (fits()) return out;
  return refuse();
}

}  // namespace dunlin
