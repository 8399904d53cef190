#include "serve/access.h"

#include <algorithm>
#include <cctype>

#include "base/secret.h"

namespace dunlin::serve {
namespace {

struct GroupName {
  std::string_view name;
  ApiGroup group;
};
constexpr GroupName kGroups[] = {
    {"health", ApiGroup::kHealth},
    {"metadata", ApiGroup::kMetadata},
    {"inference", ApiGroup::kInference},
    {"shared-memory", ApiGroup::kSharedMemory},
    {"model-config", ApiGroup::kModelConfig},
    {"model-repository", ApiGroup::kModelRepository},
    {"statistics", ApiGroup::kStatistics},
    {"trace", ApiGroup::kTrace},
    {"logging", ApiGroup::kLogging},
};

enum Role : uint8_t { kInfer = 1, kAdmin = 2, kMetrics = 4 };
constexpr std::string_view kRoleNames = "infer, admin, metrics";

// Any of these roles opens the group.
uint8_t RolesOf(ApiGroup group) {
  switch (group) {
    case ApiGroup::kHealth:
      return kInfer | kAdmin | kMetrics;
    case ApiGroup::kMetadata:
    case ApiGroup::kInference:
    case ApiGroup::kModelConfig:
      return kInfer | kAdmin;
    case ApiGroup::kStatistics:
      return kInfer | kAdmin | kMetrics;
    case ApiGroup::kMetrics:
      return kAdmin | kMetrics;
    // A shared memory region names any object of this machine that the server may open, so naming
    // one is not left to everyone who may infer.
    case ApiGroup::kSharedMemory:
    case ApiGroup::kModelRepository:
    case ApiGroup::kTrace:
    case ApiGroup::kLogging:
      return kAdmin;
  }
  return kAdmin;
}

constexpr size_t kMinTokenLength = 16;
constexpr size_t kMaxEntries = 10000;  // each is compared with, for every request

std::vector<std::string_view> SplitWords(std::string_view line) {
  std::vector<std::string_view> words;
  constexpr std::string_view kSpace = " \t\r";
  for (size_t begin = 0; (begin = line.find_first_not_of(kSpace, begin)) != line.npos;) {
    const size_t end = std::min(line.find_first_of(kSpace, begin), line.size());
    words.push_back(line.substr(begin, end - begin));
    begin = end;
  }
  return words;
}

std::vector<std::string_view> SplitCommas(std::string_view list) {
  std::vector<std::string_view> parts;
  for (;;) {
    const size_t comma = list.find(',');
    parts.push_back(list.substr(0, comma));
    if (comma == list.npos) return parts;
    list.remove_prefix(comma + 1);
  }
}

std::string Lower(std::string_view text) {
  std::string out(text);
  for (char& c : out) c = char(std::tolower(static_cast<unsigned char>(c)));
  return out;
}

// `where` is file and line: the line itself may hold a secret.
Result<uint8_t> ParseRoles(std::string_view text, const std::string& where) {
  uint8_t roles = 0;
  for (const std::string_view role : SplitCommas(text)) {
    if (role == "infer")
      roles |= kInfer;
    else if (role == "admin")
      roles |= kAdmin;
    else if (role == "metrics")
      roles |= kMetrics;
    else
      return Fail(Code::kInvalidArgument, "{}: the second word must be a list of roles ({})", where,
                  kRoleNames);
  }
  return roles;
}

struct Line {
  std::string where;
  std::vector<std::string_view> words;
};
std::vector<Line> Lines(const std::string& file, std::string_view text) {
  std::vector<Line> lines;
  for (int number = 1; !text.empty(); ++number) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    auto words = SplitWords(line);
    if (words.empty() || words[0][0] == '#') continue;
    lines.push_back({fmt::format("{}:{}", file, number), std::move(words)});
  }
  return lines;
}

}  // namespace

struct AccessPolicy::Restriction {
  uint32_t groups = 0;  // bit per ApiGroup
  std::string flag_key;
  std::string header;
  Digest value;

  static Result<Restriction> Parse(const std::string& text, std::string_view flag,
                                   std::string_view header_prefix) {
    const size_t colon = text.find(':');
    const size_t equals = colon == text.npos ? text.npos : text.find('=', colon);
    if (equals == text.npos || equals == colon + 1 || equals + 1 == text.size())
      return Fail(Code::kInvalidArgument, "{} must be of the form <group>[,<group>…]:<key>=<value>",
                  flag);
    Restriction r;
    for (const std::string_view name : SplitCommas(std::string_view(text).substr(0, colon))) {
      const auto* it = std::find_if(std::begin(kGroups), std::end(kGroups),
                                    [&](const GroupName& g) { return g.name == name; });
      if (it == std::end(kGroups)) {
        std::string known;
        for (const GroupName& g : kGroups) known += fmt::format(" {}", g.name);
        return Fail(Code::kInvalidArgument, "{}: unknown group '{}', there are{}", flag, name,
                    known);
      }
      r.groups |= 1u << unsigned(it->group);
    }
    r.flag_key = text.substr(colon + 1, equals - colon - 1);
    r.header = Lower(std::string(header_prefix) + r.flag_key);
    std::string value = text.substr(equals + 1);
    if (value[0] == '@') {
      value = TRY(ReadSecretFile(value.substr(1)));
      value.erase(value.find_last_not_of("\r\n") + 1);
      if (value.empty())
        return Fail(Code::kInvalidArgument, "{}: the file of the value is empty", flag);
    }
    r.value = Sha256(value);
    return r;
  }
};

struct AccessPolicy::Roles {
  struct Token {
    Digest digest;
    uint8_t roles;
  };
  struct Identity {
    std::string name;
    uint8_t roles;
  };
  std::vector<Token> tokens;
  std::vector<Identity> identities;

  static Result<std::shared_ptr<const Roles>> Read(const AccessOptions& o) {
    auto roles = std::make_shared<Roles>();
    if (!o.tokens_file.empty()) {
      const std::string text = TRY(ReadSecretFile(o.tokens_file));
      for (const Line& line : Lines(o.tokens_file, text)) {
        if (line.words.size() < 2)
          return Fail(Code::kInvalidArgument, "{}: expected a token, its roles and a name",
                      line.where);
        if (line.words[0].size() < kMinTokenLength)
          return Fail(Code::kInvalidArgument,
                      "{}: a token of fewer than {} characters can be guessed", line.where,
                      kMinTokenLength);
        roles->tokens.push_back(
            {Sha256(line.words[0]), TRY(ParseRoles(line.words[1], line.where))});
      }
    }
    if (!o.identities_file.empty()) {
      const std::string text = TRY(ReadSmallFile(o.identities_file));
      for (const Line& line : Lines(o.identities_file, text)) {
        if (line.words.size() != 2)
          return Fail(Code::kInvalidArgument, "{}: expected an identity and its roles", line.where);
        roles->identities.push_back(
            {std::string(line.words[0]), TRY(ParseRoles(line.words[1], line.where))});
      }
    }
    if (std::max(roles->tokens.size(), roles->identities.size()) > kMaxEntries)
      return Fail(Code::kInvalidArgument, "more than {} tokens or identities", kMaxEntries);
    return std::shared_ptr<const Roles>(std::move(roles));
  }

  // The roles of whoever presents this; nothing when nobody knows it.
  uint8_t OfToken(std::string_view token) const {
    const Digest digest = Sha256(token);
    uint8_t found = 0;  // no early end: the time must not tell which
    for (const Token& t : tokens)
      found |= uint8_t(EqualInConstantTime(t.digest, digest) ? t.roles : 0);
    return found;
  }
  uint8_t OfIdentity(std::string_view names) const {
    uint8_t found = 0;
    while (!names.empty()) {
      const std::string_view name = names.substr(0, names.find('\n'));
      names.remove_prefix(std::min(names.size(), name.size() + 1));
      for (const Identity& i : identities)
        if (i.name == name) found |= i.roles;
    }
    return found;
  }
};

AccessPolicy::AccessPolicy() = default;
AccessPolicy::~AccessPolicy() = default;

Result<std::unique_ptr<AccessPolicy>> AccessPolicy::Create(AccessOptions options) {
  auto policy = std::make_unique<AccessPolicy>();
  for (const std::string& text : options.http_restricted)
    policy->http_.push_back(TRY(Restriction::Parse(text, "--http-restricted-api", "")));
  for (const std::string& text : options.grpc_restricted)
    policy->grpc_.push_back(
        TRY(Restriction::Parse(text, "--grpc-restricted-protocol", "triton-grpc-protocol-")));
  policy->options_ = std::move(options);
  TRY(policy->Reload());
  policy->unrestricted_ =
      policy->http_.empty() && policy->grpc_.empty() && policy->roles_ == nullptr;
  return policy;
}

Status AccessPolicy::Reload() {
  if (options_.tokens_file.empty() && options_.identities_file.empty()) return {};
  auto roles = TRY(Roles::Read(options_));
  const std::lock_guard lock(mutex_);
  roles_ = std::move(roles);
  return {};
}

Status AccessPolicy::CheckRestricted(ApiGroup group, const Caller& caller) const {
  const uint32_t bit = 1u << unsigned(group);
  for (const Restriction& r : caller.grpc ? grpc_ : http_) {
    if ((r.groups & bit) == 0) continue;
    if (EqualInConstantTime(Sha256(caller.header(r.header)), r.value)) continue;
    if (caller.grpc)
      return Fail(Code::kUnavailable, "This protocol is restricted, expecting header '{}'",
                  r.header);
    return Fail(kPermissionDenied, "This API is restricted, expecting header '{}'", r.flag_key);
  }
  return CheckRoles(group, caller);
}

Status AccessPolicy::CheckRoles(ApiGroup group, const Caller& caller) const {
  std::shared_ptr<const Roles> roles;
  {
    const std::lock_guard lock(mutex_);
    roles = roles_;
  }
  if (roles == nullptr || (group == ApiGroup::kHealth && options_.open_health)) return {};
  const std::string_view authorization = caller.header("authorization");
  constexpr std::string_view kBearer = "bearer ";
  uint8_t held = roles->OfIdentity(caller.peer_identity);
  if (Lower(authorization.substr(0, kBearer.size())) == kBearer) {
    std::string_view token = authorization.substr(kBearer.size());
    while (!token.empty() && token.front() == ' ') token.remove_prefix(1);
    held |= roles->OfToken(token);
  }
  if ((held & RolesOf(group)) != 0) return {};
  if (held != 0) return Fail(kPermissionDenied, "the caller's roles do not cover this call");
  if (authorization.empty() && caller.peer_identity.empty())
    return Fail(kUnauthenticated, "this call needs a bearer token{}",
                options_.identities_file.empty() ? "" : " or a client certificate");
  return Fail(kUnauthenticated, "the caller is not known");
}

}  // namespace dunlin::serve
