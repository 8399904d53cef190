// The whole command line: flags to calls, results to exit codes.
#pragma once

namespace dunlin::cli {

int Main(int argc, char** argv);

}  // namespace dunlin::cli
