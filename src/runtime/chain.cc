#include "runtime/chain.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "ops/band.h"

namespace dunlin {
namespace {

int64_t CeilDiv(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Rows {
  int64_t begin = 0, end = 0;
};
Rows InputRows(const ConvAxis& a, Rows out) {
  const int64_t first = out.begin * a.stride - a.pad;
  const int64_t last = (out.end - 1) * a.stride - a.pad + (a.kernel - 1) * a.dilation + 1;
  return {std::clamp<int64_t>(first, 0, a.in), std::clamp<int64_t>(last, 0, a.in)};
}

class ChainKernel final : public Kernel {
 public:
  struct Link {
    KernelPtr kernel;
    BandShape shape;
    int bias = -1, residual = -1;  // inputs of the chain
    int64_t capacity = 0;          // rows of its output that are kept at once; the last: none
    int64_t offset = 0;            // floats, of its rows in a part's scratch
  };

  ChainKernel(std::vector<Link> links, const ChainOptions& options, int threads)
      : links_(std::move(links)) {
    const BandShape& last = links_.back().shape;
    const int64_t rows = last.rows.out;
    // Only windows of several rows make parts overlap.
    const bool overlap = std::any_of(links_.begin() + 1, links_.end(),
                                     [](const Link& l) { return l.shape.rows.kernel > 1; });
    const int64_t least = overlap ? options.least_part_rows : 1;
    parts_ =
        std::clamp<int64_t>(CeilDiv(threads, last.images), 1, std::max<int64_t>(1, rows / least));
    band_ = CeilDiv(rows, parts_);
    while (band_ > 1 && TouchedBytes(band_) > options.band_bytes) band_ = (band_ + 1) / 2;
    part_floats_ = Layout(band_);
    name_ = "chain";
    for (const Link& l : links_) {
      std::string_view name = l.kernel->name();
      name_ +=
          fmt::format("{}{}", &l == links_.data() ? " " : "+", name.substr(name.find('.') + 1));
    }
  }

  std::string_view name() const override { return name_; }
  InputUse uses(int input) const override {
    const bool read = input == 0 || std::ranges::any_of(links_, [input](const Link& l) {
                        return l.bias == input || l.residual == input;
                      });
    return read ? InputUse::kValues : InputUse::kNothing;
  }
  size_t scratch_bytes() const override {
    return size_t(links_.back().shape.images * parts_ * part_floats_) * sizeof(float);
  }
  Status Run(RunContext& ctx) const override {
    ctx.ParallelFor(links_.back().shape.images * parts_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) RunPart(ctx, i / parts_, i % parts_);
    });
    return {};
  }

 private:
  // What a band after the first touches: of every link its new rows, and those kept from before.
  int64_t TouchedBytes(int64_t band) const {
    int64_t floats = 0, fresh = band;
    for (size_t l = links_.size() - 1; l > 0; --l) {
      const ConvAxis& a = links_[l].shape.rows;
      const int64_t kept = std::max<int64_t>(0, (a.kernel - 1) * a.dilation + 1 - a.stride);
      fresh = std::min(a.in, fresh * a.stride);
      floats += std::min(a.in, fresh + kept) * links_[l].shape.in_row_floats;
    }
    return floats * int64_t(sizeof(float));
  }

  // Lays out the rows of every link for bands of so many rows of the last; floats in all. The first
  // band needs most, as nothing is kept from before.
  int64_t Layout(int64_t band) {
    int64_t floats = 0, rows = band;
    for (size_t l = links_.size() - 1; l > 0; --l) {
      const ConvAxis& a = links_[l].shape.rows;
      rows = std::min(a.in, (rows - 1) * a.stride + (a.kernel - 1) * a.dilation + 1);
      links_[l - 1].capacity = rows;
      links_[l - 1].offset = floats;
      floats += CeilDiv(rows * links_[l].shape.in_row_floats, 16) * 16;
    }
    return floats;
  }

  void RunPart(RunContext& ctx, int64_t image, int64_t part) const {
    const size_t last = links_.size() - 1;
    const int64_t rows = links_[last].shape.rows.out;
    const int64_t part_end = rows * (part + 1) / parts_;
    float* const scratch =
        static_cast<float*>(ctx.scratch()) + (image * parts_ + part) * part_floats_;
    std::vector<Rows> have(links_.size()), need(links_.size());
    for (int64_t b = rows * part / parts_; b < part_end; b += band_) {
      need[last] = {b, std::min(part_end, b + band_)};
      // Rows that a link has already ask nothing more of the one before.
      for (size_t l = last; l > 0; --l)
        need[l - 1] =
            InputRows(links_[l].shape.rows, {std::max(need[l].begin, have[l].end), need[l].end});
      for (size_t l = 0; l <= last; ++l) {
        if (l < last) KeepRows(links_[l], scratch, have[l], need[l]);
        RunLink(ctx, l, image, scratch, l > 0 ? have[l - 1].begin : 0, need[l], have[l]);
      }
    }
  }

  // Rows that the band before left and this one needs move to the front.
  static void KeepRows(const Link& link, float* scratch, Rows& have, const Rows& need) {
    const int64_t row = link.shape.out_row_floats;
    float* const at = scratch + link.offset;
    if (have.end > need.begin && need.begin > have.begin)
      std::memmove(at, at + (need.begin - have.begin) * row,
                   size_t((have.end - need.begin) * row) * sizeof(float));
    have.begin = need.begin;
    have.end = std::max(have.end, need.begin);
  }

  void RunLink(RunContext& ctx, size_t l, int64_t image, float* scratch, int64_t first_input,
               const Rows& need, Rows& have) const {
    const Link& link = links_[l];
    const BandShape& s = link.shape;
    BandArgs a;
    a.begin = l + 1 == links_.size() ? need.begin : have.end;
    a.end = need.end;
    if (a.begin >= a.end) return;
    if (l == 0) {
      const TensorView& x = ctx.in(0);
      int64_t image_floats = s.rows.in * s.in_row_floats;
      if (x.pixel_stride != 0) image_floats = image_floats / x.dims[1] * x.pixel_stride;
      a.x = x.as<float>() + image * image_floats;
      a.pixel_stride = x.pixel_stride;
    } else {
      a.x = scratch + links_[l - 1].offset - first_input * s.in_row_floats;
    }
    const int64_t place = image * s.rows.out * s.out_row_floats;
    a.y = l + 1 == links_.size() ? ctx.out(0).mut<float>() + place
                                 : scratch + link.offset - have.begin * s.out_row_floats;
    if (link.bias >= 0) a.bias = ctx.in(link.bias).as<float>();
    if (link.residual >= 0) a.residual = ctx.in(link.residual).as<float>() + place;
    link.kernel->bands()->RunBand(a);
    have.end = a.end;
  }

  std::vector<Link> links_;
  std::string name_;
  int64_t parts_ = 1;  // of an image, run side by side
  int64_t band_ = 1;   // rows of the last link made at once
  int64_t part_floats_ = 0;
};

int64_t BytesOf(const Slot& s) { return ByteSize(s.type.dtype, CountOf(s.type.dims)); }

class Merger {
 public:
  Merger(Plan& plan, std::span<const int> kept, const ChainOptions& options, int threads)
      : plan_(plan),
        kept_(kept),
        options_(options),
        threads_(threads),
        readers_(plan.slots.size(), 0) {
    for (const Step& s : plan.steps) {
      for (const int i : s.inputs) Read(i);
      for (const int i : s.captures) Read(i);
    }
  }

  void Run() {
    std::vector<Step> merged;
    for (size_t i = 0; i < plan_.steps.size();) {
      const size_t end = EndOfChain(i);
      if (end == i + 1)
        merged.push_back(std::move(plan_.steps[i]));
      else
        merged.push_back(Merge(i, end));
      i = end;
    }
    plan_.steps = std::move(merged);
  }

 private:
  Slot& slot(int s) { return plan_.slots[size_t(s)]; }
  void Read(int s) {
    if (s >= 0) ++readers_[size_t(slot(s).root)];
  }
  bool HasBands(const Step& s) {
    if (!s.kernel || s.kernel->bands() == nullptr || s.scratch_bytes != 0 || s.outputs.size() != 1)
      return false;
    // Rows of a band are contiguous, but for those of the image that a chain begins with.
    const auto strided = [this](int i) { return i >= 0 && slot(i).pixel_stride != 0; };
    if (std::any_of(s.inputs.begin() + 1, s.inputs.end(), strided) || strided(s.outputs[0]))
      return false;
    for (size_t k = 4; k < s.inputs.size(); ++k)
      if (s.kernel->uses(int(k)) != InputUse::kNothing) return false;
    return true;
  }

  // Whether b reads what a makes as its image, and nobody else does.
  bool Links(const Step& a, const Step& b) {
    if (!HasBands(a) || !HasBands(b) || a.outputs[0] != b.inputs[0]) return false;
    // An output over an input would be written while other parts still read that.
    if (slot(b.outputs[0]).root != b.outputs[0]) return false;
    const int s = a.outputs[0];
    return slot(s).root == s && slot(s).kind == Slot::Kind::kArena && readers_[size_t(s)] == 1 &&
           kept_[size_t(s)] == 0 && BytesOf(slot(s)) >= options_.spill_bytes;
  }

  // How many of the steps from `begin` on, each linked to the next, fit together.
  size_t EndOfChain(size_t begin) {
    int64_t weights = 0;
    size_t end = begin;
    do {
      if (HasBands(plan_.steps[end])) weights += BytesOf(slot(plan_.steps[end].inputs[1]));
      if (end > begin && weights > options_.weight_bytes) break;
      ++end;
    } while (end < plan_.steps.size() && Links(plan_.steps[end - 1], plan_.steps[end]));
    return end;
  }

  Step Merge(size_t begin, size_t end) {
    Step chain;
    chain.node = plan_.steps[begin].node;
    std::vector<ChainKernel::Link> links;
    for (size_t i = begin; i < end; ++i) {
      Step& s = plan_.steps[i];
      ChainKernel::Link link;
      link.shape = s.kernel->bands()->band_shape();
      for (size_t k = i == begin ? 0 : 1; k < s.inputs.size(); ++k) {
        const int at = int(chain.inputs.size());
        if (s.inputs[k] >= 0 && s.kernel->uses(int(k)) != InputUse::kNothing) {
          if (k == 2) link.bias = at;
          if (k == 3) link.residual = at;
        }
        chain.inputs.push_back(s.inputs[k]);
      }
      link.kernel = std::move(s.kernel);
      links.push_back(std::move(link));
      chain.label += (i == begin ? "" : "+") + s.label;
      if (i > begin) chain.more_nodes.push_back(s.node);
    }
    chain.outputs = plan_.steps[end - 1].outputs;
    chain.kernel = std::make_unique<ChainKernel>(std::move(links), options_, threads_);
    chain.scratch_bytes = int64_t(chain.kernel->scratch_bytes());
    return chain;
  }

  Plan& plan_;
  std::span<const int> kept_;
  const ChainOptions& options_;
  int threads_;
  std::vector<int> readers_;  // per root slot
};

}  // namespace

void MergeChains(Plan& plan, std::span<const int> kept, const ChainOptions& options, int threads) {
  Merger(plan, kept, options, threads).Run();
}

}  // namespace dunlin
