#!/usr/bin/env python3
"""A load that shows a build what it will be used for: requests that no route is about, logins, new
connections, TLS and HTTP/2. For profile-guided optimisation; scripts/release.sh calls it.

    bench/train.py --authtap target/instrumented/authtap --start start.profraw

Before the load it is started and ended once for itself, which --start names the profile of.

Needs openssl, for a certificate. HTTP/2 is left out where Debian's nghttp2-client is not installed.
"""

import argparse
import contextlib
import os
import pathlib
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading

from instructions import application, send, sign_in

CONFIG = """
version: 1
listen:
  - 127.0.0.1:0
  - {{ address: "127.0.0.1:{tls}", tls: {{ cert: {folder}/cert.pem, key: {folder}/key.pem }} }}
upstream: http://127.0.0.1:{application}
client_ip: {{ trusted_proxies: [127.0.0.0/8] }}
workers: 1
routes:
  - id: login
    match: {{ method: POST, path: /login }}
    actor: {{ email: [form.email] }}
    rules: [{{ when: {{ status: 30x }}, outcome: success }}, {{ when: {{ status: 200 }}, outcome: failure }}]
    emit: {{ success: user.login.success, failure: user.login.failed }}
sinks: [{{ type: file, path: {folder}/events.jsonl }}]
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def over_tls(port, folder, count):
    """So many handshakes with a few requests each."""
    context = ssl.create_default_context(cafile=f"{folder}/cert.pem")
    for _ in range(count):
        with context.wrap_socket(socket.create_connection(("127.0.0.1", port)), server_hostname="localhost") as connection:
            for number in range(5):
                connection.sendall(f"GET /items/{number} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n".encode())
                received = b""
                while len(received.partition(b"\r\n\r\n")[2]) < 1024:
                    received += connection.recv(65536)


@contextlib.contextmanager
def running(command, **more):
    """The program, and its ports; ends it, which writes its profile."""
    proxy = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, **more)
    ports = []
    for line in proxy.stderr:
        found = re.search(r"listening.*?127\.0\.0\.1:(\d+)", line)
        if found:
            ports.append(int(found.group(1)))
        if len(ports) == 2:
            break
    else:
        sys.exit("the program does not start: it ended with " + str(proxy.wait()))
    threading.Thread(target=proxy.stderr.read, daemon=True).start()
    try:
        yield ports
    finally:
        proxy.terminate()
    if proxy.wait(60) != 0:
        sys.exit("the program did not end well: no profile was written")


def load(port, tls, folder):
    """What the program is used for."""
    together = [threading.Thread(target=send, args=(port, 4000)) for _ in range(8)]
    together.append(threading.Thread(target=sign_in, args=(port, 6400)))
    for one in together:
        one.start()
    for one in together:
        one.join()
    for _ in range(2000):
        send(port, 1)
    over_tls(tls, folder, 300)
    if shutil.which("h2load"):
        subprocess.run(["h2load", "-n20000", "-c8", "-m8", f"https://127.0.0.1:{tls}/items/1"], check=True, capture_output=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--authtap", required=True, help="the instrumented program")
    parser.add_argument("--start", required=True, help="where the profile of its start goes")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        certificate = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        certificate += ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", f"{folder}/key.pem", "-out", f"{folder}/cert.pem"]
        subprocess.run(certificate, check=True, capture_output=True)
        tls = free_port()
        file = pathlib.Path(folder, "routes.yaml")
        file.write_text(CONFIG.format(folder=folder, tls=tls, application=application()))
        command = [options.authtap, "run", "--config", str(file), "--data", f"{folder}/data", "--admin", "off"]
        with running(command, env={**os.environ, "LLVM_PROFILE_FILE": options.start}):
            pass
        with running(command) as ports:
            load(next(port for port in ports if port != tls), tls, folder)


if __name__ == "__main__":
    main()
