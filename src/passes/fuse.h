// The rule sets of Fuse, one topic each.
#pragma once

#include "ops/conv/conv.h"
#include "passes/pattern.h"

namespace dunlin {

// Chains of primitives that exporters write for one function: SiLU, HardSwish, GELU, LayerNorm,
// RMSNorm.
std::span<const Rule> ChainRules();
// The same, after those.
std::span<const Rule> LateChainRules();
// LayerNorm and RMSNorm without scale and shift, after those.
std::span<const Rule> PlainChainRules();
// Scales, shifts and pads into the weights of convolutions.
std::span<const Rule> ConvolutionRules();
// Biases, scales and transposes into matrix products.
std::span<const Rule> ProductRules();
// Softmax of a product times another, with what stands around it, into attention. Needs known
// shapes.
std::span<const Rule> AttentionRules();
// Reshapes and transposes that shuffle channels, into one step. Needs known shapes.
std::span<const Rule> ShuffleRules();
// Residual sums and activations into what made their operand.
std::span<const Rule> EpilogueRules();

// The activation that a node computes of its first input; nullopt: none that an epilogue has.
std::optional<ActivationParams> EpilogueOf(const Graph& g, const Node& n);

}  // namespace dunlin
