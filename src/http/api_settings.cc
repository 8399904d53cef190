// The trace and logging extensions: settings that change while the server runs.
#include "base/json_writer.h"
#include "base/log.h"
#include "http/api.h"
#include "http/json_read.h"

namespace dunlin::http {
namespace {

Result<simdjson::dom::object> ParseObject(JsonDocument& document, std::string_view body) {
  const JsonElement root = TRY(document.Parse(body));
  auto object = AsObject(root);
  if (!object)
    return Fail(Code::kInvalidArgument, "failed to parse the request JSON buffer: {}",
                object.error().message);
  return object;
}

// A setting as gRPC has it: a list of strings, empty to clear it.
Result<std::vector<std::string>> Strings(std::string_view key, JsonElement value) {
  Result<std::vector<std::string>> strings;
  if (value.is_null()) return strings;
  simdjson::dom::array array;
  if (value.get(array) != simdjson::SUCCESS) {
    auto text = AsString(value);
    if (!text) return UnableToParse(key, text.error());
    strings->emplace_back(*text);
    return strings;
  }
  for (const JsonElement e : array) {
    auto text = AsString(e);
    if (!text) return UnableToParse(key, text.error());
    strings->emplace_back(*text);
  }
  return strings;
}

}  // namespace

Result<Reply> Api::TraceSetting(const Route& route, const Request& request) const {
  TRY(service_.CheckTracedModel(route.model));
  if (request.method == "POST") {
    JsonDocument document;
    serve::Tracer::Settings changes;
    for (const auto [key, value] : TRY(ParseObject(document, request.body)))
      changes.emplace_back(key, TRY(Strings(key, value)));
    TRY(service_.tracer.Update(route.model, changes));
  }
  JsonWriter json;
  json.BeginObject();
  for (const auto& [name, values] : service_.tracer.Get(route.model)) {
    json.Key(name);
    if (name != "trace_level") {
      json.String(values.empty() ? "" : values[0]);
      continue;
    }
    json.BeginArray();
    for (const std::string& v : values) json.String(v);
    json.End();
  }
  json.End();
  return JsonReply(json.Take());
}

Result<Reply> Api::Logging(const Request& request) const {
  if (request.method == "POST") {
    JsonDocument document;
    log::Change change;
    for (const auto [key, value] : TRY(ParseObject(document, request.body))) {
      if (value.is_null()) continue;
      if (key == "log_info")
        change.info = TRY(AsBool(value));
      else if (key == "log_warning")
        change.warning = TRY(AsBool(value));
      else if (key == "log_error")
        change.error = TRY(AsBool(value));
      else if (key == "log_verbose_level")
        change.verbose_level = uint32_t(std::min<uint64_t>(TRY(AsUnsigned(value)), UINT32_MAX));
      else if (key == "log_format")
        change.format = std::string(TRY(AsString(value)));
      else if (key == "log_file")
        change.file = true;
    }
    TRY(log::Apply(change));
  }
  const log::Options now = log::Current();
  JsonWriter json;
  json.BeginObject().Key("log_file").String(log::FilePath());
  json.Key("log_info").Bool(now.info).Key("log_warning").Bool(now.warning);
  json.Key("log_error").Bool(now.error).Key("log_verbose_level").Number(now.verbose);
  json.Key("log_format").String(log::FormatName(now.format)).End();
  return JsonReply(json.Take());
}

}  // namespace dunlin::http
