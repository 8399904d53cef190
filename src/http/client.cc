#include "http/client.h"

#include <simdjson.h>

#include <boost/asio/connect.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <charconv>
#include <cstring>
#include <optional>

#include "base/json_writer.h"
#include "http/json_read.h"
#include "http/message.h"
#include "serve/datatype.h"
#include "serve/wire.h"

namespace dunlin::http {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace wire = boost::beast::http;
using WireRequest = wire::request<wire::string_body>;
constexpr std::string_view kHeaderLength = "Inference-Header-Content-Length";

struct Address {
  std::string host, port;
};

Result<Address> ParseUrl(const std::string& url) {
  std::string_view rest = url;
  if (const size_t scheme = rest.find("://"); scheme != std::string_view::npos) {
    if (rest.substr(0, scheme) != "http")
      return Fail(Code::kInvalidArgument, "{}: only http:// is spoken", url);
    rest.remove_prefix(scheme + 3);
  }
  while (rest.ends_with('/')) rest.remove_suffix(1);
  Address address{std::string(rest), "8000"};
  // The last colon ends the host, unless it lies inside an IPv6 address's brackets.
  const size_t colon = rest.rfind(':');
  if (colon != std::string_view::npos && rest.find(']', colon) == std::string_view::npos) {
    address = {std::string(rest.substr(0, colon)), std::string(rest.substr(colon + 1))};
  }
  if (address.host.starts_with('[') && address.host.ends_with(']'))
    address.host = address.host.substr(1, address.host.size() - 2);
  int port = 0;
  const char* end = address.port.data() + address.port.size();
  const auto [at, error] = std::from_chars(address.port.data(), end, port);
  if (address.host.empty() || address.host.find_first_of("/?# ") != std::string::npos ||
      error != std::errc{} || at != end || port < 1 || port > 65535)
    return Fail(Code::kInvalidArgument, "{}: give a URL such as http://localhost:8000", url);
  return address;
}

// A path segment: everything but the unreserved characters of RFC 3986 as %XX.
std::string Escaped(std::string_view segment) {
  std::string out;
  for (const char c : segment) {
    if (std::isalnum(static_cast<unsigned char>(c)) ||
        std::string_view("-._~").find(c) != std::string_view::npos)
      out += c;
    else
      out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return out;
}

Code CodeOf(int status) {
  switch (status) {
    case 404:
      return Code::kNotFound;
    case 501:
      return Code::kUnimplemented;
    case 503:
      return Code::kUnavailable;
    default:
      return status < 500 ? Code::kInvalidArgument : Code::kInternal;
  }
}

// A whole answer. The body has kBodyPadding bytes more than `length`, for the JSON parser.
struct Answer {
  int status = 0;
  std::string body;
  size_t length = 0;
  std::string header_length;  // of kHeaderLength, "" when absent

  std::string_view text() const { return std::string_view(body).substr(0, length); }
};

// {"error": "…"}, or the body's beginning when it is something else.
std::string ErrorText(const Answer& answer) {
  JsonDocument document;
  if (const auto root = document.Parse(answer.text()); root) {
    std::string_view message;
    if ((*root)["error"].get(message) == simdjson::SUCCESS) return std::string(message);
  }
  return answer.length == 0 ? "no explanation" : std::string(answer.text().substr(0, 200));
}

Result<std::string> Text(JsonElement from, std::string_view key) {
  const JsonElement member = TRY(Member(from, key));
  return std::string(TRY(AsString(member)));
}

Result<simdjson::dom::array> Array(JsonElement from, std::string_view key) {
  const JsonElement member = TRY(Member(from, key));
  return AsArray(member);
}

Result<Dims> Shape(JsonElement from) {
  Dims dims;
  for (const JsonElement e : TRY(Array(from, "shape"))) {
    int64_t extent = 0;
    if (e.get(extent) != simdjson::SUCCESS)
      return Fail(Code::kInternal, "a shape is not of integers");
    dims.push_back(extent < 0 ? kUnknownDim : extent);
  }
  return dims;
}

Result<DType> Datatype(JsonElement from) {
  const std::string text = TRY(Text(from, "datatype"));
  const DType dtype = serve::FromProtocolName(text);
  if (dtype == DType::kUndefined) return Fail(Code::kInternal, "datatype '{}' is not known", text);
  return dtype;
}

Result<std::vector<PortInfo>> Ports(JsonElement metadata, std::string_view key) {
  std::vector<PortInfo> ports;
  for (const JsonElement e : TRY(Array(metadata, key))) {
    PortInfo port;
    port.name = TRY(Text(e, "name"));
    port.dtype = TRY(Datatype(e));
    port.dims = TRY(Shape(e));
    port.has_shape = true;
    port.dim_names.resize(port.dims.size());
    ports.push_back(std::move(port));
  }
  return ports;
}

Result<RemoteModel> ParseMetadata(std::string_view json) {
  JsonDocument document;
  const JsonElement root = TRY(document.Parse(json));
  RemoteModel remote;
  remote.name = TRY(Text(root, "name"));
  remote.inputs = TRY(Ports(root, "inputs"));
  remote.outputs = TRY(Ports(root, "outputs"));
  return remote;
}

// One JSON value into element `index`; false when it is not of type T.
template <class T>
bool Store(JsonElement e, T& to) {
  if constexpr (std::is_same_v<T, std::string>) {
    std::string_view v;
    if (e.get(v) != simdjson::SUCCESS) return false;
    to = std::string(v);
  } else if constexpr (std::is_same_v<T, bool>) {
    return e.get(to) == simdjson::SUCCESS;
  } else if constexpr (std::is_integral_v<T>) {
    std::conditional_t<std::is_signed_v<T>, int64_t, uint64_t> v = 0;
    if (e.get(v) != simdjson::SUCCESS || v != decltype(v)(T(v))) return false;
    to = T(v);
  } else {
    double v = 0;
    if (e.get(v) != simdjson::SUCCESS) return false;
    if constexpr (kIsHalf<T>)
      to = T(float(v));
    else
      to = T(v);
  }
  return true;
}

template <class T>
bool StoreAll(simdjson::dom::array array, T* to, int64_t& at, int64_t count) {
  for (const JsonElement e : array) {
    simdjson::dom::array inner;
    if (e.get(inner) == simdjson::SUCCESS) {
      if (!StoreAll(inner, to, at, count)) return false;
    } else if (at == count || !Store(e, to[at++])) {
      return false;
    }
  }
  return true;
}

Result<Tensor> FromJson(DType dtype, const Dims& dims, JsonElement output, size_t json_bytes) {
  const auto bad = [&] {
    return Fail(Code::kInternal, "data are not {} of {}", ToString(dims), DTypeName(dtype));
  };
  const simdjson::dom::array data = TRY(Array(output, "data"));
  // Every element takes at least two bytes of the text: no shape can claim more than was sent.
  const auto count = ElementCount(dims);
  if (!count || *count > int64_t(json_bytes / 2)) return bad();
  const Tensor t = TRY(Tensor::Create(dtype, dims));
  int64_t stored = 0;
  TRY(VisitDType(dtype, "data", [&]<class T>(TypeTag<T>) -> Status {
    if (!StoreAll(data, t.mut<T>(), stored, *count) || stored != *count) return bad();
    return {};
  }));
  return t;
}

Result<std::vector<NamedTensor>> ParseOutputs(std::string_view json, std::string_view binary) {
  JsonDocument document;
  const JsonElement root = TRY(document.Parse(json));
  std::vector<NamedTensor> tensors;
  for (const JsonElement e : TRY(Array(root, "outputs"))) {
    const std::string name = TRY(Text(e, "name"));
    const DType dtype = TRY(Datatype(e));
    const Dims dims = TRY(Shape(e));
    uint64_t bytes = 0;
    if (e["parameters"]["binary_data_size"].get(bytes) != simdjson::SUCCESS) {
      tensors.push_back({name, TRY(FromJson(dtype, dims, e, json.size()))});
      continue;
    }
    if (bytes > binary.size()) return Fail(Code::kInternal, "output '{}' is cut short", name);
    auto tensor = serve::TensorFromBytes(dtype, dims, binary.substr(0, bytes));
    if (!tensor) return FailAt(fmt::format("output '{}'", name), tensor.error());
    tensors.push_back({name, std::move(*tensor)});
    binary.remove_prefix(bytes);
  }
  return tensors;
}

// What a server says that does not speak the protocol.
template <class T>
Result<T> Understood(Result<T> parsed) {
  if (!parsed)
    return Fail(Code::kInternal, "the server's answer makes no sense: {}", parsed.error().message);
  return parsed;
}

std::string ModelPath(const std::string& model, const std::string& version) {
  return "/v2/models/" + Escaped(model) + (version.empty() ? "" : "/versions/" + Escaped(version));
}

}  // namespace

struct Client::Impl {
  Address address;
  ClientOptions options;
  asio::io_context io;
  beast::tcp_stream stream{io};
  beast::flat_buffer buffer;

  // Starts one asynchronous operation and waits for it, or for the timeout.
  template <class Start>
  Status Wait(std::string_view what, const Start& start) {
    beast::error_code result;
    stream.expires_after(options.timeout);
    start([&result](beast::error_code e, auto&&...) { result = e; });
    io.restart();
    io.run();
    if (!result) return {};
    if (result == beast::error::timeout)
      return Fail(Code::kDeadlineExceeded, "{}:{}: {} took longer than {} ms", address.host,
                  address.port, what, options.timeout.count());
    if (result == wire::error::body_limit)
      return Fail(Code::kResourceExhausted, "{}:{}: the answer is larger than {} bytes",
                  address.host, address.port, options.max_response_bytes);
    return Fail(Code::kUnavailable, "{}:{}: {}: {}; is the server running?", address.host,
                address.port, what, result.message());
  }

  Result<Answer> Exchange(WireRequest request) {
    request.set(wire::field::host, address.host);
    request.set(wire::field::user_agent, "dunlin");
    request.prepare_payload();
    TRY(Wait("sending", [&](auto&& done) { wire::async_write(stream, request, done); }));
    wire::response_parser<wire::string_body> parser;
    parser.body_limit(uint64_t(options.max_response_bytes));
    TRY(Wait("receiving", [&](auto&& done) { wire::async_read(stream, buffer, parser, done); }));
    auto response = parser.release();
    Answer answer;
    answer.status = int(response.result_int());
    answer.header_length = std::string(response[kHeaderLength]);
    answer.body = std::move(response.body());
    answer.length = answer.body.size();
    answer.body.append(kBodyPadding, '\0');
    if (answer.status != 200)
      return Fail(CodeOf(answer.status), "the server says: {}", ErrorText(answer));
    return answer;
  }
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Client> Client::Connect(const std::string& url, const ClientOptions& options) {
  auto impl = std::make_unique<Impl>();
  impl->address = TRY(ParseUrl(url));
  impl->options = options;
  asio::ip::tcp::resolver resolver(impl->io);
  beast::error_code error;
  const auto endpoints = resolver.resolve(impl->address.host, impl->address.port, error);
  if (error) return Fail(Code::kUnavailable, "{}: {}", impl->address.host, error.message());
  TRY(impl->Wait("connecting", [&](auto&& done) { impl->stream.async_connect(endpoints, done); }));
  return Client(std::move(impl));
}

Result<RemoteModel> Client::Metadata(const std::string& model, const std::string& version) {
  const Answer answer =
      TRY(impl_->Exchange(WireRequest(wire::verb::get, ModelPath(model, version), 11)));
  return Understood(ParseMetadata(answer.text()));
}

Result<std::vector<NamedTensor>> Client::Infer(const std::string& model, const std::string& version,
                                               std::span<const NamedTensor> inputs) {
  JsonWriter json;
  std::string binary;
  json.BeginObject().Key("inputs").BeginArray();
  for (const NamedTensor& input : inputs) {
    const Tensor& t = input.tensor;
    const std::string_view datatype = serve::ProtocolName(t.dtype());
    if (datatype.empty())
      return Fail(Code::kInvalidArgument, "input '{}': the protocol has no type for {}", input.name,
                  DTypeName(t.dtype()));
    const size_t before = binary.size();
    if (t.dtype() == DType::kString)
      binary += serve::StringBytes(t);
    else
      binary.append(reinterpret_cast<const char*>(t.raw()), size_t(t.bytes()));
    json.BeginObject().Key("name").String(input.name).Key("datatype").String(datatype);
    json.Key("shape").BeginArray();
    for (const int64_t extent : t.dims()) json.Number(extent);
    json.End().Key("parameters").BeginObject();
    json.Key("binary_data_size").Number(binary.size() - before).End().End();
  }
  json.End().Key("parameters").BeginObject().Key("binary_data_output").Bool(true);
  const std::string header = json.End().End().Take();

  WireRequest request(wire::verb::post, ModelPath(model, version) + "/infer", 11, header + binary);
  request.set(kHeaderLength, std::to_string(header.size()));
  request.set(wire::field::content_type, "application/octet-stream");
  const Answer answer = TRY(impl_->Exchange(std::move(request)));
  size_t length = answer.length;
  if (const std::string& text = answer.header_length; !text.empty()) {
    const char* end = text.data() + text.size();
    const auto [at, error] = std::from_chars(text.data(), end, length);
    if (error != std::errc{} || at != end || length > answer.length)
      return Fail(Code::kInternal, "the server's {} is wrong", kHeaderLength);
  }
  return Understood(ParseOutputs(answer.text().substr(0, length), answer.text().substr(length)));
}

}  // namespace dunlin::http
