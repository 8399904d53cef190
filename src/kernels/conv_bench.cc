// Convolutions on one core, as one item per call of the kernel, without threads.
#include "kernels/depthwise.h"
#include "kernels/gemm_bench_rate.h"

namespace dunlin {
namespace {

ConvGeometry Square(int64_t size, int64_t kernel, int64_t stride, int64_t channels) {
  const int64_t pad = kernel / 2, out = (size + 2 * pad - kernel) / stride + 1;
  ConvGeometry g;
  g.axis[1] = g.axis[2] = {size, out, kernel, stride, 1, pad};
  g.pixel_stride = channels;
  return g;
}

// Arguments: input channels, output channels, size, kernel, stride.
void Conv(benchmark::State& state) {
  const int64_t channels = state.range(0), outputs = state.range(1);
  const ConvGeometry g = Square(state.range(2), state.range(3), state.range(4), channels);
  const GemmPanels panels = MakeGemmPanels(outputs);
  const int64_t rows = g.taps() * channels, m = g.out_pixels();
  Tensor x = BenchFloats(g.in_pixels() * channels), w = BenchFloats(rows * outputs),
         y = BenchFloats(m * outputs), zeros = BenchFloats(channels), bias = BenchFloats(outputs),
         packed = BenchFloats(panels.packed_floats(rows));
  PackGemm(panels, {w.as<float>(), 1, rows, 0, outputs, 1}, 0, panels.count, packed.mut<float>());
  const GemmSplit split = SplitGemm(panels, 1, m, rows, ConvMaxRows(g.taps()), 1);
  GemmArgs args;
  args.k = channels;
  args.packed = packed.as<float>();
  args.packed_rows = rows;
  args.c = y.mut<float>();
  args.c_stride = outputs;
  args.epilogue.bias = bias.as<float>();
  args.epilogue.activation.kind = Activation::kRelu;
  RunAtRate(state, 2.0 * double(m * rows * outputs), [&] {
    for (int64_t i = 0; i < split.items(); ++i) {
      const GemmSplit::Item item = split.item(i);
      ConvIndirect(panels, g, x.as<float>(), zeros.as<float>(), args, item.m_begin, item.m_end,
                   item.panel_begin, item.panel_end);
    }
  });
}
BENCHMARK(Conv)
    ->Args({64, 64, 56, 3, 1})
    ->Args({128, 128, 28, 3, 1})
    ->Args({256, 256, 14, 3, 1})
    ->Args({512, 512, 7, 3, 1})
    ->Args({256, 64, 56, 1, 1})
    ->Args({24, 144, 56, 1, 1})
    ->Args({144, 24, 56, 1, 1})
    ->Args({512, 2048, 7, 1, 1})
    ->Args({16, 16, 256, 3, 1});

// Arguments: channels, size, kernel, stride.
void DepthwiseConv(benchmark::State& state) {
  const int64_t channels = state.range(0);
  DepthwiseArgs a;
  a.geometry = Square(state.range(1), state.range(2), state.range(3), channels);
  a.channels = channels;
  const int64_t taps = a.geometry.taps(), out = a.geometry.out_pixels();
  Tensor x = BenchFloats(a.geometry.in_pixels() * channels), w = BenchFloats(taps * channels),
         y = BenchFloats(out * channels), zeros = BenchFloats(channels);
  a.x = x.as<float>();
  a.weights = w.as<float>();
  a.bias = a.zeros = zeros.as<float>();
  a.y = y.mut<float>();
  a.activation = {Activation::kClip, 0, 6};
  RunAtRate(state, 2.0 * double(out * taps * channels), [&] {
    const int64_t rows = a.geometry.axis[1].out, step = 8;  // as items of a run are
    for (int64_t r = 0; r < rows; r += step) Depthwise(a, r, std::min(r + step, rows));
  });
}
BENCHMARK(DepthwiseConv)
    ->Args({144, 56, 3, 1})
    ->Args({144, 56, 3, 2})
    ->Args({32, 112, 3, 1})
    ->Args({576, 14, 3, 1})
    ->Args({960, 7, 3, 1})
    ->Args({672, 14, 5, 1})
    ->Args({240, 28, 5, 2})
    ->Args({96, 56, 7, 1});

}  // namespace
}  // namespace dunlin
