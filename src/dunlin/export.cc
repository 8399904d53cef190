// ONNX in, ONNX out.
#include <sys/stat.h>

#include <filesystem>

#include "dunlin/engine.h"
#include "formats/onnx.h"
#include "passes/passes.h"

namespace dunlin {
namespace {

bool SameFile(const std::string& a, const std::string& b) {
  struct stat x {
  }, y{};
  return ::stat(a.c_str(), &x) == 0 && ::stat(b.c_str(), &y) == 0 && x.st_dev == y.st_dev &&
         x.st_ino == y.st_ino;
}

}  // namespace

Result<WrittenModel> WriteOptimized(const std::string& from, const std::string& to,
                                    const ExportOptions& options,
                                    const std::string& external_data_dir) {
  auto file = TRY(Buffer::MapFile(from));
  const size_t slash = from.find_last_of('/');
  const std::string dir = !external_data_dir.empty()   ? external_data_dir
                          : slash == std::string::npos ? "."
                                                       : from.substr(0, slash + 1);
  std::error_code error;
  const auto real = std::filesystem::canonical(from, error);
  auto model =
      ImportOnnx({file->data(), file->bytes()}, file, dir,
                 {.real_dir = error ? std::string() : real.parent_path().string(), .fed = {}});
  if (!model) return FailAt(from, model.error());
  std::vector<std::string> sources = model->external_files;
  sources.push_back(from);
  for (const std::string& source : sources)
    for (const std::string& target : {to, to + ".data"})
      if (SameFile(source, target))
        return Fail(Code::kFailedPrecondition,
                    "'{}' is what the model is read from; give another file to write to", target);
  WrittenModel written;
  written.optimization = TRY(OptimizeForExport(*model->graph));
  written.file = TRY(ExportOnnx(*model, to, options));
  return written;
}

}  // namespace dunlin
