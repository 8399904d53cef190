// 8-bit codes to 16-bit integers with their zero point subtracted.
#pragma once

#include <cstdint>

#include "tensor/dtype.h"

namespace dunlin {

// to[i] = x[i] - zero for i < n; `t`: u8 or i8.
void WidenCodes(DType t, const void* x, int32_t zero, int64_t n, int16_t* to);

// x holds `channels` planes, `plane` codes apart, of which n codes are read: those of code i go to
// to[i * stride + channel]. Channels last out of channels first.
void WidenPlanes(DType t, const void* x, int64_t plane, int64_t channels, int32_t zero, int64_t n,
                 int16_t* to, int64_t stride);

}  // namespace dunlin
