#include "passes/passes.h"
namespace dunlin { Result<int> Simplify(Graph&) { return 0; } Result<int> Fuse(Graph&) { return 0; } }
