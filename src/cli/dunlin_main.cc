#include "cli/app.h"

int main(int argc, char** argv) { return dunlin::cli::Main(argc, argv); }
