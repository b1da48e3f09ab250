#!/usr/bin/env python3
"""Instructions that authtap spends on a request, counted by valgrind, so that a busy machine makes no
difference: one that no route is about, with nothing to match, with every preset, and with 500 routes;
and one that is a captured login, thread by thread, with the store off and on.

    bench/instructions.py --authtap target/quick/authtap [--scenarios pass,login]

Needs Debian's valgrind; takes some three minutes. Exit code 3 if presets or routes cost more than the
goal of 3 %. Threads are told apart by the names of functions, so a stripped build shows their sum only.
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
# So many logins are under way at once, as on a busy site; and beyond the first 2,000 answers, which are
# looked at for a preset to suggest.
LOGINS_AT_ONCE, FEW_LOGINS, MANY_LOGINS = 32, 2560, 6144
# A function that only this thread has.
THREADS = {
    "pipeline": "authtap::pipeline::Pipeline::events_of",
    "store": "store::writer::Writer::write",
    "sink": "sinks::file::Log",
    "traffic": "authtap::proxy::handler",
    "control": "deliver::feeder",
}


def application():
    """Answers every GET with one kilobyte and every POST as a login that succeeded, from memory."""
    listener = socket.create_server(("127.0.0.1", 0))
    page = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\n\r\n" + b"k" * 1024
    signed_in = b"HTTP/1.1 302 Found\r\nLocation: /dashboard\r\nSet-Cookie: sid=5f2c9d0e4b7a41d8; HttpOnly; Path=/\r\nContent-Length: 0\r\n\r\n"

    def serve(connection):
        received = b""
        while data := connection.recv(65536):
            received += data
            while b"\r\n\r\n" in received:
                head, _, rest = received.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head, re.I)
                body = int(length.group(1)) if length else 0
                if len(rest) < body:
                    break
                received = rest[body:]
                connection.sendall(signed_in if head.startswith(b"POST") else page)

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


def sign_in(port, count):
    """So many logins of different people, LOGINS_AT_ONCE at a time."""
    connections = [socket.create_connection(("127.0.0.1", port)) for _ in range(LOGINS_AT_ONCE)]
    for first in range(0, count, LOGINS_AT_ONCE):
        for place, connection in enumerate(connections):
            number = first + place
            body = f"email=person{number}%40example.test&password=not-a-secret&csrf=0123456789abcdef"
            head = f"POST /login HTTP/1.1\r\nHost: app.example.test\r\nUser-Agent: {AGENT}\r\n"
            head += f"Content-Type: application/x-www-form-urlencoded\r\nX-Forwarded-For: 81.{number % 3}.{number % 251}.{number % 199}\r\n"
            connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        for connection in connections:
            received = b""
            while b"\r\n\r\n" not in received:
                data = connection.recv(65536)
                if not data:
                    sys.exit("the proxy closed the connection")
                received += data


def count(program, config, requests, load=send):
    """Instructions of each thread in one whole run of the proxy, by its name or number."""
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
        load(port, requests)
        proxy.terminate()
        proxy.wait()
        counted = {}
        for one in sorted(out.parent.glob("callgrind.out-*")):
            text = one.read_text()
            names = [name for name, function in THREADS.items() if re.search(rf"^c?fn=.*{re.escape(function)}", text, re.M)]
            name = names[0] if names else "others"
            counted[name] = counted.get(name, 0) + int(re.search(r"^(?:summary|totals): (\d+)", text, re.M).group(1))
        return counted


def passed(options):
    """What a request costs that no route is about; true if presets or routes cost too much."""
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
        each = max(many[name] - few.get(name, 0) for name in many) / (MANY - FEW)
        base = base or each
        missed |= each / base > GOAL
        print(f"| {name} | {each:,.0f} | {each / base:.3f} |", flush=True)
    return missed


def logins(options):
    """What a captured login costs, thread by thread."""
    print("| durability | " + " | ".join(THREADS) + " | all |\n| --- |" + " ---: |" * (len(THREADS) + 1))
    # Under valgrind all is some fifty times slower: intervals must be longer for a commit to hold as much.
    for durability in ("memory", "interval 1s"):
        config = f"""
version: 1
listen: 127.0.0.1:0
upstream: http://127.0.0.1:{application()}
workers: 1
durability: {durability}
client_ip: {{ trusted_proxies: [127.0.0.0/8] }}
routes:
  - {{ id: login, match: {{ method: POST, path: /login }}, actor: {{ email: form.email }}, when: {{ status: 302 }}, emit: user.login.success }}
sinks:
  - {{ type: file, path: events.jsonl }}
"""
        few, many = (count(options.authtap, config, n, sign_in) for n in (FEW_LOGINS, MANY_LOGINS))
        each = {name: (many[name] - few.get(name, 0)) / (MANY_LOGINS - FEW_LOGINS) for name in many}
        shown = " | ".join(f"{each.get(name, 0):,.0f}" for name in THREADS)
        print(f"| {durability} | {shown} | {sum(each.values()):,.0f} |", flush=True)


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--authtap", required=True)
    arguments.add_argument("--scenarios", default="pass,login")
    options = arguments.parse_args()
    options.authtap = str(pathlib.Path(options.authtap).resolve())
    wanted = options.scenarios.split(",")
    missed = "pass" in wanted and passed(options)
    if "login" in wanted:
        logins(options)
    sys.exit(3 if missed else 0)


if __name__ == "__main__":
    main()
