// What the parts of the engine's API say of graphs and plans; not for its users.
#pragma once

#include "dunlin/engine.h"
#include "runtime/plan.h"

namespace dunlin {

PortInfo Port(const Graph& g, const std::string& name, const Type& t);
// All but the time.
StepProfile DescribeStep(const Plan& plan, const Step& step);

}  // namespace dunlin
