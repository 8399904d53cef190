// Operators that resample or transform: Resize, GridSample, AffineGrid, RoiAlign, ImageDecoder,
// Einsum, Det, DFT, STFT, MelWeightMatrix and the windows. Semantics: ONNX opset 24.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "ops/op.h"

namespace dunlin {

std::span<const OpDef> ResizeOps();

// X, roi?, scales?, sizes? (one of the last two).
struct Resize {
  struct Attrs {
    bool antialias = false;
    std::vector<int64_t> axes;  // empty: all
    std::string coordinate_transformation_mode = "half_pixel";
    float cubic_coeff_a = -0.75f;
    bool exclude_outside = false;
    float extrapolation_value = 0;
    std::string keep_aspect_ratio_policy = "stretch";
    std::string mode = "nearest";
    std::string nearest_mode = "round_prefer_floor";
    template <class V>
    void Visit(V& v) {
      v("antialias", antialias);
      v("axes", axes);
      v("coordinate_transformation_mode", coordinate_transformation_mode);
      v("cubic_coeff_a", cubic_coeff_a);
      v("exclude_outside", exclude_outside);
      v("extrapolation_value", extrapolation_value);
      v("keep_aspect_ratio_policy", keep_aspect_ratio_policy);
      v("mode", mode);
      v("nearest_mode", nearest_mode);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
  // f32 (nearest: any element) over the last one or two spatial axes, in both layouts. Nearest is
  // exact; linear differs from the reference by rounding in f32 only: |error| <= 4 ulp of the
  // largest neighbour.
  static Result<KernelPtr> Lower(const Attrs&, LowerContext&);
  static LayoutPlan Layouts(const Attrs&, const LayoutQuery&);
};

// X [N, C, spatial…], grid [N, out…, axes]; two or three spatial axes.
struct GridSample {
  struct Attrs {
    bool align_corners = false;
    std::string mode = "linear";
    std::string padding_mode = "zeros";
    template <class V>
    void Visit(V& v) {
      v("align_corners", align_corners);
      v("mode", mode);
      v("padding_mode", padding_mode);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
  // f32 images, not cubic: within 4 ulp of the largest tap of the reference.
  static Result<KernelPtr> Lower(const Attrs&, LowerContext&);
};

// theta [N, 2, 3] or [N, 3, 4], size -> grid.
struct AffineGrid {
  struct Attrs {
    bool align_corners = false;
    template <class V>
    void Visit(V& v) {
      v("align_corners", align_corners);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

struct RoiAlign {
  struct Attrs {
    std::string coordinate_transformation_mode = "half_pixel";
    std::string mode = "avg";
    int64_t output_height = 1, output_width = 1, sampling_ratio = 0;
    float spatial_scale = 1;
    template <class V>
    void Visit(V& v) {
      v("coordinate_transformation_mode", coordinate_transformation_mode);
      v("mode", mode);
      v("output_height", output_height);
      v("output_width", output_width);
      v("sampling_ratio", sampling_ratio);
      v("spatial_scale", spatial_scale);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
  // f32 averages: within 8 ulp per sample of the reference.
  static Result<KernelPtr> Lower(const Attrs&, LowerContext&);
};

// The bytes of a picture file -> [H, W, 3 or 1].
struct ImageDecoder {
  struct Attrs {
    std::string pixel_format = "RGB";
    template <class V>
    void Visit(V& v) {
      v("pixel_format", pixel_format);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

struct Einsum {
  struct Attrs {
    std::string equation;
    template <class V>
    void Visit(V& v) {
      v("equation", equation);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
  // Two f32 operands without a label of their own to sum over: copies and a matrix product. Within
  // 2 K 2^-24 sum |a||b| of the reference.
  static Result<KernelPtr> Lower(const Attrs&, LowerContext&);
};

// Determinants of the last two axes.
struct Det {
  using Attrs = NoAttrs;
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// input [batch, …, 1 or 2], dft_length?, axis?.
struct Dft {
  struct Attrs {
    bool inverse = false, onesided = false;
    template <class V>
    void Visit(V& v) {
      v("inverse", inverse);
      v("onesided", onesided);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// signal [batch, length, 1 or 2], frame_step, window?, frame_length?.
struct Stft {
  struct Attrs {
    bool onesided = true;
    template <class V>
    void Visit(V& v) {
      v("onesided", onesided);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// num_mel_bins, dft_length, sample_rate, lower_edge_hertz, upper_edge_hertz.
struct MelWeightMatrix {
  struct Attrs {
    DType output_datatype = DType::kF32;
    template <class V>
    void Visit(V& v) {
      v("output_datatype", output_datatype);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Reference(const Attrs&, RunContext&);
};

// Windows are a0 + a1 cos(x) + a2 cos(2x), x in one period.
struct SignalWindow {
  struct Attrs {
    DType output_datatype = DType::kF32;
    bool periodic = true;
    template <class V>
    void Visit(V& v) {
      v("output_datatype", output_datatype);
      v("periodic", periodic);
    }
  };
  static Status Infer(const Attrs&, InferContext&);
  static Status Fill(const Attrs&, RunContext&, double a0, double a1, double a2);
};
struct HannWindow : SignalWindow {
  static Status Reference(const Attrs& a, RunContext& c) { return Fill(a, c, 0.5, -0.5, 0); }
};
struct HammingWindow : SignalWindow {
  static Status Reference(const Attrs& a, RunContext& c) {
    return Fill(a, c, 25.0 / 46, -21.0 / 46, 0);
  }
};
struct BlackmanWindow : SignalWindow {
  static Status Reference(const Attrs& a, RunContext& c) { return Fill(a, c, 0.42, -0.5, 0.08); }
};

}  // namespace dunlin
