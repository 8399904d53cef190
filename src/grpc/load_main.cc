// grpc_load: keeps N calls of ModelInfer in flight on one connection and prints what each cost the
// server and the client. For measuring the front end; `dunlin perf` is the tool for models.
//
//   grpc_load ADDRESS MODEL INPUT FLOATS IN_FLIGHT SECONDS SERVER_PID
#include <fmt/format.h>
#include <grpc/byte_buffer.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <fstream>
#include <string>
#include <vector>

#include "grpc/wire_writer.h"

namespace {

using Clock = std::chrono::steady_clock;

// User and system time of a process so far.
double CpuSeconds(const std::string& pid) {
  std::ifstream in("/proc/" + pid + "/stat");
  std::string line;
  std::getline(in, line);
  long long user = 0, system = 0;
  std::sscanf(line.c_str() + line.rfind(')') + 2,
              "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %lld %lld", &user, &system);
  return double(user + system) / double(::sysconf(_SC_CLK_TCK));
}

std::string Request(const std::string& model, const std::string& input, size_t floats) {
  using namespace dunlin::grpc;
  std::string tensor, shape, message;
  PutString(tensor, 1, input);
  PutString(tensor, 2, "FP32");
  PutVarint(shape, 1);
  PutVarint(shape, floats);
  PutBytes(tensor, 3, shape);
  PutString(message, 1, model);
  PutBytes(message, 5, tensor);
  PutBytes(message, 7, std::string(floats * 4, '\0'));
  return message;
}

std::string ToString(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
}

struct Call {
  grpc_call* call = nullptr;
  grpc_metadata_array head{}, tail{};
  grpc_byte_buffer *request = nullptr, *reply = nullptr;
  grpc_status_code status = GRPC_STATUS_OK;
  grpc_slice details{};
  Clock::time_point begun;
};

struct Load {
  grpc_completion_queue* queue;
  grpc_channel* channel;
  void* method;
  grpc_slice bytes;  // of the request

  void Begin(Call& c) {
    c.begun = Clock::now();
    c.call =
        grpc_channel_create_registered_call(channel, nullptr, GRPC_PROPAGATE_DEFAULTS, queue,
                                            method, gpr_inf_future(GPR_CLOCK_REALTIME), nullptr);
    grpc_metadata_array_init(&c.head);
    grpc_metadata_array_init(&c.tail);
    c.reply = nullptr;
    c.request = grpc_raw_byte_buffer_create(&bytes, 1);  // sending empties it
    std::array<grpc_op, 6> ops{};
    ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
    ops[1].op = GRPC_OP_SEND_MESSAGE;
    ops[1].data.send_message.send_message = c.request;
    ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
    ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
    ops[3].data.recv_initial_metadata.recv_initial_metadata = &c.head;
    ops[4].op = GRPC_OP_RECV_MESSAGE;
    ops[4].data.recv_message.recv_message = &c.reply;
    ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
    ops[5].data.recv_status_on_client.trailing_metadata = &c.tail;
    ops[5].data.recv_status_on_client.status = &c.status;
    ops[5].data.recv_status_on_client.status_details = &c.details;
    grpc_call_start_batch(c.call, ops.data(), ops.size(), &c, nullptr);
  }
  static void End(Call& c) {
    grpc_byte_buffer_destroy(c.request);
    if (c.reply) grpc_byte_buffer_destroy(c.reply);
    grpc_slice_unref(c.details);
    grpc_metadata_array_destroy(&c.head);
    grpc_metadata_array_destroy(&c.tail);
    grpc_call_unref(c.call);
  }
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 8) {
    fmt::print(stderr, "usage: {} ADDRESS MODEL INPUT FLOATS IN_FLIGHT SECONDS SERVER_PID\n",
               argv[0]);
    return 2;
  }
  const double seconds = std::atof(argv[6]);
  const std::string pid = argv[7];
  grpc_init();
  Load load{};
  load.queue = grpc_completion_queue_create_for_next(nullptr);
  grpc_arg unlimited{};
  unlimited.type = GRPC_ARG_INTEGER;
  unlimited.key = const_cast<char*>(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH);
  unlimited.value.integer = -1;
  const grpc_channel_args args{1, &unlimited};
  load.channel = grpc_channel_create(argv[1], grpc_insecure_credentials_create(), &args);
  load.method = grpc_channel_register_call(
      load.channel, "/inference.GRPCInferenceService/ModelInfer", nullptr, nullptr);
  const std::string bytes = Request(argv[2], argv[3], size_t(std::atoll(argv[4])));
  load.bytes = grpc_slice_from_copied_buffer(bytes.data(), bytes.size());

  std::vector<Call> calls(size_t(std::atoi(argv[5])));
  for (Call& c : calls) load.Begin(c);
  std::vector<double> micros;
  size_t bad = 0;
  const auto start = Clock::now();
  const auto warm = start + std::chrono::milliseconds(500);
  auto measured_from = start;
  double server = 0, client = 0;
  for (;;) {
    const grpc_event event =
        grpc_completion_queue_next(load.queue, gpr_inf_future(GPR_CLOCK_REALTIME), nullptr);
    Call& c = *static_cast<Call*>(event.tag);
    const auto now = Clock::now();
    if (now >= warm) {
      if (measured_from == start) {
        measured_from = now;
        server = CpuSeconds(pid);
        client = CpuSeconds("self");
      }
      micros.push_back(std::chrono::duration<double, std::micro>(now - c.begun).count());
      if (c.status != GRPC_STATUS_OK && bad++ == 0)
        fmt::print("first failure: {}\n", ToString(c.details));
      if (std::chrono::duration<double>(now - measured_from).count() > seconds) break;
    }
    Load::End(c);
    load.Begin(c);
  }
  const double took = std::chrono::duration<double>(Clock::now() - measured_from).count();
  const auto n = double(micros.size());
  std::sort(micros.begin(), micros.end());
  fmt::print(
      "in flight {}: {:.0f} req/s, server {:.1f} us CPU each, client {:.1f}, p50 {:.0f} us, p99 "
      "{:.0f} us, failed {}\n",
      calls.size(), n / took, (CpuSeconds(pid) - server) * 1e6 / n,
      (CpuSeconds("self") - client) * 1e6 / n, micros[micros.size() / 2],
      micros[micros.size() * 99 / 100], bad);
  std::fflush(stdout);
  ::_exit(bad > 0);  // what is in flight is nobody's business any more
}
