// A file that lines are appended to and that may be rotated from outside: rename it, then Reopen.
#pragma once

#include <memory>
#include <mutex>
#include <string>
#include <string_view>

#include "base/result.h"

namespace dunlin {

class AppendFile {
 public:
  // "-" is standard output, "" standard error. kInvalidArgument when the file cannot be opened.
  static Result<std::unique_ptr<AppendFile>> Open(std::string path);
  ~AppendFile();
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;

  // All of it in one piece. False when some of it could not be written (a full disk). Thread-safe,
  // as Reopen.
  bool Write(std::string_view text);
  // Opens the path anew; when that fails the old file stays in use.
  Status Reopen();
  const std::string& path() const { return path_; }

 private:
  AppendFile(std::string path, int fd) : path_(std::move(path)), fd_(fd) {}
  const std::string path_;
  std::mutex mutex_;
  int fd_;  // under mutex_
};

}  // namespace dunlin
