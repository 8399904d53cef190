#include "runtime/parts.h"

#include <algorithm>
#include <optional>
#include <unordered_map>

namespace dunlin {
namespace {

class Placer {
 public:
  Placer(Plan& plan, std::span<int> kept)
      : plan_(plan), kept_(kept), contiguous_(plan.slots.size()), has_parts_(plan.slots.size()) {
    for (size_t s = 0; s < plan.slots.size(); ++s) members(int(s)).push_back(int(s));
    for (const Step& step : plan.steps) {
      for (size_t i = 0; i < step.inputs.size(); ++i)
        Use(step.inputs[i], step.kernel && step.kernel->reads_strided(int(i)));
      for (size_t o = 0; o < step.outputs.size(); ++o)
        Use(step.outputs[o], step.kernel && step.kernel->writes_strided(int(o)));
      for (const int s : step.captures) Use(s, false);
    }
  }

  void Run() {
    // From the last step on: a part of a part then goes straight to where that lies.
    std::vector<bool> idle(plan_.steps.size());
    for (size_t i = plan_.steps.size(); i-- > 0;) idle[i] = PlaceStep(plan_.steps[i]);
    size_t at = 0;
    std::erase_if(plan_.steps, [&](const Step&) { return idle[at++]; });
    for (size_t i = 0; i < plan_.steps.size(); ++i)
      for (const int s : plan_.steps[i].outputs)
        if (s >= 0 && Overwrites(i, s)) Separate(s);
  }

 private:
  Slot& slot(int s) { return plan_.slots[size_t(s)]; }
  // The slots whose root is that of s.
  std::vector<int>& members(int s) { return members_[slot(s).root]; }
  void Use(int s, bool strided) {
    if (s >= 0 && !strided) contiguous_[size_t(s)] = true;
  }

  // Where a part lies: in the memory of a root slot, from an offset of bytes on.
  struct Place {
    int root = -1;
    int64_t offset = 0, stride = 0;
    bool operator==(const Place&) const = default;
  };
  Place PlaceOf(int s) { return {slot(s).root, slot(s).part_offset, slot(s).pixel_stride}; }
  int64_t BytesTo(const PartMove& m, int whole) {
    return m.offset * DTypeBits(slot(whole).type.dtype) / 8;
  }
  // Where the part of that move is when the whole lies where it does.
  std::optional<Place> PartPlace(const PartMove& m, int whole) {
    Place p = PlaceOf(whole);
    if (m.pixel_stride == 0 && p.stride != 0) return std::nullopt;
    if (p.stride == 0) p.stride = m.pixel_stride;
    p.offset += BytesTo(m, whole);
    return p;
  }

  // Whether the step has nothing left to do.
  bool PlaceStep(const Step& step) {
    if (!step.kernel || step.kernel->moves().empty()) return false;
    if (GatherWhole(step)) return true;
    bool all = true;
    for (const PartMove& m : step.kernel->moves()) {
      const int in = m.input < 0 ? -1 : step.inputs[size_t(m.input)];
      const int out = step.outputs[size_t(m.output)];
      if (in < 0 || m.offset == PartMove::kNoPart) {
        all = false;
        continue;
      }
      const int part = m.whole_is_output ? in : out, whole = m.whole_is_output ? out : in;
      const auto place = PartPlace(m, whole);
      if (!place || !Move(part, *place))
        all = false;
      else if (!m.whole_is_output)
        slot(part).parent = whole;
    }
    return all;
  }

  // Whether the parts lie side by side already, inside something larger: then so does the whole.
  bool GatherWhole(const Step& step) {
    std::optional<Place> at;
    for (const PartMove& m : step.kernel->moves()) {
      if (!m.whole_is_output || m.input < 0 || m.offset == PartMove::kNoPart) return false;
      const int part = step.inputs[size_t(m.input)];
      Place p = PlaceOf(part);
      if (!slot(part).part || (p.stride == 0) != (m.pixel_stride == 0)) return false;
      p.offset -= BytesTo(m, part);
      if (at && p != *at) return false;
      at = p;
    }
    return Move(step.outputs[0], *at);
  }

  // Moves slot `part`, and what shares its memory, to that place. False where some step needs it
  // elsewhere.
  bool Move(int part, const Place& to) {
    if (PlaceOf(part) == to) return true;
    const int root = slot(part).root;
    if (root == to.root || slot(root).kind != Slot::Kind::kArena ||
        slot(to.root).kind != Slot::Kind::kArena || kept_[size_t(root)] > 0 ||
        has_parts_[size_t(root)])
      return false;
    std::vector<int> moved, overwriting;
    for (const int s : members(part)) {
      if (slot(s).in_place && !IsUnder(part, s)) {
        overwriting.push_back(s);
      } else if (std::ranges::none_of(overwriting, [&](int o) { return IsUnder(s, o); })) {
        const bool same =
            slot(s).layout == slot(part).layout && slot(s).type.dims == slot(part).type.dims;
        if (to.stride != 0 && (!same || contiguous_[size_t(s)])) return false;
        moved.push_back(s);
      }
    }
    // A result written over the part later might destroy what others still read of the whole.
    for (const int s : overwriting)
      if (slot(s).root == root) Separate(s);
    members_[root].clear();
    for (const int s : moved) {
      Slot& p = slot(s);
      p.root = to.root;
      p.part = true;
      p.part_offset = to.offset;
      p.pixel_stride = to.stride;
      members_[to.root].push_back(s);
    }
    has_parts_[size_t(to.root)] = true;
    return true;
  }

  // Whether slot s is `above`, or shares memory with it by way of its parents.
  bool IsUnder(int s, int above) {
    while (s >= 0 && s != above) s = slot(s).parent;
    return s == above;
  }

  // Gives an in-place result, and what shares its memory because of it, memory of its own.
  void Separate(int result) {
    slot(result).in_place = false;
    slot(result).parent = -1;
    kept_[size_t(result)] = kept_[size_t(slot(result).root)];  // at most
    const std::vector<int> before = members(result);
    std::vector<int>& rest = members(result);
    rest.clear();
    std::vector<int> own;
    for (const int s : before) (IsUnder(s, result) ? own : rest).push_back(s);
    for (const int s : own) slot(s).root = result;
    members_[result] = std::move(own);
  }

  // Whether step i writes its result s over memory of which somebody later reads a part.
  bool Overwrites(size_t i, int s) {
    const int root = slot(s).root;
    if (!slot(s).in_place || slot(s).part || !has_parts_[size_t(root)]) return false;
    const auto reads = [&](const Step& step, bool now) {
      const auto other = [&](int r) {
        return r >= 0 && slot(r).root == root && (now ? r != slot(s).parent : !IsUnder(r, s));
      };
      return std::ranges::any_of(step.inputs, other) || std::ranges::any_of(step.captures, other);
    };
    if (reads(plan_.steps[i], true)) return true;
    for (size_t j = i + 1; j < plan_.steps.size(); ++j)
      if (reads(plan_.steps[j], false)) return true;
    return false;
  }

  Plan& plan_;
  std::span<int> kept_;
  std::vector<bool> contiguous_;                       // per slot: some step needs it so
  std::vector<bool> has_parts_;                        // per root slot
  std::unordered_map<int, std::vector<int>> members_;  // per root slot, itself first
};

}  // namespace

void PlaceParts(Plan& plan, std::span<int> kept) { Placer(plan, kept).Run(); }

}  // namespace dunlin
