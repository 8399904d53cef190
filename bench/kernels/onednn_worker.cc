// One product in oneDNN, loaded and warm: the peer of bench/kernels/table.py (../turns.h). Operands
// are in the layout that oneDNN chooses, so nothing but the product is timed; set OMP_NUM_THREADS.
//   onednn_worker conv,TYPE,CHANNELS,EXTENT,FILTERS,KERNEL,STRIDE,GROUPS
//   onednn_worker matmul,TYPE,M,K,N
// TYPE f32: with bias and ReLU (a convolution) or alone. TYPE int8: u8 times s8 with bias and a
// scale per filter or column, rounded to u8. A convolution has batch 1, square images and kernels,
// and as much padding as keeps the extent at stride 1. Prints the name of the implementation.
#include <chrono>
#include <cstring>
#include <iostream>
#include <oneapi/dnnl/dnnl.hpp>
#include <random>
#include <sstream>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/result.h"
#include "bench/turns.h"

namespace dunlin {
namespace {

using dnnl::memory;

// A primitive with its operands.
struct Work {
  dnnl::primitive primitive;
  std::unordered_map<int, memory> operands;
  std::string implementation;
};

// Memory of this description, with small numbers in it.
memory Filled(const memory::desc& desc, const dnnl::engine& engine) {
  memory m(desc, engine);
  std::minstd_rand random(1);
  if (desc.data_type() == memory::data_type::f32) {
    auto* x = static_cast<float*>(m.get_data_handle());
    for (size_t i = 0; i < desc.get_size() / sizeof(float); ++i)
      x[i] = float(random() % 200) / 100 - 1;
  } else if (desc.data_type() == memory::data_type::s32) {
    std::memset(m.get_data_handle(), 0, desc.get_size());
  } else {
    auto* x = static_cast<uint8_t*>(m.get_data_handle());
    for (size_t i = 0; i < desc.get_size(); ++i) x[i] = uint8_t(random() % 251);
  }
  return m;
}

struct Types {
  memory::data_type data, weights, bias;
};
Types TypesOf(bool bytes) {
  using enum memory::data_type;
  return bytes ? Types{u8, s8, s32} : Types{f32, f32, f32};
}

memory::desc Any(const memory::dims& dims, memory::data_type type) {
  return {dims, type, memory::format_tag::any};
}

// A scale for each of `count` outputs along axis 1.
dnnl::primitive_attr Scaled(int64_t count) {
  dnnl::primitive_attr attr;
  attr.set_output_scales(1 << 1, std::vector<float>(size_t(count), 1e-3f));
  return attr;
}

Work MakeConv(const std::vector<int64_t>& n, bool bytes, const dnnl::engine& engine) {
  const int64_t channels = n[0], extent = n[1], filters = n[2], kernel = n[3], stride = n[4],
                groups = n[5], pad = kernel / 2;
  const int64_t result = (extent + 2 * pad - kernel) / stride + 1;
  const Types types = TypesOf(bytes);
  const memory::dims weights =
      groups == 1 ? memory::dims{filters, channels, kernel, kernel}
                  : memory::dims{groups, filters / groups, channels / groups, kernel, kernel};
  const dnnl::convolution_forward::desc desc(
      dnnl::prop_kind::forward_inference, dnnl::algorithm::convolution_auto,
      Any({1, channels, extent, extent}, types.data), Any(weights, types.weights),
      Any({filters}, types.bias), Any({1, filters, result, result}, types.data), {stride, stride},
      {pad, pad}, {pad, pad});
  dnnl::primitive_attr attr;
  if (bytes) {
    attr = Scaled(filters);
  } else {
    dnnl::post_ops after;
    after.append_eltwise(1, dnnl::algorithm::eltwise_relu, 0, 0);
    attr.set_post_ops(after);
  }
  const dnnl::convolution_forward::primitive_desc made(desc, attr, engine);
  return {dnnl::convolution_forward(made),
          {{DNNL_ARG_SRC, Filled(made.src_desc(), engine)},
           {DNNL_ARG_WEIGHTS, Filled(made.weights_desc(), engine)},
           {DNNL_ARG_BIAS, Filled(made.bias_desc(), engine)},
           {DNNL_ARG_DST, Filled(made.dst_desc(), engine)}},
          made.impl_info_str()};
}

Work MakeMatMul(const std::vector<int64_t>& n, bool bytes, const dnnl::engine& engine) {
  const Types types = TypesOf(bytes);
  const dnnl::matmul::desc desc(Any({n[0], n[1]}, types.data), Any({n[1], n[2]}, types.weights),
                                Any({n[0], n[2]}, types.data));
  const dnnl::matmul::primitive_desc made(desc, bytes ? Scaled(n[2]) : dnnl::primitive_attr(),
                                          engine);
  return {dnnl::matmul(made),
          {{DNNL_ARG_SRC, Filled(made.src_desc(), engine)},
           {DNNL_ARG_WEIGHTS, Filled(made.weights_desc(), engine)},
           {DNNL_ARG_DST, Filled(made.dst_desc(), engine)}},
          made.impl_info_str()};
}

Status Serve(const std::string& problem) {
  std::istringstream words(problem);
  std::string kind, type, word;
  std::getline(words, kind, ',');
  std::getline(words, type, ',');
  std::vector<int64_t> numbers;
  while (std::getline(words, word, ',')) numbers.push_back(std::atoll(word.c_str()));
  const bool known =
      (kind == "conv" && numbers.size() == 6) || (kind == "matmul" && numbers.size() == 3);
  if (!known || (type != "f32" && type != "int8"))
    return Fail(Code::kInvalidArgument, "'{}' is no problem: see the head of onednn_worker.cc",
                problem);
  const auto start = std::chrono::steady_clock::now();
  const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
  dnnl::stream stream(engine);
  const Work work = (kind == "conv" ? MakeConv : MakeMatMul)(numbers, type == "int8", engine);
  return AnswerTurns(MillisSince(start), work.implementation, [&]() -> Result<double> {
    const auto begin = std::chrono::steady_clock::now();
    work.primitive.execute(stream, work.operands);
    stream.wait();
    return MillisSince(begin);
  });
}

}  // namespace
}  // namespace dunlin

int main(int argc, char** argv) {
  dunlin::Status status;
  try {
    status = dunlin::Serve(argc > 1 ? argv[1] : "");
  } catch (const dnnl::error& error) {
    status = dunlin::Fail(dunlin::Code::kUnimplemented, "oneDNN: {}", error.what());
  }
  if (!status.has_value()) std::cerr << "onednn_worker: " << status.error().message << std::endl;
  return status.has_value() ? 0 : 1;
}
