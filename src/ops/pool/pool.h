// Attributes of the pools.
#pragma once

#include "ops/conv/window.h"
#include "ops/op.h"

namespace dunlin {

struct PoolAttrs : WindowAttrs {
  bool ceil_mode = false;
  template <class V>
  void Visit(V& v) {
    WindowAttrs::Visit(v);
    v("ceil_mode", ceil_mode);
  }
};

struct MaxPoolAttrs : PoolAttrs {
  int64_t storage_order = 0;  // of the indices: 0 row-major, 1 column-major
  template <class V>
  void Visit(V& v) {
    PoolAttrs::Visit(v);
    v("storage_order", storage_order);
  }
};

struct AveragePoolAttrs : PoolAttrs {
  bool count_include_pad = false;
  template <class V>
  void Visit(V& v) {
    PoolAttrs::Visit(v);
    v("count_include_pad", count_include_pad);
  }
};

struct LpPoolAttrs : PoolAttrs {
  int64_t p = 2;
  template <class V>
  void Visit(V& v) {
    PoolAttrs::Visit(v);
    v("p", p);
  }
};

OpDef MaxRoiPoolOp();

}  // namespace dunlin
