#!/usr/bin/env python3
"""Where the CPU of authtap goes, sampled by the clock while it is loaded as in side_by_side.py.

    bench/sampled.py --authtap PATH [--scenario pass] [--seconds 6] [--functions 25]

Counted instructions hide what one of them costs: an atomic operation is one, and takes the time of
twenty; a load that waits for a store just before it is one, too. This shows, by thread, the share of
its samples in the kernel and in the program, and by function, which part of its own samples follow an
atomic operation or a `rep movs`. The program needs its symbols (`CARGO_PROFILE_RELEASE_STRIP=none`).

Needs Debian's linux-perf beside what side_by_side.py needs; no hardware counters.
"""

import argparse
import collections
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile

import side_by_side as bench

ATOMIC = re.compile(r"\block\b|\bxchg\b.*\(")
SAMPLE = re.compile(r"\s+(\d+\.\d+) :\s+[0-9a-f]+:\s+(.*)")


def report(data, *options):
    command = ["perf", "report", "-i", data, "--stdio", "-g", "none", *options]
    lines = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    return [line.rstrip() for line in lines if line.strip() and not line.startswith("#")]


def after(data, function):
    """Which parts of a function's samples stand at or just behind an atomic operation, and a `rep movs`."""
    command = ["perf", "annotate", "-i", data, "--stdio", "--percent-type", "local-period", "-s", function]
    listing = subprocess.run(command, capture_output=True, text=True, check=False).stdout.splitlines()
    rows = [(float(m[1]), m[2]) for m in map(SAMPLE.match, listing) if m]
    parts = collections.Counter()
    for (share, what), (behind, _) in zip(rows, rows[1:]):
        kind = "atomic" if ATOMIC.search(what) else "copied" if "rep movs" in what else None
        if kind:
            parts[kind] += share + behind
    return parts


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--authtap", default=os.environ.get("AUTHTAP_BIN", "target/release/authtap"))
    options.add_argument("--scenario", choices=bench.SCENARIOS, default="pass")
    options.add_argument("--seconds", type=int, default=6)
    options.add_argument("--functions", type=int, default=25)
    options = options.parse_args()
    authtap = pathlib.Path(options.authtap).resolve()
    with tempfile.TemporaryDirectory(prefix="authtap-bench-") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        data = folder / "perf.data"
        values = {"app_port": bench.free_port(), "proxy_port": bench.free_port(), "kilobyte": "k" * 1024,
                  "cookie": "c" * 32, "tls": ""}
        command = ["nginx", "-p", folder, "-c", bench.fill_in("app.nginx.conf", folder, values)]
        application = bench.Process("application", bench.LOAD_CORE, command, folder, values["app_port"])
        config = bench.fill_in("routes.yaml", folder, values)
        command = [authtap, "run", "--config", config, "--data", folder / "data", "--admin", "off"]
        proxy = bench.Process("authtap", bench.PROXY_CORE, command, folder, values["proxy_port"])
        try:
            share = bench.SCENARIOS[options.scenario]
            bench.load(values["proxy_port"], share, 1)
            recorder = subprocess.Popen(
                ["perf", "record", "-e", "cpu-clock", "-F", "9973", "-p", str(proxy.child.pid), "-o", data],
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )
            bench.load(values["proxy_port"], share, options.seconds)
            recorder.send_signal(signal.SIGINT)
            recorder.wait()
        finally:
            proxy.stop()
            application.stop()
        threads = report(data, "--sort", "comm,dso")
        if not threads:
            sys.exit("perf recorded nothing: it needs root, or kernel.perf_event_paranoid at 1")
        print("\n".join(threads[:20]))
        print("\n   share   atomic   copied  function")
        functions = report(data, "--sort", "symbol", "--dsos", f"{authtap.name},libc.so.6,[vdso]")
        for line in functions[: options.functions]:
            share, function = re.match(r"\s*([\d.]+)%\s+\[.\]\s+(.*?)(?:\s+-\s+-)?$", line).groups()
            parts = after(data, function)
            print(f"{share:>7}% {parts['atomic']:>7.0f}% {parts['copied']:>7.0f}%  {function[:110]}")


if __name__ == "__main__":
    main()
