// A Remote that is asked over gRPC.
#pragma once

#include <memory>

#include "cli/infer_remote.h"
#include "http/client.h"

namespace dunlin::cli {

Result<std::unique_ptr<Remote>> ConnectGrpc(const http::ServerUrl& url,
                                            const http::ClientOptions& options);

}  // namespace dunlin::cli
