#include "grpc/call.h"

#include <grpc/byte_buffer.h>
#include <grpc/grpc_security.h>
#include <grpc/slice.h>
#include <grpc/support/alloc.h>
#include <grpc/support/time.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/check.h"

namespace dunlin::grpc {
namespace {

// Clients take some 8 KB of metadata, and a byte may become three there.
constexpr size_t kMaxDetails = 2000;

std::string_view View(const grpc_slice& slice) {
  return {reinterpret_cast<const char*>(GRPC_SLICE_START_PTR(slice)), GRPC_SLICE_LENGTH(slice)};
}

std::string PeerIdentityOf(grpc_call* call) {
  std::string names;
  grpc_auth_context* const context = grpc_call_auth_context(call);
  if (!context) return names;
  for (const char* property : {GRPC_X509_CN_PROPERTY_NAME, GRPC_X509_SAN_PROPERTY_NAME}) {
    auto it = grpc_auth_context_find_properties_by_name(context, property);
    while (const grpc_auth_property* p = grpc_auth_property_iterator_next(&it)) {
      if (!names.empty()) names += '\n';
      names.append(p->value, p->value_length);
    }
  }
  grpc_auth_context_release(context);
  return names;
}

// An owner of bytes that the transport refers to.
void DropTensor(void* tensor) { delete static_cast<Tensor*>(tensor); }

}  // namespace

void Core::AddLasting(const std::shared_ptr<Call>& call) {
  const std::lock_guard lock(mutex);
  std::erase_if(lasting, [](const auto& c) { return c.expired(); });
  lasting.push_back(call);
}

void Core::NotifyLasting() {
  std::vector<std::shared_ptr<Call>> alive;
  {
    const std::lock_guard lock(mutex);
    for (const auto& c : lasting)
      if (auto call = c.lock()) alive.push_back(std::move(call));
  }
  for (const auto& call : alive) call->OnNotify();
}

AcceptedCall::AcceptedCall() { grpc_metadata_array_init(&metadata); }

AcceptedCall::AcceptedCall(AcceptedCall&& other) noexcept
    : call(std::exchange(other.call, nullptr)),
      metadata(other.metadata),
      deadline(other.deadline),
      payload(std::exchange(other.payload, nullptr)) {
  grpc_metadata_array_init(&other.metadata);
}

AcceptedCall::~AcceptedCall() {
  if (payload) grpc_byte_buffer_destroy(payload);
  grpc_metadata_array_destroy(&metadata);
  if (call) grpc_call_unref(call);
}

Result<std::shared_ptr<ReceivedMessage>> ReceivedMessage::Take(const Core& core,
                                                               grpc_byte_buffer* buffer) {
  // The constructor is private: make_shared cannot call it.
  std::shared_ptr<ReceivedMessage> message(new ReceivedMessage(buffer));
  if (buffer->data.raw.compression != GRPC_COMPRESS_NONE) {
    TRY(message->Inflate(size_t(core.options.max_message_size)));
    message->pieces_.push_back(message->inflated_);
  } else {
    const grpc_slice_buffer& slices = buffer->data.raw.slice_buffer;
    message->pieces_.reserve(slices.count);
    for (size_t i = 0; i < slices.count; ++i) message->pieces_.push_back(View(slices.slices[i]));
  }
  return message;
}

ReceivedMessage::~ReceivedMessage() { grpc_byte_buffer_destroy(buffer_); }

size_t ReceivedMessage::bytes() const {
  size_t all = 0;
  for (const std::string_view p : pieces_) all += p.size();
  return all;
}

Status Lease::Take(Core& core, size_t bytes) {
  const int64_t all = core.inflight_bytes.fetch_add(int64_t(bytes)) + int64_t(bytes);
  core_ = &core;
  bytes_ = int64_t(bytes);
  if (all <= core.options.max_inflight_size) return {};
  return Fail(Code::kResourceExhausted,
              "requests in progress would take {} bytes, at most {} are allowed: try again later",
              all, core.options.max_inflight_size);
}

Lease::~Lease() {
  if (core_) core_->inflight_bytes.fetch_sub(bytes_);
}

Status ReceivedMessage::Inflate(size_t most) {
  const bool gzip = buffer_->data.raw.compression == GRPC_COMPRESS_GZIP;
  if (!gzip && buffer_->data.raw.compression != GRPC_COMPRESS_DEFLATE)
    return Fail(Code::kUnimplemented, "Unsupported compression type");
  constexpr size_t kStep = size_t{64} << 10;
  z_stream z{};
  DUNLIN_CHECK(::inflateInit2(&z, gzip ? 15 + 16 : 15) == Z_OK, "zlib does not start");
  int state = Z_OK;
  const grpc_slice_buffer& slices = buffer_->data.raw.slice_buffer;
  for (size_t i = 0; i < slices.count && state == Z_OK; ++i) {
    z.next_in = GRPC_SLICE_START_PTR(slices.slices[i]);
    z.avail_in = uInt(GRPC_SLICE_LENGTH(slices.slices[i]));
    do {
      const size_t have = inflated_.size();
      if (have > most) break;
      inflated_.resize(have + kStep);
      z.next_out = reinterpret_cast<Bytef*>(inflated_.data()) + have;
      z.avail_out = uInt(kStep);
      state = ::inflate(&z, Z_NO_FLUSH);
      inflated_.resize(have + kStep - z.avail_out);
    } while (state == Z_OK && (z.avail_in > 0 || z.avail_out == 0));
    if (state == Z_BUF_ERROR && z.avail_in == 0) state = Z_OK;  // wants the next slice
  }
  ::inflateEnd(&z);
  if (inflated_.size() > most)
    return Fail(Code::kResourceExhausted, "the message is larger than {} bytes when decompressed",
                most);
  if (state != Z_STREAM_END)
    return Fail(Code::kInvalidArgument, "the message cannot be decompressed");
  return {};
}

std::string ReceivedMessage::Flat() const {
  std::string all;
  for (const std::string_view p : pieces_) all += p;
  return all;
}

grpc_byte_buffer* ToByteBuffer(Message message) {
  std::vector<grpc_slice> slices;
  slices.reserve(2 * message.size());
  for (MessagePart& part : message) {
    if (!part.text.empty())
      slices.push_back(grpc_slice_from_copied_buffer(part.text.data(), part.text.size()));
    if (const auto bytes = size_t(part.tensor.bytes()); bytes > 0) {
      auto* owner = new Tensor(std::move(part.tensor));
      slices.push_back(grpc_slice_new_with_user_data(owner->raw(), bytes, DropTensor, owner));
    }
  }
  grpc_byte_buffer* buffer = grpc_raw_byte_buffer_create(slices.data(), slices.size());
  for (const grpc_slice& s : slices) grpc_slice_unref(s);
  return buffer;
}

Call::Call(Core& core, AcceptedCall accepted, std::string_view path)
    : core_(core), accepted_(std::move(accepted)) {
  core_.calls.fetch_add(1);
  details_ = grpc_empty_slice();
  if (!core_.service.access_log.enabled()) return;
  note_ = std::make_unique<Note>();
  note_->path = path;
}

void Call::NoteRequest(size_t bytes, std::string_view model, std::string_view id,
                       std::string trace_id) {
  if (!note_) return;
  note_->bytes_in += int64_t(bytes);
  const std::lock_guard lock(note_->mutex);
  note_->model = model;
  note_->id = id;
  note_->trace_id = std::move(trace_id);
}

void Call::WriteAccessLog() {
  char* const peer = grpc_call_get_peer(accepted_.call);
  core_.service.access_log.Write({.peer = peer,
                                  .method = note_->model,
                                  .path = note_->path,
                                  .status = note_->status,
                                  .bytes_in = note_->bytes_in,
                                  .bytes_out = note_->bytes_out,
                                  .duration = serve::Clock::now() - note_->begun,
                                  .request_id = note_->id,
                                  .trace_id = note_->trace_id});
  gpr_free(peer);
}

Call::~Call() {
  if (note_) WriteAccessLog();
  ReleaseMessage();
  grpc_slice_unref(details_);
  { const AcceptedCall gone = std::move(accepted_); }
  // Last, and under the lock: whoever waits may end gRPC and the core at once.
  const std::lock_guard lock(core_.mutex);
  if (core_.calls.fetch_sub(1) == 1) core_.none_left.notify_all();
}

std::string_view Call::Header(std::string_view name) const {
  for (size_t i = 0; i < accepted_.metadata.count; ++i)
    if (View(accepted_.metadata.metadata[i].key) == name)
      return View(accepted_.metadata.metadata[i].value);
  return {};
}

void Call::ForwardHeaders(serve::InferRequest& request) const {
  if (!core_.options.header_forward.any()) return;
  for (size_t i = 0; i < accepted_.metadata.count; ++i) {
    const grpc_metadata& m = accepted_.metadata.metadata[i];
    const std::string_view name = View(m.key);
    const bool is_binary = name.size() > 4 && name.substr(name.size() - 4) == "-bin";
    if (!is_binary) core_.options.header_forward.Add(name, View(m.value), request);
  }
}

Status Call::CheckAccess(serve::ApiGroup group) const {
  serve::Caller caller;
  caller.header = [this](std::string_view name) { return Header(name); };
  caller.grpc = true;
  std::string identity;
  if (core_.options.tls && !core_.options.tls->files().client_ca.empty()) {
    identity = PeerIdentityOf(accepted_.call);
    caller.peer_identity = identity;
  }
  return core_.service.access.Check(group, caller);
}

serve::TimePoint Call::Deadline() const {
  const gpr_timespec deadline = accepted_.deadline;
  if (gpr_time_cmp(deadline, gpr_inf_future(deadline.clock_type)) >= 0)
    return serve::TimePoint::max();
  const gpr_timespec left = gpr_time_sub(deadline, gpr_now(deadline.clock_type));
  if (left.tv_sec > int64_t{100} * 366 * 24 * 3600) return serve::TimePoint::max();
  return serve::Clock::now() + std::chrono::seconds(left.tv_sec) +
         std::chrono::nanoseconds(left.tv_nsec);
}

void Call::BeginBatch(Step& step, std::span<const grpc_op> ops, Step::Function then) {
  step.step_ = then;
  step.call_ = shared_from_this();
  const grpc_call_error error = grpc_call_start_batch(accepted_.call, ops.data(), ops.size(),
                                                      static_cast<Event*>(&step), nullptr);
  DUNLIN_CHECK(error == GRPC_CALL_OK, "a batch of operations that gRPC does not take");
}

grpc_op Call::CloseOp() {
  grpc_op op{};
  op.op = GRPC_OP_RECV_CLOSE_ON_SERVER;
  op.data.recv_close_on_server.cancelled = &close_cancelled_;
  return op;
}

void Call::OnClosed(bool) {
  if (close_cancelled_ == 0) return;
  cancelled_.store(true, std::memory_order_relaxed);
  OnCancelled();
}

grpc_op Call::InitialMetadataOp(Compression level) const {
  grpc_op op{};
  op.op = GRPC_OP_SEND_INITIAL_METADATA;
  if (level != Compression::kNone) {
    auto& wanted = op.data.send_initial_metadata.maybe_compression_level;
    wanted.is_set = 1;
    wanted.level = level == Compression::kLow      ? GRPC_COMPRESS_LEVEL_LOW
                   : level == Compression::kMedium ? GRPC_COMPRESS_LEVEL_MED
                                                   : GRPC_COMPRESS_LEVEL_HIGH;
  }
  return op;
}

grpc_op Call::StatusOp(const Status& status) {
  grpc_op op{};
  op.op = GRPC_OP_SEND_STATUS_FROM_SERVER;
  auto& out = op.data.send_status_from_server;
  out.status = status ? GRPC_STATUS_OK : grpc_status_code(status.error().code);
  if (note_) note_->status = out.status;
  if (!status) {
    const std::string_view text = std::string_view(status.error().message).substr(0, kMaxDetails);
    details_ = grpc_slice_from_copied_buffer(text.data(), text.size());
    out.status_details = &details_;
  }
  return op;
}

grpc_op Call::MessageOp(Message message) {
  ReleaseMessage();
  if (note_) note_->bytes_out += int64_t(MessageBytes(message));
  sending_ = ToByteBuffer(std::move(message));
  grpc_op op{};
  op.op = GRPC_OP_SEND_MESSAGE;
  op.data.send_message.send_message = sending_;
  return op;
}

void Call::ReleaseMessage() {
  if (sending_) grpc_byte_buffer_destroy(sending_);
  sending_ = nullptr;
}

}  // namespace dunlin::grpc
