// dunlin.CodeResize: linear Resize of images of codes. For the passes that build it.
#pragma once

#include "ops/resize/resize.h"

namespace dunlin {

// Inputs as Resize's; x u8 or i8 [N, C, H, W], whose last two axes are resized, and y of the same
// type:
//   y = the code of x_scale / y_scale * interpolated (x - x_zero), with y's zero point.
// Rows are blended first, then columns, in f32; so a code may differ by one from that of a Resize
// in f32 where a result lies between two.
struct CodeResizeAttrs : Resize::Attrs {
  int64_t x_zero = 0, y_zero = 0;
  float x_scale = 1, y_scale = 1;
  template <class V>
  void Visit(V& v) {
    Resize::Attrs::Visit(v);
    v("x_zero", x_zero);
    v("y_zero", y_zero);
    v("x_scale", x_scale);
    v("y_scale", y_scale);
  }
};
// Whether these attributes of a Resize are such that CodeResize takes them.
bool IsCodeResize(const Resize::Attrs& a);

}  // namespace dunlin
