#!/usr/bin/env python3
"""Instructions that authtap spends on a request that no route is about, with nothing to match, with
every preset, and with 500 routes: counted by valgrind, so that a busy machine makes no difference.

    bench/instructions.py --authtap target/release/authtap

Needs Debian's valgrind; takes some three minutes. Exit code 3 if presets or routes cost more than the
goal of 3 %.
"""

import argparse
import json
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time

PATHS = ["/", "/items/42", "/static/app.css", "/api/v1/orders?page=2", "/blog/2026/11/22/a-title", "/search?q=shoes"]
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
FEW, MANY = 1000, 8000
GOAL = 1.03


def application():
    """Answers every GET with one kilobyte, from memory."""
    listener = socket.create_server(("127.0.0.1", 0))
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + b"k" * 1024

    def serve(connection):
        received = b""
        while data := connection.recv(65536):
            received += data
            while b"\r\n\r\n" in received:
                _, _, received = received.partition(b"\r\n\r\n")
                connection.sendall(answer)

    def accept():
        while True:
            threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1]


def send(port, count):
    """So many requests, one after the other, on one connection."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for number in range(count):
        path = PATHS[number % len(PATHS)]
        head = f"GET {path} HTTP/1.1\r\nHost: app.example.test\r\nUser-Agent: {AGENT}\r\nAccept: */*\r\nCookie: theme=dark; lang=en\r\n\r\n"
        connection.sendall(head.encode())
        received = b""
        while b"\r\n\r\n" not in received or len(received.partition(b"\r\n\r\n")[2]) < 1024:
            data = connection.recv(65536)
            if not data:
                sys.exit("the proxy closed the connection")
            received += data


def count(program, config, requests):
    """Instructions of each thread in one whole run of the proxy."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder, "routes.yaml")
        file.write_text(config)
        out = pathlib.Path(folder, "callgrind.out")
        command = ["valgrind", "--tool=callgrind", "--separate-threads=yes", f"--callgrind-out-file={out}", program, "run", "--config", str(file)]
        command += ["--data", str(pathlib.Path(folder, "data")), "--admin", "off"]
        proxy = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env={"AUTHTAP_LOG_FORMAT": "json", "PATH": "/usr/bin:/bin"})
        port = None
        for line in proxy.stderr:
            found = re.search(r'"message":"listening".*?127\.0\.0\.1:(\d+)', line)
            if found:
                port = int(found.group(1))
                break
        if port is None:
            sys.exit("authtap did not start")
        threading.Thread(target=proxy.stderr.read, daemon=True).start()
        send(port, requests)
        proxy.terminate()
        proxy.wait()
        threads = sorted(out.parent.glob("callgrind.out-*"))
        return [int(re.search(r"^(?:summary|totals): (\d+)", one.read_text(), re.M).group(1)) for one in threads]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--authtap", required=True)
    options = arguments.parse_args()
    listed = subprocess.run([options.authtap, "presets", "--json"], capture_output=True, text=True, check=True).stdout
    presets = [json.loads(line)["name"] for line in listed.splitlines()]
    start = f"version: 1\nlisten: 127.0.0.1:0\nupstream: http://127.0.0.1:{application()}\nworkers: 1\nauto: off\nsinks: []\n"
    route = "  - {{ id: r{0}, match: {{ method: POST, path: /section/{0}/login }}, actor: {{ login: form.username }}, when: {{ status: 302 }}, emit: user.login.success }}\n"
    # A route of its own: without any, nothing at all looks at a request.
    cases = {
        "one route": start + "routes:\n" + route.format(0),
        f"{len(presets)} presets": start + f"presets: [{', '.join(presets)}]\nroutes:\n" + route.format(0),
        "500 routes": start + "routes:\n" + "".join(route.format(n) for n in range(500)),
        "500 routes and the presets": start + f"presets: [{', '.join(presets)}]\nroutes:\n" + "".join(route.format(n) for n in range(500)),
    }
    base, missed = None, False
    print("| with | instructions a request | × one route |\n| --- | ---: | ---: |")
    for name, config in cases.items():
        few, many = count(options.authtap, config, FEW), count(options.authtap, config, MANY)
        # The traffic thread is the one that works more; what others do goes by time, not by requests.
        each = max(after - before for before, after in zip(few, many)) / (MANY - FEW)
        base = base or each
        missed |= each / base > GOAL
        print(f"| {name} | {each:,.0f} | {each / base:.3f} |", flush=True)
    sys.exit(3 if missed else 0)


if __name__ == "__main__":
    main()
