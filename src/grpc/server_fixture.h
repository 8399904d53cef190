// For tests: a server over models that do what they are told (serve/fake_backend.h).
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <thread>

#include "grpc/server.h"
#include "serve/fake_backend.h"

namespace dunlin::grpc {

class ServerTest : public testing::Test {
 protected:
  void SetUp() override {
    disk_.Write("m/1/model.onnx", "in x f32 -1,2\nout y f32 -1,2\nadd 1\n");
    disk_.Write("m/config.pbtxt", "max_batch_size: 0");
    disk_.Write("text/1/model.onnx", "in s string 2\nout t string 2\n");
    repository_ = std::make_unique<serve::Repository>(
        serve::RepositoryOptions{.repositories = {disk_.path()}},
        std::make_unique<serve::FakeBackend>(counters_), metrics_);
    ASSERT_TRUE(repository_->Start());
    warm_ = counters_->executions;
  }
  void TearDown() override {
    counters_->hold = false;
    server_.reset();
  }
  void Start(ServerOptions options = {}) {
    service_ = std::make_unique<serve::Service>(serve::Service{.repository = *repository_,
                                                               .shared_memory = shared_memory_,
                                                               .metrics = metrics_,
                                                               .tracer = tracer_,
                                                               .access = access_,
                                                               .access_log = access_log_,
                                                               .stopping = stopping_});
    options.address = "127.0.0.1";
    auto server = Server::Start(options, *service_);
    ASSERT_TRUE(server.has_value()) << server.error().message;
    server_ = std::move(*server);
  }
  // Warm-up executed before.
  void WaitUntilRunning() {
    for (int i = 0; i < 10000 && counters_->executions == warm_; ++i)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  serve::TempRepository disk_;
  std::shared_ptr<serve::FakeCounters> counters_ = std::make_shared<serve::FakeCounters>();
  serve::Metrics metrics_;
  serve::Tracer tracer_;
  serve::AccessPolicy access_;
  serve::AccessLog access_log_;
  serve::SharedMemory shared_memory_{{.allow = true}};
  std::atomic<bool> stopping_{false};
  std::unique_ptr<serve::Repository> repository_;
  std::unique_ptr<serve::Service> service_;
  std::unique_ptr<Server> server_;
  int warm_ = 0;
};

}  // namespace dunlin::grpc
