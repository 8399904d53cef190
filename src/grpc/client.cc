#include "grpc/client.h"

#include <grpc/byte_buffer.h>
#include <grpc/byte_buffer_reader.h>
#include <grpc/grpc.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/time.h>

#include <array>
#include <fstream>
#include <sstream>

#include "grpc/client_wire.h"

namespace dunlin::grpc {
namespace {

Error ErrorOf(grpc_status_code status, const std::string& message) {
  switch (status) {
    case GRPC_STATUS_CANCELLED:
    case GRPC_STATUS_INVALID_ARGUMENT:
    case GRPC_STATUS_DEADLINE_EXCEEDED:
    case GRPC_STATUS_NOT_FOUND:
    case GRPC_STATUS_ALREADY_EXISTS:
    case GRPC_STATUS_PERMISSION_DENIED:
    case GRPC_STATUS_UNAUTHENTICATED:
    case GRPC_STATUS_RESOURCE_EXHAUSTED:
    case GRPC_STATUS_FAILED_PRECONDITION:
    case GRPC_STATUS_UNIMPLEMENTED:
    case GRPC_STATUS_UNAVAILABLE:
      return {Code(status), message};
    default:
      return {Code::kInternal, message};
  }
}

Result<std::string> ReadFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  if (!in || !(text << in.rdbuf())) return Fail(Code::kNotFound, "cannot read '{}'", path);
  return text.str();
}

Result<grpc_channel_credentials*> Credentials(const ClientOptions& options) {
  if (!options.use_tls) return grpc_insecure_credentials_create();
  const std::string ca =
      options.tls.ca_file.empty() ? std::string() : TRY(ReadFile(options.tls.ca_file));
  std::string key, certificate;
  grpc_ssl_pem_key_cert_pair pair{};
  if (!options.tls.certificate.empty()) {
    key = TRY(ReadFile(options.tls.key));
    certificate = TRY(ReadFile(options.tls.certificate));
    pair = {key.c_str(), certificate.c_str()};
  }
  return grpc_ssl_credentials_create(ca.empty() ? nullptr : ca.c_str(),
                                     pair.private_key ? &pair : nullptr, nullptr, nullptr);
}

std::string ToString(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
}

}  // namespace

struct Client::Impl {
  ~Impl() {
    if (channel) grpc_channel_destroy(channel);
    if (queue) {
      grpc_completion_queue_shutdown(queue);
      grpc_completion_queue_destroy(queue);
    }
    grpc_shutdown();
  }
  Result<std::string> Call(const std::string& path, const std::string& request);
  template <class Response, class Request>
  Result<Response> Ask(const std::string& method, const Request& request) {
    const std::string bytes =
        TRY(Call("/inference.GRPCInferenceService/" + method, request.SerializeAsString()));
    Result<Response> response;
    if (!response->ParseFromString(bytes))
      return Fail(Code::kInternal, "the answer to {} makes no sense", method);
    return response;
  }

  ClientOptions options;
  grpc_channel* channel = nullptr;
  grpc_completion_queue* queue = nullptr;
};

Result<std::string> Client::Impl::Call(const std::string& path, const std::string& request) {
  const gpr_timespec deadline = gpr_time_add(
      gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_millis(options.timeout.count(), GPR_TIMESPAN));
  const grpc_slice method = grpc_slice_from_static_buffer(path.data(), path.size());
  grpc_call* const call = grpc_channel_create_call(channel, nullptr, GRPC_PROPAGATE_DEFAULTS, queue,
                                                   method, nullptr, deadline, nullptr);
  grpc_slice bytes = grpc_slice_from_static_buffer(request.data(), request.size());
  grpc_byte_buffer* const sent = grpc_raw_byte_buffer_create(&bytes, 1);
  std::vector<grpc_metadata> headers;
  for (const auto& [name, value] : options.headers) {
    grpc_metadata& m = headers.emplace_back();
    m.key = grpc_slice_from_static_buffer(name.data(), name.size());
    m.value = grpc_slice_from_static_buffer(value.data(), value.size());
  }
  grpc_metadata_array head, tail;
  grpc_metadata_array_init(&head);
  grpc_metadata_array_init(&tail);
  grpc_byte_buffer* received = nullptr;
  grpc_status_code status = GRPC_STATUS_UNKNOWN;
  grpc_slice details = grpc_empty_slice();
  std::array<grpc_op, 6> ops{};
  ops[0].op = GRPC_OP_SEND_INITIAL_METADATA;
  ops[0].data.send_initial_metadata.count = headers.size();
  ops[0].data.send_initial_metadata.metadata = headers.data();
  ops[1].op = GRPC_OP_SEND_MESSAGE;
  ops[1].data.send_message.send_message = sent;
  ops[2].op = GRPC_OP_SEND_CLOSE_FROM_CLIENT;
  ops[3].op = GRPC_OP_RECV_INITIAL_METADATA;
  ops[3].data.recv_initial_metadata.recv_initial_metadata = &head;
  ops[4].op = GRPC_OP_RECV_MESSAGE;
  ops[4].data.recv_message.recv_message = &received;
  ops[5].op = GRPC_OP_RECV_STATUS_ON_CLIENT;
  ops[5].data.recv_status_on_client.trailing_metadata = &tail;
  ops[5].data.recv_status_on_client.status = &status;
  ops[5].data.recv_status_on_client.status_details = &details;
  const grpc_call_error error = grpc_call_start_batch(call, ops.data(), ops.size(), this, nullptr);
  if (error == GRPC_CALL_OK)  // it ends by the deadline at the latest
    grpc_completion_queue_pluck(queue, this, gpr_inf_future(GPR_CLOCK_MONOTONIC), nullptr);
  Result<std::string> reply;
  if (error == GRPC_CALL_ERROR_INVALID_METADATA) {
    reply = Fail(Code::kInvalidArgument, "a header has a name or value that gRPC does not allow");
  } else if (status != GRPC_STATUS_OK) {
    reply = Fail(ErrorOf(status, ToString(details)));
  } else if (grpc_byte_buffer_reader reader;
             received && grpc_byte_buffer_reader_init(&reader, received)) {
    for (grpc_slice slice; grpc_byte_buffer_reader_next(&reader, &slice);) {
      *reply += ToString(slice);
      grpc_slice_unref(slice);
    }
    grpc_byte_buffer_reader_destroy(&reader);
  } else {
    reply = Fail(Code::kInternal, "the server answered {} without a message", path);
  }
  if (received) grpc_byte_buffer_destroy(received);
  grpc_byte_buffer_destroy(sent);
  grpc_slice_unref(details);
  grpc_metadata_array_destroy(&head);
  grpc_metadata_array_destroy(&tail);
  grpc_call_unref(call);
  return reply;
}

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::Client(Client&&) noexcept = default;
Client& Client::operator=(Client&&) noexcept = default;
Client::~Client() = default;

Result<Client> Client::Connect(const std::string& address, const ClientOptions& options) {
  grpc_init();
  auto impl = std::make_unique<Impl>();
  impl->options = options;
  grpc_channel_credentials* const credentials = TRY(Credentials(options));
  if (!credentials) return Fail(Code::kInvalidArgument, "gRPC does not take the TLS files");
  std::array<grpc_arg, 3> args{};
  args[0].key = const_cast<char*>(GRPC_ARG_MAX_RECEIVE_MESSAGE_LENGTH);
  args[0].value.integer = options.max_response_bytes;
  args[1].key = const_cast<char*>(GRPC_ARG_MAX_SEND_MESSAGE_LENGTH);
  args[1].value.integer = -1;
  args[2].key = const_cast<char*>(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL);  // a connection of our own
  args[2].value.integer = 1;
  for (grpc_arg& a : args) a.type = GRPC_ARG_INTEGER;
  const grpc_channel_args all{args.size(), args.data()};
  impl->channel = grpc_channel_create(address.c_str(), credentials, &all);
  grpc_channel_credentials_release(credentials);
  impl->queue = grpc_completion_queue_create_for_pluck(nullptr);
  return Client(std::move(impl));
}

Result<serve::RemoteModel> Client::Metadata(const std::string& model, const std::string& version) {
  inference::ModelMetadataRequest request;
  request.set_name(model);
  request.set_version(version);
  const auto response = TRY(impl_->Ask<inference::ModelMetadataResponse>("ModelMetadata", request));
  return ToRemoteModel(response);
}

Result<std::vector<serve::CallResult>> Client::Infer(const serve::InferCall& call) {
  const std::string request = TRY(EncodeInfer(call));
  return ParseInferReply(TRY(impl_->Call("/inference.GRPCInferenceService/ModelInfer", request)));
}

Result<serve::ModelStatistics> Client::Statistics(const std::string& model,
                                                  const std::string& version) {
  inference::ModelStatisticsRequest request;
  request.set_name(model);
  request.set_version(version);
  return SumStatistics(
      TRY(impl_->Ask<inference::ModelStatisticsResponse>("ModelStatistics", request)));
}

Status Client::RegisterSharedMemory(const std::string& name, const std::string& key,
                                    uint64_t bytes) {
  inference::SystemSharedMemoryRegisterRequest request;
  request.set_name(name);
  request.set_key(key);
  request.set_byte_size(bytes);
  TRY(impl_->Ask<inference::SystemSharedMemoryRegisterResponse>("SystemSharedMemoryRegister",
                                                                request));
  return {};
}

Status Client::UnregisterSharedMemory(const std::string& name) {
  inference::SystemSharedMemoryUnregisterRequest request;
  request.set_name(name);
  TRY(impl_->Ask<inference::SystemSharedMemoryUnregisterResponse>("SystemSharedMemoryUnregister",
                                                                  request));
  return {};
}

}  // namespace dunlin::grpc
