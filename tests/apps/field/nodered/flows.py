#!/usr/bin/env python3
"""Node-RED: /auth/token with the password grant; the session is a bearer token."""
import os, sys
sys.path.insert(0, os.environ["APPS_LIB"])
from drive import Drive

d = Drive()
alice, admin = {"username": "alice"}, {"username": "admin"}


def login(b, user, password):
    return b.post("/auth/token", {"client_id": "node-red-editor", "grant_type": "password", "scope": "*", "username": user, "password": password})


b = d.browser()
d.step("browse")
b.get("/"), b.json("GET", "/auth/login"), b.json("GET", "/settings"), b.json("GET", "/flows")
d.never("reads, some refused")
d.step("wrong password")
r = login(b, "alice", "bad")
d.expect("user.login.failed", alice, r=r, actor_from="form:username")
d.step("unknown user")
r = login(b, "ghost", "bad")
d.expect("user.login.failed", {"username": "ghost"}, r=r, actor_from="form:username")
d.step("login")
r = login(b, "alice", "First-Pass-77-alice")
d.expect("user.login.success", alice, r=r, status=200, actor_from="form:username")
auth = {"Authorization": "Bearer " + r.json()["access_token"]}
token = r.json()["access_token"]
d.step("inside")
b.json("GET", "/settings", headers=dict(auth)), b.json("GET", "/flows", headers={**auth, "Node-RED-API-Version": "v2"})
b.json("POST", "/flows", [{"id": "f1", "type": "tab", "label": "x"}], headers=dict(auth))
d.never("reads and a save")
d.step("logout")
r = b.post("/auth/revoke", {"token": token}, headers=dict(auth))
d.expect("user.logout", alice, r=r, status=200)
d.step("logout again")
b.post("/auth/revoke", {"token": token}, headers=dict(auth))
d.never("the token is gone")
d.step("another login")
n = d.browser()
r = login(n, "admin", "Adm1n-Pass-2951")
d.expect("user.login.success", admin, r=r, status=200, actor_from="form:username")
auth = {"Authorization": "Bearer " + r.json()["access_token"]}
token = r.json()["access_token"]
d.step("library")
n.json("POST", "/library/local/flows/x", {"a": 1}, headers=dict(auth)), n.json("GET", "/library/local/flows/", headers=dict(auth))
d.never("a save")
d.step("logout of the other")
r = n.post("/auth/revoke", {"token": token}, headers=dict(auth))
d.expect("user.logout", admin, r=r, status=200)
d.done()
