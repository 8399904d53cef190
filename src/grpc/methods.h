// The unary methods but ModelInfer: from the bytes of a request to those of its reply. No
// transport.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "serve/access.h"
#include "serve/service.h"

namespace dunlin::grpc {

inline constexpr std::string_view kInferPath = "/inference.GRPCInferenceService/ModelInfer";
inline constexpr std::string_view kStreamPath = "/inference.GRPCInferenceService/ModelStreamInfer";
inline constexpr std::string_view kWatchPath = "/grpc.health.v1.Health/Watch";

// Called once, with the bytes of the reply.
using MethodDone = std::function<void(Result<std::string>)>;

struct Method {
  std::string_view path;  // "/inference.GRPCInferenceService/ServerLive"
  serve::ApiGroup group;
  // `done` is called here or later, on another thread. Thread-safe.
  void (*handle)(const serve::Service& service, std::string_view request, MethodDone done);
};

std::span<const Method> Methods();
// Null when there is no such method.
const Method* FindMethod(std::string_view path);

// Protobuf complains on stderr about what clients send; from now on in the log, if that is verbose.
void RouteProtobufLog();

// What the health service says of `name`; kNotFound for services that are not here.
Result<bool> IsServing(const serve::Service& service, std::string_view name);
// The reply of the health service.
std::string HealthReply(bool serving);
std::string UnknownServiceReply();  // of Watch
// The service a health request asks for. kInvalidArgument: no such request.
Result<std::string> ParseHealthRequest(std::string_view request);

}  // namespace dunlin::grpc
