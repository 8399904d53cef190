#include "dunlin/tune_file.h"

#include <fcntl.h>
#include <simdjson.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/json_writer.h"

namespace dunlin {
namespace {

constexpr std::string_view kFormat = "dunlin-tune-1";
constexpr size_t kMostBytes = 64 << 20;  // a hundred thousand choices

using Json = simdjson::dom::element;

Result<Measured> ParseChoice(Json json, std::string& key) {
  std::string_view text, way;
  simdjson::dom::object times;
  if (json["key"].get(text) || json["way"].get(way) || json["microseconds"].get(times))
    return Fail(Code::kInvalidArgument, "a choice lacks key, way or microseconds");
  Measured m{std::string(way), {}};
  for (const auto& [name, value] : times) {
    double t = 0;
    if (value.get(t)) return Fail(Code::kInvalidArgument, "the time of '{}' is no number", name);
    m.times.push_back({std::string(name), t});
  }
  key = text;
  return m;
}

Result<TuneTable> Parse(const std::string& text) {
  simdjson::dom::parser parser;
  Json json;
  std::string_view format, cpu;
  simdjson::dom::array choices;
  if (const auto error = parser.parse(text).get(json))
    return Fail(Code::kInvalidArgument, "not JSON ({})", simdjson::error_message(error));
  if (json["format"].get(format) || format != kFormat)
    return Fail(Code::kInvalidArgument, "not a file of measurements of the format {}", kFormat);
  if (json["cpu"].get(cpu) || cpu != CpuModel())
    return Fail(Code::kInvalidArgument, "measured on another CPU, '{}'", cpu);
  if (json["choices"].get(choices)) return Fail(Code::kInvalidArgument, "it has no choices");
  TuneTable table;
  for (const Json choice : choices) {
    std::string key;
    Measured m = TRY(ParseChoice(choice, key));
    table[key] = std::move(m);
  }
  return table;
}

std::string Write(const TuneTable& table) {
  JsonWriter json;
  json.BeginObject().Key("format").String(kFormat).Key("cpu").String(CpuModel());
  json.Key("choices").BeginArray();
  for (const auto& [key, m] : table) {
    json.BeginObject().Key("key").String(key).Key("way").String(m.way);
    json.Key("microseconds").BeginObject();
    for (const WayTime& t : m.times) json.Key(t.way).Double(t.microseconds);
    json.End().End();
  }
  return json.End().End().text() + '\n';
}

// Held by one writer at a time, so that none loses what another adds. Where the file system has no
// locks, that may be measured again.
class FolderLock {
 public:
  explicit FolderLock(const std::string& folder)
      : fd_(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) {
    if (fd_ >= 0) ::flock(fd_, LOCK_EX);
  }
  ~FolderLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  const int fd_;
};

}  // namespace

std::string CpuModel() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);)
    if (line.starts_with("model name"))
      if (const size_t colon = line.find(": "); colon != std::string::npos)
        return line.substr(colon + 2);
  return "unknown";
}

Result<std::string> DefaultTuneFile() {
  const auto variable = [](const char* name) -> std::string {
    const char* value = std::getenv(name);
    return value == nullptr ? "" : value;
  };
  std::string dir = variable("XDG_CACHE_HOME");
  if (dir.empty() && !variable("HOME").empty()) dir = variable("HOME") + "/.cache";
  if (dir.empty())
    return Fail(Code::kNotFound,
                "neither XDG_CACHE_HOME nor HOME is set; name a file for the measurements");
  uint64_t hash = 0xcbf29ce484222325;  // FNV-1a
  for (const char c : CpuModel()) hash = (hash ^ uint8_t(c)) * 0x100000001b3;
  return fmt::format("{}/dunlin/tune-{:016x}.json", dir, hash);
}

Result<TuneTable> ReadTuneFile(const std::string& path) {
  // Opened once: a writer may put another file in its place meanwhile.
  errno = 0;
  std::ifstream file(path, std::ios::binary);
  if (!file.is_open() && errno == ENOENT) return TuneTable{};
  std::string text;
  char part[1 << 14];
  while (file.read(part, sizeof part), file.gcount() > 0) {
    text.append(part, size_t(file.gcount()));
    if (text.size() > kMostBytes)
      return Fail(Code::kInvalidArgument, "{}: too large for a file of measurements", path);
  }
  if (!file.eof())
    return Fail(Code::kUnavailable, "{}: cannot be read: {}", path, std::strerror(errno));
  auto table = Parse(text);
  if (!table) return FailAt(path, table.error());
  return table;
}

Status MergeIntoTuneFile(const std::string& path, const TuneTable& table) {
  const std::filesystem::path parent = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (!parent.empty()) std::filesystem::create_directories(parent, error);
  const FolderLock lock(parent.empty() ? "." : parent.string());
  TuneTable merged = TRY(ReadTuneFile(path));
  for (const auto& [key, m] : table) merged[key] = m;
  std::string beside = path + ".XXXXXX";
  const int fd = ::mkstemp(beside.data());
  if (fd < 0) return Fail(Code::kUnavailable, "{}: {}", path, std::strerror(errno));
  const std::string text = Write(merged);
  const bool written = ::write(fd, text.data(), text.size()) == ssize_t(text.size());
  const bool closed = ::close(fd) == 0;
  if (written && closed && ::rename(beside.c_str(), path.c_str()) == 0) return {};
  const int reason = errno;
  ::unlink(beside.c_str());
  return Fail(Code::kUnavailable, "{}: cannot be written: {}", path, std::strerror(reason));
}

}  // namespace dunlin
