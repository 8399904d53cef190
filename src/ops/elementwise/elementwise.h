// The parts of the elementwise family's table, one per source file.
#pragma once

#include <vector>

#include "ir/op_def.h"

namespace dunlin {

std::vector<OpDef> UnaryOps();
std::vector<OpDef> BinaryOps();
std::vector<OpDef> VariadicOps();
std::vector<OpDef> SelectOps();   // Where, Clip
std::vector<OpDef> ConvertOps();  // Cast, CastLike, Identity

}  // namespace dunlin
