// One inference on its way from a message to its reply, for calls and streams alike.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "grpc/call.h"
#include "serve/trace.h"

namespace dunlin::grpc {

class Inference {
 public:
  explicit Inference(ReplyForm form) : form_(form) {}

  // Reads the message and finds the model. `call` is whose deadline, headers and cancellation hold.
  Result<serve::InferRequest> Prepare(Core& core, Call& call,
                                      std::shared_ptr<ReceivedMessage> message);
  void Submit(serve::InferRequest request, serve::InferCallback done) {
    model_->Submit(std::move(request), std::move(done));
  }
  // The framed reply. On any thread.
  Result<Message> Write(const Core& core, Result<serve::InferResponse> response, Encoding encoding);

  const std::string& id() const { return id_; }  // the client's, once it is read
  void Sent();                                   // the reply has left

 private:
  Result<serve::InferRequest> Read(Core& core, Call& call,
                                   std::shared_ptr<ReceivedMessage> message);

  const ReplyForm form_;
  std::string id_;
  std::shared_ptr<serve::ModelVersion> model_;
  std::vector<OutputForm> forms_;
  std::shared_ptr<serve::Trace> trace_;
};

}  // namespace dunlin::grpc
