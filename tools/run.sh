#!/bin/bash
# From a bare machine to a server that answers.
#   tools/run.sh [--port 8000] [--seconds N]      metrics are served on the next but one port
source "$(dirname "$0")/step.sh"
port=8000 seconds=0
while [[ $# -gt 0 ]]; do
  case $1 in
    --port) port=$2 && shift 2 ;;
    --seconds) seconds=$2 && shift 2 ;;
    *) die "unknown option '$1'" ;;
  esac
done
[[ $port =~ ^[0-9]+$ && $port -ge 1 && $port -le 65533 ]] || die "PORT=$port: give a number from 1 to 65533"
[[ $seconds =~ ^[0-9]+$ ]] || die "SECONDS=$seconds: give a whole number"
dunlin=build/release/dunlin
repository=build/models
url=http://localhost:$port

busy() { (exec 3<>"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
check_ports() {
  local p
  for p in "$port" $((port + 2)); do
    busy "$p" && die "port $p is in use: stop that program, or choose another with 'make run PORT=9000'"
  done
  return 0
}

lay_out_tiny() {
  tools/tiny_repository.sh "$repository"
}

fetch_samples() {
  "$dunlin" models fetch --dir "$repository" && return
  echo "the sample models could not be fetched: the server starts with the model that ships with Dunlin, tiny_fashion"
}

wait_until_ready() {
  local i
  for ((i = 0; i < 600; i++)); do
    kill -0 "$server" 2>/dev/null || { wait "$server" || true; die "the server ended before it was ready, see above"; }
    curl -sf -o /dev/null "$url/v2/health/ready" && return
    sleep 0.2
  done
  die "the server was not ready after 120 s"
}

# name, version, state and, when it did not load, why
list_models() {
  curl -sf -X POST "$url/v2/repository/index" | /usr/bin/python3 -c '
import json, sys
for model in json.load(sys.stdin):
    print("  {:24} {:>3}  {} {}".format(*(model.get(key, "") for key in ("name", "version", "state", "reason"))))'
}

show() {
  cat <<TEXT

Models:
$(list_models)

Served:
  $url/v2                       inference, Open Inference Protocol v2 over HTTP
  $url/v2/models/tiny_fashion   inputs and outputs of one model
  localhost:$((port + 1))                             the same over gRPC
  http://localhost:$((port + 2))/metrics                  Prometheus metrics

Try, in another terminal in this folder:

  curl -s $url/v2/models/tiny_fashion/infer -d @assets/tiny_fashion_request.json
  $dunlin infer $url tiny_fashion --input assets/tiny_fashion_boot.png --top-k 3 --labels assets/tiny_fashion_labels.txt

Stop with Ctrl-C.
TEXT
}

server=
stop() {
  trap - INT TERM HUP EXIT
  [[ -n $server ]] || return 0
  kill -TERM "$server" 2>/dev/null || true
  wait "$server" || die "the server ended with code $?"
}

step "Debian packages" tools/setup.sh build run
step "ports" check_ports
tools/build.sh release dunlin
step "shipped model" lay_out_tiny
step "sample models" fetch_samples
say "server"
# In a session of its own: Ctrl-C reaches this shell, which asks the server once, and waits while it finishes.
setsid "$dunlin" serve --model-repository "$repository" --http-port "$port" --grpc-port $((port + 1)) \
  --metrics-port $((port + 2)) --exit-on-error false --strict-readiness false --log-info false &
server=$!
trap 'echo "stopping"; stop; echo "stopped"; exit 0' INT TERM HUP
trap stop EXIT
wait_until_ready
show
if [[ $seconds -gt 0 ]]; then
  sleep "$seconds" &
  wait $! || true
  stop
  echo "stopped after $seconds s, as asked"
else
  wait "$server"
fi
