#!/usr/bin/env python3
"""authtap beside nginx, on this machine, under the same load.

Each proxy in turn is pinned to core 0. The load generator (wrk) and the application (nginx, which
answers from memory) share core 1. The proxies take turns within every round, so that what else the
machine does falls on both; the figures are medians over the rounds. bench/README.md says how to
read them.

    side_by_side.py --authtap PATH [--rounds 5] [--seconds 4] [--scenarios pass,login,mix] [--json]

Needs Linux with two cores, nginx, wrk and taskset; Python's standard library does the rest. Exits 0
if every request was answered and every login became an event, else 3.
"""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
PROXY_CORE, LOAD_CORE = "0", "1"
CONNECTIONS = 64
# How many of a hundred requests are logins.
SCENARIOS = {"pass": 0, "login": 100, "mix": 2}
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def family(root):
    """The process ids of `root` and all its descendants."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry)] = int(stat(int(entry))[1])
    found = {root}
    while True:
        more = {pid for pid, parent in parents.items() if parent in found} - found
        if not more:
            return found
        found |= more


def stat(pid):
    """The fields of /proc/PID/stat that follow the name, which may itself hold spaces and brackets."""
    return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()


class Process:
    """A server of this benchmark, pinned to a core, in a process group of its own."""

    def __init__(self, name, core, command, folder, port):
        self.name = name
        with open(folder / f"{name}.out", "w") as out:
            self.child = subprocess.Popen(
                ["taskset", "-c", core, *command],
                cwd=folder, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
            )
        deadline = time.monotonic() + 20
        while True:
            if self.child.poll() is not None or time.monotonic() > deadline:
                self.stop()
                sys.exit(f"{name} does not answer on port {port}:\n{(folder / f'{name}.out').read_text()[-2000:]}")
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                return
            except OSError:
                time.sleep(0.02)

    def cpu_seconds(self):
        """User and system time of all its processes."""
        total = 0
        for pid in family(self.child.pid):
            with contextlib.suppress(OSError):
                fields = stat(pid)
                total += int(fields[11]) + int(fields[12])
        return total / TICK

    def rss_mb(self):
        total = 0
        for pid in family(self.child.pid):
            with contextlib.suppress(OSError):
                total += int(pathlib.Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE
        return total / 1e6

    def stop(self):
        # nginx ends at once on SIGTERM; authtap writes out what was captured first.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.child.pid, signal.SIGTERM)
        try:
            self.child.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.child.pid, signal.SIGKILL)
            self.child.wait()


def load(port, arguments, seconds, script="load.lua", connections=CONNECTIONS, headers=(), core=LOAD_CORE):
    """One run of wrk: requests, seconds, failures, p50 and p99 in microseconds.

    `arguments` is what the script gets; for load.lua the share of logins."""
    ran = subprocess.run(
        ["taskset", "-c", core, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s",
         *(part for header in headers for part in ("-H", header)),
         "-s", HERE / script, f"http://127.0.0.1:{port}", "--", *str(arguments).split()],
        capture_output=True, text=True, check=False,
    )
    for line in ran.stdout.splitlines():
        if line.startswith("RESULT "):
            requests, micros, failed, p50, p99 = map(int, line.split()[1:])
            return requests, micros / 1e6, failed, p50, p99
    sys.exit(f"wrk gave no result:\n{ran.stdout}{ran.stderr}")


def fill_in(template, folder, values):
    text = (HERE / template).read_text()
    # Plain replacement: both formats are full of braces and dollars of their own.
    for key, value in values.items():
        text = text.replace("{" + key + "}", str(value))
    target = folder / template
    target.write_text(text)
    return target


def measure(name, scenario, seconds, authtap, values, folder):
    """One proxy, freshly started, under one scenario."""
    events = folder / "events.jsonl"
    events.unlink(missing_ok=True)
    if name == "nginx":
        command = ["nginx", "-p", folder, "-c", fill_in("proxy.nginx.conf", folder, values)]
    else:
        config = fill_in("routes.yaml", folder, values)
        command = [authtap, "run", "--config", config, "--data", folder / "data", "--admin", "off"]
    proxy = Process(name, PROXY_CORE, command, folder, values["proxy_port"])
    try:
        # Connections are opened, caches and branch predictors warmed.
        warm = load(values["proxy_port"], SCENARIOS[scenario], 1)
        before = proxy.cpu_seconds()
        requests, took, failed, p50, p99 = load(values["proxy_port"], SCENARIOS[scenario], seconds)
        cpu, rss = proxy.cpu_seconds() - before, proxy.rss_mb()
    finally:
        proxy.stop()
    row = {
        "proxy": name, "scenario": scenario, "requests_per_second": requests / took,
        "cpu_us_per_request": cpu * 1e6 / max(requests, 1), "p50_us": p50, "p99_us": p99,
        "rss_mb": rss, "failed": failed + warm[2],
    }
    if name == "authtap" and SCENARIOS[scenario]:
        with open(events, "rb") as lines:
            written = sum(1 for _ in lines)
        # wrk cuts off what is in flight at its end; those logins may or may not become events.
        row["events_per_login"] = written / max((requests + warm[0]) * SCENARIOS[scenario] / 100, 1)
    return row


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--authtap", default=os.environ.get("AUTHTAP_BIN", "target/release/authtap"))
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--seconds", type=int, default=4)
    options.add_argument("--scenarios", default=",".join(SCENARIOS))
    options.add_argument("--json", action="store_true", help="print every single run as a JSON line, too")
    options = options.parse_args()
    wanted = options.scenarios.split(",")
    if unknown := [s for s in wanted if s not in SCENARIOS]:
        sys.exit(f"no scenario {unknown[0]}: there are {', '.join(SCENARIOS)}")
    if missing := [tool for tool in ("nginx", "wrk", "taskset") if not shutil.which(tool)]:
        sys.exit(f"{missing[0]} is not installed: apt install nginx-light wrk util-linux")
    if len(os.sched_getaffinity(0)) < 2:
        sys.exit("two cores are needed: one for the proxy, one for the load")
    authtap = pathlib.Path(options.authtap).resolve()
    if not authtap.is_file():
        sys.exit(f"no {options.authtap}: build it with cargo build --release, or name it with --authtap")

    runs = []
    with tempfile.TemporaryDirectory(prefix="authtap-bench-") as folder:
        folder = pathlib.Path(folder)
        # nginx as root gives its worker another user, which must be able to enter.
        folder.chmod(0o755)
        values = {"app_port": free_port(), "proxy_port": free_port(), "kilobyte": "k" * 1024, "cookie": "c" * 32,
                  "tls": ""}
        command = ["nginx", "-p", folder, "-c", fill_in("app.nginx.conf", folder, values)]
        application = Process("application", LOAD_CORE, command, folder, values["app_port"])
        try:
            for turn in range(options.rounds):
                for scenario in wanted:
                    # Who goes first changes, so that neither always follows the other.
                    for name in ("nginx", "authtap") if turn % 2 else ("authtap", "nginx"):
                        run = measure(name, scenario, options.seconds, authtap, values, folder)
                        runs.append(run | {"round": turn})
                        if options.json:
                            print(json.dumps(runs[-1]), flush=True)
        finally:
            application.stop()
    return report(runs, wanted)


def report(runs, wanted):
    print("| scenario | proxy | requests/s | CPU µs/request | × nginx | p50 ms | p99 ms | RSS MB | failed | events/login |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    good = True
    for scenario in wanted:
        def of(name, key):
            return [run[key] for run in runs if (run["scenario"], run["proxy"]) == (scenario, name)]
        for name in ("nginx", "authtap"):
            middle = {key: statistics.median(of(name, key)) for key in
                      ("requests_per_second", "cpu_us_per_request", "p50_us", "p99_us", "rss_mb")}
            # Round by round, since noise comes and goes with time.
            base = zip(of(name, "cpu_us_per_request"), of("nginx", "cpu_us_per_request"))
            ratio = statistics.median(own / nginx for own, nginx in base)
            failed = sum(of(name, "failed"))
            events = [run["events_per_login"] for run in runs
                      if run["scenario"] == scenario and run["proxy"] == name and "events_per_login" in run]
            good &= failed == 0 and all(share >= 0.99 for share in events)
            print(f"| {scenario} | {name} | {middle['requests_per_second']:.0f} | {middle['cpu_us_per_request']:.1f} "
                  f"| {ratio:.2f} | {middle['p50_us'] / 1e3:.2f} | {middle['p99_us'] / 1e3:.2f} "
                  f"| {middle['rss_mb']:.1f} | {failed} | {f'{min(events):.3f}' if events else ''} |")
    return 0 if good else 3


if __name__ == "__main__":
    sys.exit(main())
