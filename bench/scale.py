#!/usr/bin/env python3
"""The figures of authtap that side_by_side.py does not measure, each against its goal.

    scale.py SUBCOMMAND --authtap PATH [--rounds N] [--seconds N] [--json]

    latency   what a proxy adds to a request at 2,000 requests/s, beside nginx
    memory    idle, with the databases in use, with idle connections, with WebSockets, after large bodies
    cores     throughput with two traffic threads against one
    newconn   CPU of a connection a request, beside nginx
    big       CPU per GiB, in bodies of 1 MiB and of 1 GiB, down and up, beside nginx
    tls       HTTP/2 over TLS and full handshakes, beside nginx
    growth    CPU per request as routes, paths and sessions grow; writes growth.svg and growth.json
    all       all of these, one after the other

Each prints a table of what was measured and one of the goals. Needs Linux with two cores, nginx, wrk,
h2load (nghttp2-client), openssl and taskset; Python's standard library does the rest. Exits 3 if a goal
is missed or a request failed. bench/README.md says how to read it.
"""

import argparse
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request

import application
import plot
from side_by_side import HERE, LOAD_CORE, PROXY_CORE, Process, fill_in, free_port, load

PROXIES = ("nginx", "authtap")
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/{}.0"
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
RATE = 2000
# Before this process is pinned itself.
CORES = len(os.sched_getaffinity(0))
# Of the table; those that say "more" are for 10,000 connections.
MB_IDLE, MB_IN_USE, MB_CONNECTIONS, MB_WEBSOCKETS, MB_BODIES = 15, 48, 150, 250, 8
MANY = 10_000
# authtap keeps so many descriptors for itself and counts two for each client.
KEPT_BACK = 256
ROUTES, PATHS, SESSIONS = (1, 10, 100, 500, 2000), (10, 100, 1000, 10_000, 100_000), (10**3, 10**4, 10**5, 10**6)
# What counts as flat: the largest rise from a point to a later one. CPU per request moves by some percent from run to run.
FLAT = 1.15
ROUTE = "  - {{ id: r{0}, match: {{ method: POST, path: /section/{0}/login }}, actor: {{ login: form.username }}, when: {{ status: 302 }}, emit: user.login.success }}\n"


class Bench:
    """The folder, the ports and the applications of one run, and what was found."""

    def __init__(self, folder, options):
        self.folder, self.options = folder, options
        self.authtap = pathlib.Path(options.authtap).resolve()
        self.ports = {"nginx": free_port(), "python": free_port(), "proxy": free_port(), "admin": free_port()}
        # With four cores or more the load keeps one for itself.
        self.core = LOAD_CORE if CORES < 4 else "3"
        self.goals, self.runs = [], []

    @contextlib.contextmanager
    def running(self, name, core, command, port):
        process = Process(name, core, command, self.folder, port)
        try:
            yield process
        finally:
            process.stop()

    def applications(self):
        """nginx, which answers from memory and from files, and Python for what nginx cannot be."""
        stack = contextlib.ExitStack()
        values = {"app_port": self.ports["nginx"], "kilobyte": "k" * KIB, "cookie": "c" * 32}
        config = fill_in("app.nginx.conf", self.folder, values)
        stack.enter_context(self.running("application", self.core, ["nginx", "-p", self.folder, "-c", config], self.ports["nginx"]))
        python = [sys.executable, HERE / "application.py", str(self.ports["python"])]
        stack.enter_context(self.running("python", self.core, python, self.ports["python"]))
        return stack

    def nginx(self, app="nginx", tls=False):
        listen = f" ssl http2; ssl_certificate {self.folder}/cert.pem; ssl_certificate_key {self.folder}/key.pem; ssl_protocols TLSv1.3"
        values = {"app_port": self.ports[app], "proxy_port": self.ports["proxy"], "tls": listen if tls else ""}
        command = ["nginx", "-p", self.folder, "-c", fill_in("proxy.nginx.conf", self.folder, values)]
        return self.running("proxy", PROXY_CORE, command, self.ports["proxy"])

    def tap(self, app="nginx", tls=False, workers=1, core=PROXY_CORE, admin=False, more="sinks: []\n"):
        address = f"127.0.0.1:{self.ports['proxy']}"
        if tls:
            address = f"{{ address: '{address}', tls: {{ cert: {self.folder}/cert.pem, key: {self.folder}/key.pem }} }}"
        config = self.folder / "routes.yaml"
        config.write_text(
            f"version: 1\nlisten: {address}\nupstream: http://127.0.0.1:{self.ports[app]}\nworkers: {workers}\n"
            "client_ip: { trusted_proxies: [127.0.0.0/8] }\ntimeouts: { upstream_idle: 60s }\n" + more)
        shutil.rmtree(self.folder / "data", ignore_errors=True)
        (self.folder / "events.jsonl").unlink(missing_ok=True)
        command = [self.authtap, "run", "--config", config, "--data", self.folder / "data",
                   "--admin", f"127.0.0.1:{self.ports['admin']}" if admin else "off"]
        return self.running("proxy", core, command, self.ports["proxy"])

    def proxy(self, name, **how):
        """What a proxy of PROXIES is, with one route that no request is about."""
        return self.nginx(**how) if name == "nginx" else self.tap(**how, more="sinks: []\nroutes:\n" + ROUTE.format(0))

    def interleaved(self, names):
        """Each round's number and each name; the order turns round from one to the next."""
        for number in range(self.options.rounds):
            for name in names if number % 2 else tuple(reversed(names)):
                yield number, name

    def record(self, **run):
        self.runs.append(run)
        if self.options.json:
            print(json.dumps(run), flush=True)
        if run.get("failed"):
            self.goal(f"{run['what']}: no request fails", f"{run['failed']} of {run.get('proxy', 'authtap')}", False)

    def of(self, what, name, key):
        return [run[key] for run in self.runs if (run["what"], run.get("proxy")) == (what, name)]

    def middle(self, what, name, key):
        return statistics.median(self.of(what, name, key))

    def ratio(self, what, key, by=lambda own, nginx: own / nginx):
        """authtap's figure by nginx's of the same round, and of these the median: noise comes and goes with time."""
        return statistics.median(by(*both) for both in zip(self.of(what, "authtap", key), self.of(what, "nginx", key)))

    def goal(self, text, measured, reached):
        """`reached` is None where this machine cannot tell."""
        self.goals.append((text, measured, reached))

    def wrk(self, arguments, seconds=None, **more):
        requests, took, failed, _, _ = load(self.ports["proxy"], arguments, seconds or self.options.seconds, "scale.lua", **more)
        if not requests:
            sys.exit("wrk got no answer")
        return requests, took, failed

    def cost(self, proxy, arguments, **more):
        """CPU µs a request and requests/s under a load, after a second of warming."""
        warm = self.wrk(arguments, 1, **more)
        before = proxy.cpu_seconds()
        requests, took, failed = self.wrk(arguments, **more)
        return {"cpu_us": (proxy.cpu_seconds() - before) * 1e6 / requests, "rps": requests / took, "failed": failed + warm[2]}


def table(headers, rows):
    """Markdown; columns of figures stand right."""
    right = [all(re.fullmatch(r"[-+]?\d.*|", str(cell)) for cell in column) for column in zip(*rows)]
    print("| " + " | ".join(headers) + " |")
    print("|" + "".join(" ---: |" if figures else " --- |" for figures in right))
    for row in rows:
        print("| " + " | ".join(map(str, row)) + " |")
    print(flush=True)


def memory_of(process):
    """Bytes of a process, in MB: all that is in memory, what is its alone, and what no file backs."""
    text = pathlib.Path(f"/proc/{process.child.pid}/smaps_rollup").read_text()
    kilobytes = {key: int(value) for key, value in re.findall(r"^(\w+): +(\d+) kB", text, re.M)}
    private = kilobytes["Private_Clean"] + kilobytes["Private_Dirty"]
    return {"rss_mb": kilobytes["Rss"] * KIB / 1e6, "private_mb": private * KIB / 1e6, "anonymous_mb": kilobytes["Anonymous"] * KIB / 1e6}


def peak_rss_mb(process):
    status = pathlib.Path(f"/proc/{process.child.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status).group(1)) * KIB / 1e6


def settled(process):
    """Memory once it has stood still for half a second: threads start, and buffers are given back, after the answer."""
    deadline, last = time.monotonic() + 10, None
    while time.monotonic() < deadline:
        now = memory_of(process)
        if last and abs(now["rss_mb"] - last["rss_mb"]) < 0.1:
            return now
        last = now
        time.sleep(0.5)
    return last


# What comes in and is not wanted; all connections share it.
SPARE = memoryview(bytearray(MIB))


class Client:
    """One HTTP/1.1 connection, blocking; anything but the expected status ends the run."""

    def __init__(self, port, source="127.0.0.1"):
        self.socket = socket.create_connection(("127.0.0.1", port), 60, (source, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def head(self, request, body=(), status=200):
        """Sends a request and reads the head of its answer: what came of the body already, and its length."""
        self.socket.sendall(request.encode())
        for piece in body:
            self.socket.sendall(piece)
        received = b""
        while b"\r\n\r\n" not in received:
            data = self.socket.recv(65536)
            if not data:
                sys.exit(f"the connection was closed before the answer: {request.splitlines()[0]}")
            received += data
        head, _, rest = received.partition(b"\r\n\r\n")
        if int(head.split()[1]) != status:
            sys.exit(f"{request.splitlines()[0]} was answered {head.splitlines()[0].decode()}")
        length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
        return head, rest, int(length.group(1)) if length else 0

    def ask(self, request, body=(), status=200):
        """The same with the body, which is read and dropped: how many bytes it had."""
        _, rest, length = self.head(request, body, status)
        left = length - len(rest)
        while left:
            count = self.socket.recv_into(SPARE[: min(left, MIB)])
            if not count:
                sys.exit(f"an answer broke off {left} bytes before its end")
            left -= count
        return length

    def is_open(self):
        self.socket.setblocking(False)
        try:
            return self.socket.recv(1, socket.MSG_PEEK) != b""
        except BlockingIOError:
            return True
        except ConnectionError:
            return False

    def get(self, path):
        return self.ask(f"GET {path} HTTP/1.1\r\nHost: app.example.test\r\nUser-Agent: {AGENT.format(128)}\r\n\r\n")

    def upload(self, size):
        head = f"POST /upload HTTP/1.1\r\nHost: app.example.test\r\nContent-Type: application/octet-stream\r\nContent-Length: {size}\r\n\r\n"
        self.ask(head, (SPARE for _ in range(size // MIB)))

    def sign_in(self, number):
        body = f"login=person{number}&password=not-a-secret"
        self.ask("POST /login HTTP/1.1\r\nHost: app.example.test\r\n"
                 f"User-Agent: {AGENT.format(60 + number % 80)}\r\nX-Forwarded-For: 81.{number % 3}.{number % 251}.{number % 199 + 1}\r\n"
                 f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n{body}", status=302)

    def websocket(self):
        """Opens a WebSocket and has one message come back."""
        key = "MDEyMzQ1Njc4OWFiY2RlZg=="
        head, _, _ = self.head("GET /socket HTTP/1.1\r\nHost: app.example.test\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                               f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n\r\n", status=101)
        if application.accept_of(key.encode()) not in head:
            sys.exit("a WebSocket was opened with another key")
        mask, text = b"\x01\x02\x03\x04", b"hello"
        self.socket.sendall(bytes([0x81, 0x80 | len(text)]) + mask + bytes(byte ^ mask[i % 4] for i, byte in enumerate(text)))
        received = b""
        while len(received) < 2 + len(text):
            data = self.socket.recv(64)
            if not data:
                sys.exit("a WebSocket was closed")
            received += data
        if received != bytes([0x81, len(text)]) + text:
            sys.exit("a message came back changed")


def latency(bench):
    """What a proxy adds at a fixed rate, measured from the moment at which each request was due."""
    names = ("nginx", "authtap", "none")
    for number, name in bench.interleaved(names):
        with contextlib.nullcontext() if name == "none" else bench.proxy(name) as proxy:
            port = bench.ports["nginx" if name == "none" else "proxy"]

            def paced(seconds):
                command = ["taskset", "-c", LOAD_CORE, sys.executable, HERE / "paced.py", str(port), str(RATE), str(seconds)]
                return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)

            warm = paced(0.5)
            before = proxy.cpu_seconds() if proxy else 0
            run = paced(bench.options.seconds)
            cpu = (proxy.cpu_seconds() - before if proxy else 0) * 1e6 / max(run["answered"], 1)
        bench.record(**run | {"what": "latency", "proxy": name, "round": number, "cpu_us": cpu, "failed": run["failed"] + warm["failed"]})
    rows = []
    for name in ("none", *PROXIES):
        p50, p99, late50, late99, cpu = (bench.middle("latency", name, key) for key in ("p50_us", "p99_us", "late_p50_us", "late_p99_us", "cpu_us"))
        rows.append((name, f"{p50:.0f}", f"{p99:.0f}", f"{late50:.0f}", f"{late99:.0f}", f"{cpu:.0f}" if cpu else "", sum(bench.of("latency", name, "failed"))))
    table((f"at {RATE} requests/s through", "p50 µs", "p99 µs", "client late by, p50 µs", "p99 µs", "CPU µs/request", "failed"), rows)
    for key, more in (("p50_us", 50), ("p99_us", 200)):
        difference = bench.ratio("latency", key, lambda own, nginx: own - nginx)
        bench.goal(f"latency at {RATE} requests/s, {key[:3]}: ≤ nginx's + {more} µs", f"{difference:+.0f} µs", difference <= more)


def memory(bench):
    """What a process of authtap takes in memory, in five situations, each a process of its own but the first two."""
    seats = min(MANY, (resource.getrlimit(resource.RLIMIT_NOFILE)[0] - KEPT_BACK) // 2)
    # The default of these is 75 s, which a slow machine may need for opening them all.
    config = ("limits: { connections: 0, keep_alive_idle: 10m }\nroutes:\n  - { id: login, match: { method: POST, path: /login },"
              " actor: { login: form.login }, when: { status: 302 }, emit: user.login.success }\nsinks:\n  - { type: file, path: events.jsonl }\n")
    rows = []

    def sign_in(count):
        client = Client(bench.ports["proxy"])
        for number in range(count):
            client.sign_in(number)
        client.socket.close()
        deadline = time.monotonic() + 20
        # Its own start is an event, too.
        while (bench.folder / "events.jsonl").read_text().count("user.login.success") < count:
            if time.monotonic() > deadline:
                sys.exit(f"{count} logins did not all become events")
            time.sleep(0.05)

    def row(what, now, more, note=""):
        bench.record(what=what, more_mb=more, note=note, **now)
        rows.append((what, *(f"{now[key]:.1f}" for key in ("rss_mb", "private_mb", "anonymous_mb")), "" if more is None else f"{more:+.1f}", note))

    with bench.tap(more=config) as proxy:
        idle = settled(proxy)
        row("idle, before the first event", idle, None)
        sign_in(1000)
        used = settled(proxy)
        logins = [line for line in (bench.folder / "events.jsonl").read_text().splitlines() if "user.login.success" in line]
        told = json.loads(logins[0])["metadata"]
        if "country" not in told.get("geo", {}) or "browser" not in told.get("client", {}):
            sys.exit("the first login has no country or no browser")
        row("1,000 logins later", used, used["rss_mb"] - idle["rss_mb"], "country database and user-agent parser in use")
    bench.goal(f"RSS before the first event: ≤ {MB_IDLE} MB", f"{idle['rss_mb']:.1f} MB", idle["rss_mb"] <= MB_IDLE)
    bench.goal(f"RSS with country database and user-agent parser in use: ≤ {MB_IN_USE} MB", f"{used['rss_mb']:.1f} MB", used["rss_mb"] <= MB_IN_USE)

    def opened(what, app, use, most):
        with bench.tap(app, more=config) as proxy, contextlib.ExitStack() as sockets:
            first = Client(bench.ports["proxy"])
            for _ in range(100):
                first.ask("GET / HTTP/1.1\r\nHost: app.example.test\r\n\r\n")
            first.socket.close()
            before, clients = settled(proxy), []
            for number in range(seats):
                # Several addresses, so that none runs out of ports.
                client = Client(bench.ports["proxy"], f"127.0.0.{2 + number // 2000}")
                sockets.enter_context(client.socket)
                use(client)
                clients.append(client)
            after = settled(proxy)
            if gone := sum(not client.is_open() for client in clients):
                sys.exit(f"{gone} of {seats} {what} were closed meanwhile")
        more = after["rss_mb"] - before["rss_mb"]
        row(f"{seats:,} {what}", after, more, f"{more * 1e6 / seats / KIB:.1f} KiB each")
        limit = most * seats / MANY
        text = f"RSS of {seats:,} {what}: ≤ {limit:.0f} MB more" + (f" ({most} for {MANY:,})" if seats < MANY else "")
        bench.goal(text, f"{more:.1f} MB", more <= limit)

    opened("idle keep-alive connections", "nginx", lambda client: client.get("/items/1"), MB_CONNECTIONS)
    opened("WebSockets", "python", Client.websocket, MB_WEBSOCKETS)

    for what, count, size in (("1,024 bodies of 1 MiB, 16 at once", KIB, MIB), ("one body of 1 GiB", 1, GIB)):
        for way, app in (("down", "nginx"), ("up", "python")):
            with bench.tap(app, more=config) as proxy:
                at_once = min(16, count)
                clients = [Client(bench.ports["proxy"]) for _ in range(at_once)]

                def transfer(client, bodies, bytes_each):
                    for _ in range(bodies):
                        if way == "up":
                            client.upload(bytes_each)
                        elif client.get(f"/bodies/{bytes_each}") != bytes_each:
                            sys.exit("a body came with another length")

                transfer(clients[0], 1, MIB)
                before = settled(proxy)
                # The highest from now on (proc(5), clear_refs).
                pathlib.Path(f"/proc/{proxy.child.pid}/clear_refs").write_text("5")
                with concurrent.futures.ThreadPoolExecutor(at_once) as threads:
                    for done in [threads.submit(transfer, client, count // at_once, size) for client in clients]:
                        done.result()
                more = peak_rss_mb(proxy) - before["rss_mb"]
                row(f"{what}, {way}", memory_of(proxy), more, "at the highest")
                for client in clients:
                    client.socket.close()
            bench.goal(f"RSS growth over {what}, {way}: < {MB_BODIES} MB", f"{more:.1f} MB", more < MB_BODIES)
    table(("authtap", "RSS MB", "private MB", "anonymous MB", "RSS more by MB", ""), rows)


def cores(bench):
    """Throughput with one traffic thread on one core, and with two on two."""
    judged, rows = CORES >= 4, []
    load_core = "2" if judged else LOAD_CORE
    for number, name in bench.interleaved(("1", "2")):
        pinned = PROXY_CORE if name == "1" else f"{PROXY_CORE},1"
        with bench.tap(workers=int(name), core=pinned, more="sinks: []\nroutes:\n" + ROUTE.format(0)) as proxy:
            bench.record(what="cores", proxy=name, round=number, **bench.cost(proxy, "get /items/42", core=load_core))
    for name in ("1", "2"):
        rps, cpu = (bench.middle("cores", name, key) for key in ("rps", "cpu_us"))
        rows.append((f"{name}, on core{'s 0 and 1' if name == '2' else ' 0'}", f"{rps:.0f}", f"{cpu:.1f}", sum(bench.of("cores", name, "failed"))))
    table(("workers", "requests/s", "CPU µs/request", "failed"), rows)
    times = statistics.median(two / one for one, two in zip(bench.of("cores", "1", "rps"), bench.of("cores", "2", "rps")))
    if not judged:
        print(f"This machine has {CORES} cores, and the load and the application need one of the two: the second thread\n"
              "gets only what they leave. Whether two cores carry 1.9 × as much cannot be told here.\n")
    bench.goal("two cores against one: ≥ 1.9 × the requests/s", f"{times:.2f} ×", times >= 1.9 if judged else None)


def beside_nginx(bench, what, measured, unit, key, limit, text):
    """The table and the goal of what both proxies did, `key` of each run by nginx's."""
    rows = [(name, f"{bench.middle(what, name, 'rate'):.2f}", f"{bench.middle(what, name, key):.1f}",
             f"{1 if name == 'nginx' else bench.ratio(what, key):.2f}", sum(bench.of(what, name, "failed"))) for name in PROXIES]
    table((what, measured, unit, "× nginx", "failed"), rows)
    bench.goal(f"{text}: ≤ {limit} × nginx", f"{bench.ratio(what, key):.2f} ×", round(bench.ratio(what, key), 2) <= limit)


def newconn(bench):
    """A connection for each request, which both sides may close after it."""
    for number, name in bench.interleaved(PROXIES):
        with bench.proxy(name) as proxy:
            cost = bench.cost(proxy, "get /items/42", headers=("Connection: close",))
            bench.record(what="a connection a request", proxy=name, round=number, rate=cost["rps"], **cost)
    beside_nginx(bench, "a connection a request", "requests/s", "CPU µs/request", "cpu_us", 1.1, "new connection per request, CPU")


def big(bench):
    """CPU per GiB of bodies, by their size and way."""
    loads = [(f"{label}, {way}", way, size, count) for label, size, count in (("bodies of 1 MiB", MIB, KIB), ("one body of 1 GiB", GIB, 1)) for way in ("down", "up")]
    for what, way, size, count in loads:
        for number, name in bench.interleaved(PROXIES):
            with bench.proxy(name, app="python" if way == "up" else "nginx") as proxy:
                client = Client(bench.ports["proxy"])
                transfer = client.upload if way == "up" else lambda bytes_each: client.get(f"/bodies/{bytes_each}")
                transfer(MIB)
                # At least for the time asked: a GiB alone is soon over, and CPU time is counted in hundredths of a second.
                before, begun, gibs = proxy.cpu_seconds(), time.monotonic(), 0
                while not gibs or time.monotonic() - begun < bench.options.seconds / 2:
                    for _ in range(count):
                        transfer(size)
                    gibs += 1
                took = time.monotonic() - begun
                cpu = (proxy.cpu_seconds() - before) * 1e3 / gibs
                client.socket.close()
            bench.record(what=what, proxy=name, round=number, rate=gibs / took, cpu_ms=cpu, failed=0)
    for what, *_ in loads:
        beside_nginx(bench, what, "GiB/s", "CPU ms/GiB", "cpu_ms", 1.1, f"{what}, CPU per GiB")


def h2load(bench, *arguments):
    """One run of h2load: requests that were answered, and how many were not, or not with 2xx."""
    command = ["taskset", "-c", LOAD_CORE, "h2load", *arguments, f"https://127.0.0.1:{bench.ports['proxy']}/items/42"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    counts = re.search(r"^requests: (\d+) total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed", ran.stdout, re.M)
    if not counts or "Application protocol: h2" not in ran.stdout:
        sys.exit(f"h2load gave no result over HTTP/2:\n{ran.stdout[-1000:]}{ran.stderr[-1000:]}")
    good = int(re.search(r"^status codes: (\d+) 2xx", ran.stdout, re.M).group(1))
    return good, int(counts.group(2)) - good + int(counts.group(4))


def tls(bench):
    """HTTP/2 over TLS 1.3: requests on few connections, and connections of one request."""
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", "/CN=app.example.test",
               "-addext", "subjectAltName=DNS:app.example.test,IP:127.0.0.1", "-keyout", bench.folder / "key.pem", "-out", bench.folder / "cert.pem"]
    subprocess.run(command, check=True, capture_output=True)
    for what, kind in (("HTTP/2 requests over TLS", "requests"), ("full TLS handshakes", "handshakes")):
        for number, name in bench.interleaved(PROXIES):
            with bench.proxy(name, tls=True) as proxy:
                _, lost = h2load(bench, "-n2000", "-c16", "-m8")
                before, begun, answered = proxy.cpu_seconds(), time.monotonic(), 0
                if kind == "requests":
                    answered, failed = h2load(bench, f"-D{bench.options.seconds}", "-c16", "-m8")
                    lost += failed
                # h2load resumes no session: every connection of it is a whole handshake.
                while kind == "handshakes" and time.monotonic() - begun < bench.options.seconds:
                    good, failed = h2load(bench, "-n256", "-c256", "-m1")
                    answered, lost = answered + good, lost + failed
                took, cpu = time.monotonic() - begun, proxy.cpu_seconds() - before
            bench.record(what=what, proxy=name, round=number, rate=answered / took, cpu_us=cpu * 1e6 / answered, full=answered / cpu, failed=lost)
    beside_nginx(bench, "HTTP/2 requests over TLS", "requests/s", "CPU µs/request", "cpu_us", 1.0, "HTTP/2 over TLS, CPU per request")
    what, rows = "full TLS handshakes", []
    for name in PROXIES:
        rate, full = bench.middle(what, name, "rate"), bench.middle(what, name, "full")
        times = 1 if name == "nginx" else bench.ratio(what, "full")
        rows.append((name, f"{rate:.0f}", f"{full:.0f}", f"{times:.2f}", sum(bench.of(what, name, "failed"))))
    table((what, "a second, as the load came", "a second of CPU", "× nginx", "failed"), rows)
    bench.goal("full handshakes of one core in a second: ≥ 1.0 × nginx", f"{bench.ratio(what, 'full'):.2f} ×", round(bench.ratio(what, "full"), 2) >= 1.0)


def remembered(bench):
    """How many sessions the proxy says it remembers."""
    with urllib.request.urlopen(f"http://127.0.0.1:{bench.ports['admin']}/metrics", timeout=10) as answer:
        return int(float(re.search(r"^authtap_sessions(?:\{\})? (\S+)", answer.read().decode(), re.M).group(1)))


def log_in_up_to(bench, level):
    """Logins, each with a session of its own, until so many are remembered, but for one in a hundred that was cut off."""
    place, deadline = remembered(bench), time.monotonic() + 300
    while (now := remembered(bench)) < 0.99 * level:
        if time.monotonic() > deadline:
            sys.exit(f"only {now} of {level} sessions are remembered")
        requests, _, failed = bench.wrk(f"enter {place} {level}", 1 if level - now < 20_000 else 4)
        if failed:
            sys.exit(f"{failed} logins failed")
        # wrk cuts off what is in flight at its end; those come again.
        place += max(requests - 256, 0)
    return now


def growth(bench):
    """CPU a request as there is more of something; writes growth.svg and growth.json."""
    sinks = "sinks: []\n"
    lines = {
        "routes": [(n, f"{sinks}routes:\n" + "".join(ROUTE.format(i) for i in range(n)), "get /items/42") for n in ROUTES],
        # Automatic recognition is what could remember paths.
        "paths": [(n, f"{sinks}auto: on\nroutes:\n" + ROUTE.format(0), f"paths {n}") for n in PATHS],
    }
    for what, points in lines.items():
        for number, point in bench.interleaved(tuple(range(len(points)))):
            count, config, arguments = points[point]
            with bench.tap(more=config) as proxy:
                bench.record(what=what, proxy=count, round=number, **bench.cost(proxy, arguments))
    wanted = [int(level) for level in bench.options.sessions.split(",")]
    # No store and no file: a million events on the disk are not what is measured.
    config = f"""session: {{ cookies: [session], capacity: {2 * max(wanted)} }}
durability: memory
routes:
  - {{ id: enter, match: {{ method: POST, path: /enter }}, actor: {{ login: form.login }}, when: {{ status: 302 }}, emit: user.login.success }}
  - {{ id: account, match: {{ method: POST, path: /account }}, when: {{ status: 200 }}, emit: user.password.changed }}
sinks: []
"""
    memories = []
    with bench.tap(admin=True, more=config) as proxy:
        for level in sorted(wanted):
            log_in_up_to(bench, level)
            for number in range(bench.options.rounds):
                bench.record(what="sessions", proxy=level, round=number, **bench.cost(proxy, f"known {level}"))
            memories.append((level, memory_of(proxy)["rss_mb"]))
    rows, panels, kept = [], [], {}
    names = {"routes": ("routes", "a request that no route is about"), "paths": ("distinct paths", "the same, by how many paths, auto on"),
             "sessions": ("sessions remembered", "an event of somebody signed in")}
    for what, (label, title) in names.items():
        counts = sorted({run["proxy"] for run in bench.runs if run["what"] == what})
        points = [(count, bench.middle(what, count, "cpu_us")) for count in counts]
        for count, cost in points:
            rows.append((label, f"{count:,}", f"{cost:.1f}", f"{cost / points[0][1]:.2f}", sum(bench.of(what, count, "failed"))))
        kept[what] = [{"count": count, "cpu_us_per_request": round(cost, 2), "rounds": [round(one, 2) for one in bench.of(what, count, "cpu_us")]} for count, cost in points]
        if len(points) > 1:
            panels.append((title, label, "CPU µs", points))
        costs = [cost for _, cost in points]
        rise = max((later / cost for place, cost in enumerate(costs) for later in costs[place + 1:]), default=1)
        bench.goal(f"CPU per request is flat in {label}: from no point to a later one × {FLAT}", f"{rise:.2f} ×", rise <= FLAT)
    for entry, (_, rss) in zip(kept["sessions"], memories):
        entry["rss_mb"] = round(rss, 1)
    table(("as there are more", "so many", "CPU µs/request", "× the first", "failed"), rows)
    table(("sessions remembered", "RSS MB"), [(f"{level:,}", f"{rss:.1f}") for level, rss in memories])
    folder = pathlib.Path(bench.options.output)
    (folder / "growth.json").write_text(json.dumps(kept, indent=1) + "\n")
    (folder / "growth.svg").write_text(plot.svg(panels, "CPU of authtap per request as routes, paths and sessions grow"))


SUBCOMMANDS = {"latency": latency, "memory": memory, "cores": cores, "newconn": newconn, "big": big, "tls": tls, "growth": growth}


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("subcommand", choices=(*SUBCOMMANDS, "all"))
    options.add_argument("--authtap", default=os.environ.get("AUTHTAP_BIN", "target/release/authtap"))
    options.add_argument("--rounds", type=int, default=3)
    options.add_argument("--seconds", type=int, default=3, help="of each load")
    options.add_argument("--sessions", default=",".join(map(str, SESSIONS)), help="how many growth remembers, in steps")
    options.add_argument("--output", default=HERE, help="the folder for growth.svg and growth.json")
    options.add_argument("--json", action="store_true", help="print every single run as a JSON line, too")
    options = options.parse_args()
    if missing := [tool for tool in ("nginx", "wrk", "h2load", "openssl", "taskset") if not shutil.which(tool)]:
        sys.exit(f"{missing[0]} is not installed: apt install nginx-light wrk nghttp2-client openssl util-linux")
    if CORES < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    if not pathlib.Path(options.authtap).is_file():
        sys.exit(f"no {options.authtap}: build it with cargo build --release, or name it with --authtap")
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    # Told to end, it ends what it started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    # This process is a client, too.
    os.sched_setaffinity(0, {int(LOAD_CORE)})
    with tempfile.TemporaryDirectory(prefix="authtap-scale-") as folder:
        folder = pathlib.Path(folder)
        # nginx as root gives its worker another user, which must be able to enter.
        folder.chmod(0o755)
        bodies = folder / "files" / "bodies"
        bodies.mkdir(parents=True)
        for size in (MIB, GIB):
            with open(bodies / str(size), "wb") as file:
                # All holes: nothing of it is on the disk.
                file.truncate(size)
        bench = Bench(folder, options)
        with bench.applications():
            for name, measure in SUBCOMMANDS.items():
                if options.subcommand in (name, "all"):
                    print(f"## {name}\n", flush=True)
                    measure(bench)
    words = {True: "yes", False: "**no**", None: "cannot be told here"}
    print("## Goals\n")
    table(("goal", "measured", "reached"), [(text, measured, words[reached]) for text, measured, reached in bench.goals])
    return 3 if any(reached is False for _, _, reached in bench.goals) else 0


if __name__ == "__main__":
    sys.exit(main())
