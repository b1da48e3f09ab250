#!/usr/bin/env python3
"""OctoPrint: JSON calls of a single page, with a CSRF cookie repeated in a header."""
import os, sys
sys.path.insert(0, os.environ["APPS_LIB"])
from drive import Drive

d = Drive()
alice, bob, admin = {"username": "alice"}, {"username": "bob"}, {"username": "admin"}
ADMIN = "Adm1n-Pass-2951"


def call(b, method, path, body=None):
    token = next((v for k, v in b.cookies.items() if k.startswith("csrf_token")), "")
    return b.json(method, path, body, headers={"X-CSRF-Token": token, "X-Requested-With": "XMLHttpRequest"})


def login(b, user, password):
    return call(b, "POST", "/api/login", {"user": user, "pass": password, "remember": False})


b = d.browser()
d.step("browse")
b.get("/"), b.get("/login/"), call(b, "GET", "/api/settings"), call(b, "POST", "/api/login", {"passive": True})
d.never("pages, a passive login")
d.step("wrong password")
r = login(b, "alice", "bad")
d.expect("user.login.failed", alice, r=r, status=403, actor_from="json:user")
d.step("unknown user")
r = login(b, "ghost", "bad")
d.expect("user.login.failed", {"username": "ghost"}, r=r, status=403, actor_from="json:user")
d.step("login")
r = login(b, "alice", "First-Pass-77-alice")
d.expect("user.login.success", alice, r=r, status=200, actor_from="json:user")
d.step("inside")
call(b, "POST", "/api/login", {"passive": True}), call(b, "GET", "/api/currentuser"), call(b, "GET", "/api/printerprofiles"), b.get("/")
d.never("a passive login inside a session, reads")
d.step("password change, wrong old one")
r = call(b, "PUT", "/api/access/users/alice/password", {"password": "Second-Pass-88", "current": "bad"})
d.never("refused", r=r)
d.check(r.status_code >= 400, "refused")
d.step("password change")
r = call(b, "PUT", "/api/access/users/alice/password", {"password": "Second-Pass-88", "current": "First-Pass-77-alice"})
d.check(r.status_code < 300, "changed %s" % r.status_code)
d.expect("user.password.changed", alice, r=r)
d.step("own settings")
r = call(b, "PATCH", "/api/access/users/alice/settings", {"interface": {"language": "en"}})
d.never("settings", r=r)
d.step("logout")
r = call(b, "POST", "/api/logout", {})
d.expect("user.logout", alice, r=r, status=200)
d.step("logout by nobody")
call(b, "POST", "/api/logout", {})
d.never("nobody")
d.step("old password")
r = login(d.browser(), "alice", "First-Pass-77-alice")
d.expect("user.login.failed", alice, r=r, actor_from="json:user")
d.step("login again")
n = d.browser()
n.get("/login/")
r = login(n, "alice", "Second-Pass-88")
d.expect("user.login.success", alice, r=r, status=200, actor_from="json:user")
d.step("admin")
a = d.browser()
a.get("/login/")
r = login(a, "admin", ADMIN)
d.expect("user.login.success", admin, r=r, status=200, actor_from="json:user")
d.step("makes a user")
r = call(a, "POST", "/api/access/users", {"name": "carol", "password": "Carols-Pass-66", "active": True, "groups": ["users"], "admin": False})
d.expect("user.created", admin, r=r, optional=True)
d.step("sets another's password")
r = call(a, "PUT", "/api/access/users/bob/password", {"password": "Second-Pass-99", "current": ADMIN})
d.expect("user.password.changed", admin, r=r, target=bob, alt=["user.password.reset_completed"], optional=True)
d.step("admin logs out")
r = call(a, "POST", "/api/logout", {})
d.expect("user.logout", admin, r=r, status=200)
d.done()
