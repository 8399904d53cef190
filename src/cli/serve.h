// The flags of `dunlin serve`.
#pragma once

#include "server/server.h"

namespace dunlin::cli {

struct Commands;
void AddServe(Commands& commands, server::ServerOptions& options);

}  // namespace dunlin::cli
