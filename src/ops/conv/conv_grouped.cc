// Convolution in groups by the direct kernel.
#include <algorithm>

#include "kernels/grouped_conv.h"
#include "ops/band.h"
#include "ops/conv/conv_kernel.h"

namespace dunlin {
namespace {

// Within 2 K 2^-24 sum |x||w| of the reference for sums of K terms.
class GroupedKernel final : public Kernel, public BandKernel {
 public:
  ConvShape shape;
  GroupedPlan plan;
  ActivationParams act;
  Tensor packed;
  int64_t grain = 1;

  std::string_view name() const override { return "conv.grouped"; }
  InputUse uses(int input) const override {
    return input == 1 ? InputUse::kNothing : InputUse::kValues;
  }
  const BandKernel* bands() const override { return this; }
  BandShape band_shape() const override { return BandShapeOf(shape, plan.geometry); }
  void RunBand(const BandArgs& band) const override {
    const GroupedArgs a{band.x, packed.as<float>(), band.bias, band.residual, band.y, act};
    GroupedConv(plan, a, 0, plan.blocks, band.begin, band.end);
  }

  Status Run(RunContext& ctx) const override {
    const GroupedArgs a{ctx.in(0).as<float>(),
                        packed.as<float>(),
                        ctx.has(2) ? ctx.in(2).as<float>() : nullptr,
                        ctx.has(3) ? ctx.in(3).as<float>() : nullptr,
                        ctx.out(0).mut<float>(),
                        act};
    const int64_t rows = plan.image_rows(), bands = (rows + plan.rows - 1) / plan.rows;
    const int64_t per_image = bands * plan.blocks;
    ctx.ParallelFor(shape.batch * per_image, grain, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        const int64_t image = i / per_image * rows, band = i % per_image / plan.blocks;
        const int64_t block = i % plan.blocks;
        GroupedConv(plan, a, block, block + 1, image + rows * band / bands,
                    image + rows * (band + 1) / bands);
      }
    });
    return {};
  }
};

}  // namespace

Result<KernelPtr> LowerGrouped(const ConvShape& shape, const ActivationParams& act,
                               LowerContext& ctx) {
  const Tensor* w = ctx.value(1);
  if (w == nullptr) return KernelPtr();
  const auto plan = MakeGroupedPlan(GeometryOf(shape), shape.group, shape.outputs);
  if (!plan) return KernelPtr();
  auto k = std::make_unique<GroupedKernel>();
  k->shape = shape;
  k->plan = *plan;
  k->act = act;
  // About 5 microseconds of multiply-adds at half the peak of a core.
  const int64_t item_work =
      plan->rows * plan->geometry.axis[2].out * plan->block_packed() / plan->lanes * 16;
  k->grain = std::max<int64_t>(1, (int64_t{1} << 18) / std::max<int64_t>(1, item_work));
  const std::string recipe =
      fmt::format("conv grouped lanes {} group {} outputs {} channels {} taps {}", plan->lanes,
                  shape.group, shape.outputs, shape.channels, shape.taps());
  k->packed = TRY(ctx.weights().Get(*w, recipe, [&](const Tensor& t) -> Result<Tensor> {
    Tensor packed = TRY(Tensor::Create(DType::kF32, {plan->packed_floats()}));
    PackGrouped(*plan, t.as<float>(), packed.mut<float>());
    return packed;
  }));
  return KernelPtr(std::move(k));
}

}  // namespace dunlin
