#include "cli/compare_data.h"

#include <algorithm>
#include <cstring>
#include <filesystem>

#include "cli/npy.h"

namespace dunlin::cli {
namespace {

namespace fs = std::filesystem;

Result<std::vector<fs::path>> Listed(const std::string& folder) {
  std::vector<fs::path> paths;
  std::error_code error;
  for (auto it = fs::directory_iterator(folder, error); !error && it != fs::directory_iterator();
       it.increment(error))
    if (!it->path().filename().string().starts_with('.')) paths.push_back(it->path());
  if (error) return Fail(Code::kNotFound, "cannot list '{}': {}", folder, error.message());
  std::ranges::sort(paths);
  return paths;
}

// The one input that files without a name are for; nullptr: there is none, or several.
const PortInfo* OnlyInput(std::span<const PortInfo> ports) {
  const auto required = [](const PortInfo& p) { return !p.optional; };
  if (std::ranges::count_if(ports, required) != 1) return nullptr;
  return &*std::ranges::find_if(ports, required);
}

}  // namespace

Result<DataSets> DataSets::Create(std::span<const PortInfo> ports, const InputOptions& base,
                                  const DataOptions& data) {
  DataSets d;
  d.ports_.assign(ports.begin(), ports.end());
  d.base_ = base;
  for (const std::string& path : data.paths) TRY(d.AddPath(path));
  const int random = data.paths.empty() ? std::max(1, data.random) : data.random;
  for (int i = 0; i < random; ++i)
    d.sets_.push_back({.label = fmt::format("seed {}", base.seed + uint64_t(i)),
                       .files = {},
                       .seed = base.seed + uint64_t(i),
                       .cut = {}});
  if (d.sets_.empty()) return Fail(Code::kInvalidArgument, "--data names no file");
  return d;
}

Status DataSets::AddPath(const std::string& path) {
  std::error_code error;
  if (!fs::is_directory(path, error)) return AddFile(path);
  for (const fs::path& entry : TRY(Listed(path))) {
    if (!fs::is_directory(entry, error)) {
      TRY(AddFile(entry.string()));
      continue;
    }
    Set set{.label = entry.string(), .files = {}, .seed = base_.seed, .cut = {}};
    for (const fs::path& file : TRY(Listed(entry.string())))
      set.files.push_back(file.stem().string() + "=" + file.string());
    sets_.push_back(std::move(set));
  }
  return {};
}

Status DataSets::AddFile(const std::string& path) {
  std::error_code error;
  if (!fs::exists(path, error))
    return Fail(Code::kNotFound, "--data {}: there is no such file", path);
  const PortInfo* port = OnlyInput(ports_);
  if (port == nullptr)
    return Fail(Code::kInvalidArgument,
                "--data {}: the model has {} inputs; put a file INPUT.npy for each into a folder "
                "per set, and give the folder that holds those",
                path, ports_.size());
  const Set whole{.label = path, .files = {port->name + "=" + path}, .seed = base_.seed, .cut = {}};
  if (path.ends_with(".npy") && port->has_shape && !port->dims.empty()) {
    open_ = TRY(ReadNpy(path));
    open_path_ = path;
    const int64_t own = port->dims[0];
    const int64_t rows = IsKnown(own) ? own : std::max<int64_t>(1, base_.batch);
    if (open_.rank() == port->dims.rank() && rows > 0 && open_.dims()[0] > rows) {
      if (IsKnown(own) && open_.dims()[0] % rows != 0)
        return Fail(Code::kInvalidArgument,
                    "--data {}: its {} rows are no multiple of the model's {}", path,
                    open_.dims()[0], rows);
      for (int64_t first = 0; first < open_.dims()[0]; first += rows) {
        const int64_t count = std::min(rows, open_.dims()[0] - first);
        sets_.push_back({fmt::format("{}[{}:{}]", path, first, first + count),
                         {},
                         base_.seed,
                         path,
                         first,
                         count});
      }
      return {};
    }
  }
  sets_.push_back(whole);
  return {};
}

Result<Tensor> DataSets::Rows(const Set& set) {
  if (open_path_ != set.cut) {
    open_ = TRY(ReadNpy(set.cut));
    open_path_ = set.cut;
  }
  Dims dims = open_.dims();
  const int64_t row_bytes = open_.bytes() / dims[0];
  dims[0] = set.rows;
  return Tensor::Over(open_.dtype(), dims, open_.buffer(),
                      open_.offset() + size_t(set.first * row_bytes))
      .Clone();
}

Result<Inputs> DataSets::Get(size_t i) {
  const Set& set = sets_[i];
  InputOptions options = base_;
  options.seed = set.seed;
  options.files.insert(options.files.end(), set.files.begin(), set.files.end());
  if (set.cut.empty()) return MakeInputs(ports_, options);
  Tensor rows = TRY(Rows(set));
  const PortInfo* port = OnlyInput(ports_);
  // Of these extents, so that those of other inputs follow; the numbers are the file's.
  std::string shape = port->name + "=";
  for (int d = 0; d < rows.rank(); ++d)
    shape += (d ? "," : "") + std::to_string(rows.dims()[size_t(d)]);
  options.shapes.push_back(shape);
  Inputs inputs = TRY(MakeInputs(ports_, options));
  for (NamedTensor& t : inputs.tensors)
    if (t.name == port->name) t.tensor = rows;
  inputs.notes.clear();
  return inputs;
}

}  // namespace dunlin::cli
