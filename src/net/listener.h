// A listening socket and the threads that serve its connections, whatever their protocol.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "base/result.h"
#include "net/worker.h"

namespace dunlin::net {

struct ListenerOptions {
  std::string name;  // of its threads and in the log
  std::string address = "0.0.0.0";
  int port = 0;             // 0: the system chooses
  bool reuse_port = false;  // several processes may listen
  int threads = 1;
  int max_connections = 4096;
};

class Listener {
 public:
  using MakeWorker = std::function<std::shared_ptr<Worker>(Worker::Place)>;

  // One worker per thread. kInvalidArgument, kUnavailable when the address cannot be had.
  static Result<std::unique_ptr<Listener>> Start(const ListenerOptions& options,
                                                 const MakeWorker& make_worker);
  // Closes every connection, whatever it is at.
  ~Listener();

  int port() const;
  // No new connections; the open ones are told to leave.
  void Drain();
  // After Drain: true when the last connection has gone, false when `timeout` came first.
  bool WaitUntilDrained(std::chrono::milliseconds timeout);

  struct Impl;

 private:
  explicit Listener(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace dunlin::net
