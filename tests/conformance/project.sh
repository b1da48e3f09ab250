#!/usr/bin/env bash
# The conformance bench's adapter: how authtap is started for its cases. Needs PROJECT_BIN, the built binary; the rest
# of the environment comes from the bench's targets/common.sh, beside which this file is put (or linked).
. "${CT_COMMON:-$(dirname "$0")/common.sh}"
BIN=${PROJECT_BIN:?set PROJECT_BIN to the built proxy}
conf() {
  cat >"$RUN/authtap.yaml" <<Y
version: 1
listen:
  - 127.0.0.1:$CT_HTTP
  - 127.0.0.1:$CT_H2C
  - { address: 127.0.0.1:$CT_PP, proxy_protocol: { trusted: [$CT_TRUSTED], required: on } }
  - address: 127.0.0.1:$CT_HTTPS
    tls:
      certificates:
        - { cert: $CERTS/a.crt, key: $CERTS/a.key }
        - { cert: $CERTS/b.crt, key: $CERTS/b.key }
upstream: http://127.0.0.1:$CT_UP
workers: 1
client_ip: { trusted_proxies: [$CT_TRUSTED/32] }
timeouts: { header: 5s, answer: 10s, connect: 2s }
limits: { body_idle: 5s, answer_idle: 10s, keep_alive_idle: 10s }
admin: off
sinks: [ { type: file, path: $RUN/events.jsonl } ]
routes:
  # Capture is on, so that what is measured is what people run.
  - id: login
    match: { method: POST, path: /login }
    actor: { login: [form.login, "json:/login"] }
    rules:
      - { when: { status: 30x }, outcome: success }
      - { when: { body: "password" }, outcome: failure }
    emit: { success: user.login.success, failure: user.login.failed }
Y
}
# gRPC has an application of its own, so it has an authtap of its own.
conf_grpc() {
  cat >"$RUN/grpc.yaml" <<Y
version: 1
listen: { address: 127.0.0.1:$CT_GRPC, tls: { cert: $CERTS/a.crt, key: $CERTS/a.key } }
upstream: { servers: http://127.0.0.1:$CT_GRPC_UP, protocol: h2 }
workers: 1
admin: off
sinks: []
Y
}
case "${1:-}" in
  up) conf; conf_grpc; "$BIN" --version >"$RUN/version"
      "$BIN" run --config "$RUN/authtap.yaml" --data "$RUN/data" >>"$RUN/out.log" 2>&1 & echo $! >"$RUN/pid"
      "$BIN" run --config "$RUN/grpc.yaml" --data "$RUN/grpc-data" >>"$RUN/grpc.log" 2>&1 & echo $! >"$RUN/kids"
      wait_port "$CT_HTTP"; wait_port "$CT_HTTPS"; wait_port "$CT_GRPC" ;;
  reload) kill -HUP "$(head -1 "$RUN/pid")" ;;
  down) stop_pid ;;
  *) echo "usage: $0 up|down|reload" >&2; exit 2 ;;
esac
