// The importer's fuzz target without libFuzzer: with any compiler, in any build.
//   fuzz_replay [--seconds N] [--seed S] FILE-or-FOLDER…
// Runs every file once, then changed ones for N seconds. What breaks stays in fuzz-finding.onnx.
#include <fcntl.h>
#include <fmt/core.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv);
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned seed);
extern "C" size_t LLVMFuzzerCustomCrossOver(const uint8_t* a, size_t a_size, const uint8_t* b,
                                            size_t b_size, uint8_t* out, size_t max_size,
                                            unsigned seed);

namespace {

namespace fs = std::filesystem;
using Bytes = std::vector<uint8_t>;

constexpr size_t kMaxBytes = 65536;
constexpr unsigned kMaxSeconds = 30;  // for one file, at both levels
std::mt19937 random_bits(1);
Bytes current;  // for the handler of signals

// Keeps the file that broke something, with calls that a signal handler may make.
void KeepFinding(int signal_number) {
  const int fd = ::creat("fuzz-finding.onnx", 0644);
  if (fd >= 0 && ::write(fd, current.data(), current.size()) >= 0) ::close(fd);
  ::signal(signal_number, SIG_DFL);
  ::raise(signal_number);
}

void Run(const Bytes& bytes) {
  current = bytes;
  ::alarm(kMaxSeconds);  // SIGALRM: it hangs
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
  ::alarm(0);
}

void Collect(const fs::path& path, std::vector<Bytes>& corpus) {
  std::vector<fs::path> files;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::recursive_directory_iterator(path))
      if (entry.is_regular_file() && entry.path().extension() == ".onnx")
        files.push_back(entry.path());
    std::sort(files.begin(), files.end());
  } else {
    files.push_back(path);
  }
  for (const fs::path& file : files) {
    std::ifstream in(file, std::ios::binary);
    Bytes bytes(std::istreambuf_iterator<char>(in), {});
    if (bytes.size() <= kMaxBytes) corpus.push_back(std::move(bytes));
  }
}

Bytes Changed(const std::vector<Bytes>& corpus) {
  Bytes bytes = corpus[random_bits() % corpus.size()];
  const size_t size = bytes.size();
  bytes.resize(kMaxBytes);
  if (random_bits() % 8 == 0) {
    const Bytes& other = corpus[random_bits() % corpus.size()];
    const Bytes first(bytes.begin(), bytes.begin() + long(size));
    const size_t joined = LLVMFuzzerCustomCrossOver(first.data(), size, other.data(), other.size(),
                                                    bytes.data(), kMaxBytes, random_bits());
    bytes.resize(joined > 0 ? joined : size);
    return bytes;
  }
  size_t now = size;
  for (size_t i = 0, n = 1 + random_bits() % 4; i < n; ++i)
    now = LLVMFuzzerCustomMutator(bytes.data(), now, kMaxBytes, random_bits());
  bytes.resize(now);
  return bytes;
}

}  // namespace

// What libFuzzer has of its own: some bytes change.
extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size) {
  switch (random_bits() % 4) {
    case 0:
      if (size < max_size) data[size++] = uint8_t(random_bits());
      break;
    case 1:
      if (size > 1) size -= 1 + random_bits() % std::min<size_t>(size - 1, 8);
      break;
    default:
      if (size > 0) data[random_bits() % size] = uint8_t(random_bits());
  }
  return size;
}

int main(int argc, char** argv) {
  LLVMFuzzerInitialize(&argc, &argv);
  double seconds = 0;
  std::vector<Bytes> corpus;
  for (int i = 1; i < argc; ++i) {
    const std::string arg = argv[i];
    if (arg == "--seconds" && i + 1 < argc)
      seconds = std::strtod(argv[++i], nullptr);
    else if (arg == "--seed" && i + 1 < argc)
      random_bits.seed(unsigned(std::strtoul(argv[++i], nullptr, 10)));
    else
      Collect(arg, corpus);
  }
  if (corpus.empty()) {
    fmt::print(stderr, "no files to start from\n");
    return 2;
  }
  for (const int s : {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGILL, SIGALRM, SIGTRAP})
    ::signal(s, KeepFinding);
  for (const Bytes& bytes : corpus) Run(bytes);
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  size_t runs = 0;
  for (; std::chrono::steady_clock::now() < end; ++runs) Run(Changed(corpus));
  fmt::print("{} files, {} changed ones: no finding\n", corpus.size(), runs);
  return 0;
}
