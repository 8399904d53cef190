// The requests that `dunlin perf` sends: made beforehand, sent in rotation, their answers compared
// with the first answer to the same request.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/infer_remote.h"
#include "cli/infer_shared.h"
#include "cli/inputs.h"
#include "cli/perf_loop.h"

namespace dunlin::cli {

struct WorkloadOptions {
  std::string model, version;
  CallParameters parameters;
  std::vector<std::string> wanted;  // outputs; empty: all
  // Extents may be ranges: "ids=1,8-128". Each request draws from them, and equal ranges draw
  // equal numbers, so that inputs of equal length stay so.
  InputOptions inputs;
  int payloads = 0;  // different requests; 0: as many as make sense
  bool shared_memory = false;
  uint32_t slots = 1;  // with shared memory each slot has a place of its own for its answers
  bool check = true;
  double tolerance = 1e-4;  // floats that differ by less, absolute or relative, are equal
};

class PerfWorkload final : public Workload {
 public:
  // Asks the server for the model, and with shared memory once for each answer, to learn its size.
  // Errors of the server are of stage kServer, those of inputs of kInput; `input_failed` tells.
  static Result<std::unique_ptr<PerfWorkload>> Create(Remote& remote,
                                                      const WorkloadOptions& options,
                                                      bool& input_failed);

  std::string_view Next(uint32_t slot) override;
  bool IsRight(const http::LoadAnswer& answer) override;
  std::string ErrorText(const http::LoadAnswer& answer) override;

  int64_t batch() const { return batch_; }  // items per request: the first extent, or 1
  size_t payloads() const { return calls_.size(); }
  uint64_t tensor_bytes() const { return tensor_bytes_; }  // of inputs, mean per request
  const std::vector<std::string>& notes() const { return notes_; }
  // Right answers whose bytes were not the first one's: within the tolerance.
  uint64_t rounded() const { return rounded_; }

 private:
  PerfWorkload(Remote& remote, const WorkloadOptions& options)
      : remote_(remote), options_(options) {}
  Status MakeCalls(const serve::RemoteModel& model, bool& input_failed);
  Status MakeShared(const serve::RemoteModel& model);
  bool IsRightShared(const http::LoadAnswer& answer);

  Remote& remote_;
  WorkloadOptions options_;
  std::vector<serve::InferCall> calls_;
  std::vector<std::string> requests_;  // one per payload; with shared memory one per slot
  std::vector<uint32_t> slot_payload_;
  uint32_t next_ = 0;
  // First answers, per payload: as they came, and their tensors once one differed.
  std::vector<std::optional<std::string>> first_;
  std::vector<std::vector<serve::CallResult>> first_outputs_;
  // With shared memory: expected bytes per payload and output, and where answers lie.
  std::optional<SharedRegion> input_region_, output_region_;
  std::vector<std::vector<std::string>> expected_;
  std::vector<uint64_t> output_offsets_;  // within a slot's place
  uint64_t slot_stride_ = 0;

  int64_t batch_ = 1;
  uint64_t tensor_bytes_ = 0;
  uint64_t rounded_ = 0;
  std::vector<std::string> notes_;
};

// "ids=1,8-128" with the range replaced by a number that depends on its text and `draw` alone.
Result<std::string> DrawShape(const std::string& shape, uint64_t draw);
bool HasRange(const std::string& shape);
// Same names, types, extents and values, floats within `tolerance`.
bool SameResults(const std::vector<serve::CallResult>& a, const std::vector<serve::CallResult>& b,
                 double tolerance);

}  // namespace dunlin::cli
