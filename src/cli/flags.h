// What the declarations of flags share. CLI11 is heavy to compile: only the few files that declare
// flags include this.
#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <string>

#include "base/result.h"
#include "cli/exit.h"

namespace dunlin::cli {

template <class T>
using Names = std::map<std::string, T>;

// A validator whose rule is not repeated in the help's column of types.
inline CLI::Validator Quiet(CLI::Validator validator) { return validator.description(""); }

template <class T>
void Choice(CLI::App* app, const std::string& name, T& value, const Names<T>& names,
            const std::string& help) {
  std::string list;
  for (const auto& [word, unused] : names) list += (list.empty() ? "" : "|") + word;
  const auto set = [&value, names, name, list](const std::string& word) {
    const auto it = names.find(word);
    if (it == names.end())
      throw CLI::ValidationError(name, fmt::format("'{}' is none of {}", word, list));
    value = it->second;
  };
  app->add_option_function<std::string>(name, set, help)->type_name(list);
}

using Command = std::function<Status(Stage&)>;
struct Commands {
  CLI::App* app;
  std::map<CLI::App*, Command> calls;

  CLI::App* Add(const std::string& name, const std::string& about, const std::string& examples,
                Command call) {
    CLI::App* sub = app->add_subcommand(name, about);
    sub->footer("Examples:\n" + examples);
    calls.emplace(sub, std::move(call));
    return sub;
  }
};

}  // namespace dunlin::cli
