#!/usr/bin/env python3
"""Runs an app's flows.py and writes down every secret that went over the wire.

    drive.py FLOWS.py BASE_URL TRUTH.jsonl SECRETS.txt

A secret is: the value of a request field or JSON member whose name is that of a password, code, token or key; every
cookie value, sent or set; every bearer, token or Basic credential; tokens in JSON answers; and path segments of links
that were mailed (they are followed as requests). The flows are not changed: `requests` is watched from beside.
"""
import base64, json, re, runpy, sys
from urllib.parse import unquote, unquote_plus

import requests

SECRET = re.compile(r"pass|pwd|token|code|otp|secret|key|csrf|nonce", re.I)
NOT_SECRET = re.compile(r"^(usable_password|set-password|action.*|_save.*|client|status|code_type|keys)$")   # keys: Directus' ids of rows
found = set()


def add(value):
    # Short or common words would be found everywhere and prove nothing.
    value = str(value)
    if len(value) >= 6 and value not in ("true", "false", "password"):
        found.add(value)


def walk(value, name=""):
    if isinstance(value, dict):
        for k, v in value.items():
            walk(v, str(k))
    elif isinstance(value, (list, tuple)):
        for v in value:
            if isinstance(v, (list, tuple)) and len(v) == 2 and isinstance(v[0], str):
                walk(v[1], v[0])
            else:
                walk(v, name)
    elif value is not None and SECRET.search(name) and not NOT_SECRET.match(name) and not isinstance(value, bool):
        add(value)


def answer_tokens(value, name=""):
    """Members of an answer that hold a token: by their name, and only if they look like one."""
    if isinstance(value, dict):
        for k, v in value.items():
            answer_tokens(v, str(k))
    elif isinstance(value, list):
        for v in value:
            answer_tokens(v, name)
    elif isinstance(value, str) and re.search(r"token|secret|jwt|csrf|key$", name, re.I) and re.search(r"\d", value) and len(value) >= 12:
        add(value)


send = requests.Session.send


def watched(self, request, **kw):
    body = request.body
    if isinstance(body, bytes):
        body = body.decode("utf-8", "replace")
    if isinstance(body, str):
        if "json" in request.headers.get("Content-Type", ""):
            try:
                walk(json.loads(body))
            except ValueError:
                pass
        else:
            walk([[unquote_plus(x) for x in pair.partition("=")[::2]] for pair in body.split("&")])
    credential = request.headers.get("Authorization", "")
    scheme, _, value = credential.partition(" ")
    if value:
        add(value)
        if scheme.lower() == "basic":
            add(base64.b64decode(value + "==").decode("utf-8", "replace").partition(":")[2])
    for name in ("X-Session-Token", "X-CSRFToken", "X-WP-Nonce"):
        if request.headers.get(name):
            add(request.headers[name])
    for pair in request.headers.get("Cookie", "").split("; "):
        name, _, value = pair.partition("=")
        if value and name not in ("wordpress_test_cookie", "django_language"):
            add(value.strip('"'))
    path = request.path_url.split("?")[0]
    if re.search(r"reset|confirm|activate|verify", path):
        for segment in path.split("/"):
            if len(segment) >= 16 and re.search(r"\d", segment):
                add(segment), add(unquote(segment))
    query = request.path_url.partition("?")[2]
    walk([p.partition("=")[::2] for p in query.split("&")])
    answer = send(self, request, **kw)
    for line in answer.raw.headers.getlist("Set-Cookie"):
        value = line.split(";")[0].partition("=")[2].strip('"')
        if not re.search(r"Max-Age=0|expires=Thu, 01[ -]Jan[ -]1970", line, re.I):
            add(value)
    if "json" in answer.headers.get("Content-Type", "") and len(answer.content) < 400000:
        try:
            answer_tokens(answer.json())
        except ValueError:
            pass
    return answer


requests.Session.send = watched
flows, base, truth, secrets = sys.argv[1:5]
sys.argv = [flows, base, truth, "--xff"]
try:
    runpy.run_path(flows, run_name="__main__")
finally:
    with open(secrets, "w") as f:
        f.write("\n".join(sorted(found)))
