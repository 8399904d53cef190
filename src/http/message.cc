#include "http/message.h"

#include "base/json_writer.h"
#include "serve/access.h"

namespace dunlin::http {

int HttpStatus(Code code) {
  if (code == serve::kUnauthenticated) return 401;
  if (code == serve::kPermissionDenied) return 403;
  switch (code) {
    case Code::kInternal:
      return 500;
    case Code::kNotFound:
      return 404;
    case Code::kUnavailable:
    case Code::kResourceExhausted:
    case Code::kDeadlineExceeded:
      return 503;
    case Code::kUnimplemented:
      return 501;
    case Code::kInvalidArgument:
    case Code::kAlreadyExists:
    case Code::kCancelled:
    case Code::kFailedPrecondition:
      return 400;
  }
  return 500;
}

std::string_view ReasonPhrase(int status) {
  switch (status) {
    case 200:
      return "OK";
    case 400:
      return "Bad Request";
    case 401:
      return "Unauthorized";
    case 403:
      return "Forbidden";
    case 404:
      return "Not Found";
    case 405:
      return "Method Not Allowed";
    case 408:
      return "Request Timeout";
    case 413:
      return "Payload Too Large";
    case 431:
      return "Request Header Fields Too Large";
    case 500:
      return "Internal Server Error";
    case 501:
      return "Not Implemented";
    case 503:
      return "Service Unavailable";
    default:
      return "Unknown";
  }
}

Reply JsonReply(std::string json) {
  Reply reply;
  reply.content_type = "application/json";
  reply.body = std::move(json);
  return reply;
}

Reply ErrorReply(int status, std::string_view message) {
  Reply reply = JsonReply(JsonWriter().BeginObject().Key("error").String(message).End().Take());
  reply.status = status;
  return reply;
}

Reply ErrorReply(const Error& error) {
  Reply reply = ErrorReply(HttpStatus(error.code), error.message);
  if (reply.status == 401) reply.headers.emplace_back("WWW-Authenticate", "Bearer");
  return reply;
}

}  // namespace dunlin::http
