// Who may call what: Triton's restricted APIs (a shared header) and Dunlin's own tokens and client
// certificates with roles. Both front ends and the metrics port ask the same policy.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace dunlin::serve {

// gRPC's numbers, as those that Code lists.
inline constexpr Code kPermissionDenied{7}, kUnauthenticated{16};

// What a call is about. All but kMetrics are categories of the restricted APIs.
enum class ApiGroup : uint8_t {
  kHealth,
  kMetadata,
  kInference,
  kSharedMemory,
  kModelConfig,
  kModelRepository,
  kStatistics,
  kTrace,
  kLogging,
  kMetrics,
};

struct Caller {
  // The value of a header of the request; HTTP compares names without case, gRPC's metadata has
  // lower-case names and is asked for such. "" when there is none. Called during Check only.
  std::function<std::string_view(std::string_view name)> header;
  // The names of the verified client certificate, one per line (base/tls.h); "" without one.
  std::string_view peer_identity = {};
  bool grpc = false;
};

struct AccessOptions {
  // Triton's form: "group[,group…]:key=value"; a value "@FILE" stands in a file, out of sight of
  // `ps`.
  std::vector<std::string> http_restricted{}, grpc_restricted{};
  // Lines "token role[,role…] [name]"; "": no tokens. '#' begins a comment.
  std::string tokens_file{};
  // Lines "identity role[,role…]", the identity as a client certificate has it; "": none.
  std::string identities_file{};
  bool open_health = true;  // health is answered whoever asks, also when roles are in force
};

// Thread-safe.
class AccessPolicy {
 public:
  AccessPolicy();  // everybody may do everything
  ~AccessPolicy();
  // kInvalidArgument, kNotFound: what in which flag or line is wrong.
  static Result<std::unique_ptr<AccessPolicy>> Create(AccessOptions options);

  // One branch when nothing is restricted. Else kUnauthenticated (no or an unknown token),
  // kPermissionDenied (known, but without the role; for HTTP also a restricted group), and
  // kUnavailable for a restricted group over gRPC, as clients of Triton expect.
  Status Check(ApiGroup group, const Caller& caller) const {
    return unrestricted_ ? Status{} : CheckRestricted(group, caller);
  }
  // Reads the files again; when something is wrong with them, what was in force stays so.
  Status Reload();

 private:
  struct Restriction;
  struct Roles;
  Status CheckRestricted(ApiGroup group, const Caller& caller) const;
  Status CheckRoles(ApiGroup group, const Caller& caller) const;

  AccessOptions options_;
  bool unrestricted_ = true;
  std::vector<Restriction> http_, grpc_;
  mutable std::mutex mutex_;
  std::shared_ptr<const Roles> roles_;  // under mutex_; null: no roles in force
};

}  // namespace dunlin::serve
