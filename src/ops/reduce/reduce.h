// The parts of the reduction family's table, one per source file.
#pragma once

#include <vector>

#include "ir/op_def.h"

namespace dunlin {

std::vector<OpDef> ReduceNumberOps();  // ReduceSum, ReduceMax …
std::vector<OpDef> SoftmaxOps();       // Softmax, LogSoftmax, Hardmax
std::vector<OpDef> AxisOps();          // ArgMax, ArgMin, CumSum, TopK

}  // namespace dunlin
