// What the client reads out of replies.
#pragma once

#include "base/result.h"
#include "inference.pb.h"
#include "serve/call.h"
#include "serve/stats.h"

namespace dunlin::grpc {

// kInternal: a datatype nobody knows.
Result<serve::RemoteModel> ToRemoteModel(const inference::ModelMetadataResponse& response);
serve::ModelStatistics SumStatistics(const inference::ModelStatisticsResponse& response);

}  // namespace dunlin::grpc
