#!/usr/bin/env python3
"""Exits 3 if a secret of SECRETS.txt stands in one of the files, as it is or in an encoding of it.

    secrets.py SECRETS.txt FILE...
"""
import base64, re, sys, urllib.parse

secrets = [s for s in open(sys.argv[1]).read().split("\n") if s]
if len(secrets) < 10:
    sys.exit("only %d secrets were seen: the watching is broken, and a test that cannot fail proves nothing" % len(secrets))
hits = 0
for path in sys.argv[2:]:
    data = open(path, "rb").read()
    for secret in secrets:
        raw = secret.encode()
        forms = {raw, urllib.parse.quote(secret, safe="").encode(), urllib.parse.quote_plus(secret).encode(),
                 base64.b64encode(raw).rstrip(b"="), raw.hex().encode()}
        if secret.isdigit():
            # A code of six digits stands inside many a longer number (a size, a time, an address) without being told.
            forms = {f for f in forms if re.search(rb"(?<![0-9])" + re.escape(f) + rb"(?![0-9])", data)}
        if any(f in data for f in forms):
            hits += 1
            # The secret itself is not printed: this goes to a log too.
            print("a secret of %d characters stands in %s" % (len(secret), path))
print("%d secrets looked for in %d files (%d bytes): %d found" % (
    len(secrets), len(sys.argv) - 2, sum(len(open(p, "rb").read()) for p in sys.argv[2:]), hits))
sys.exit(3 if hits else 0)
