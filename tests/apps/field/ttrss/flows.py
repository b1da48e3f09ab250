#!/usr/bin/env python3
"""Tiny Tiny RSS: refusals are redirects to the same address, its settings answer in plain words."""
import os, sys
sys.path.insert(0, os.environ["APPS_LIB"])
from drive import Drive, find

d = Drive()
alice, bob, admin = {"username": "alice"}, {"username": "bob"}, {"username": "admin"}


def login(b, user, password):
    b.get("/index.php")
    return b.post("/public.php", {"op": "login", "login": user, "password": password, "profile": "0"})


def token(b):
    return find(r'csrf_?[tT]oken"?\s*[=:]\s*"([^"]+)"', b.get("/index.php").text)


b = d.browser()
d.step("browse")
b.get("/"), b.get("/index.php"), b.get("/public.php?op=forgotpass")
d.never("the form")
d.step("wrong password")
r = login(b, "alice", "bad")
d.expect("user.login.failed", alice, r=r, actor_from="form:login", status=302)
d.step("unknown user")
r = login(b, "ghost", "bad")
d.expect("user.login.failed", {"username": "ghost"}, r=r, actor_from="form:login", status=302)
d.step("login")
r = login(b, "alice", "First-Pass-77-alice")
d.expect("user.login.success", alice, r=r, actor_from="form:login", status=302)
d.step("inside")
csrf = token(b)
x = {"X-Requested-With": "XMLHttpRequest"}
b.get("/prefs.php"), b.post("/backend.php", {"op": "rpc", "method": "getAllCounters", "csrf_token": csrf}, page=False, headers=dict(x))
d.never("reads")
d.step("password change, wrong old one")
change = {"op": "pref-prefs", "method": "changepassword", "new_password": "Second-Pass-88", "confirm_password": "Second-Pass-88", "csrf_token": csrf}
r = b.post("/backend.php", {**change, "old_password": "bad"}, page=False, headers=dict(x))
d.never("refused", r=r)
d.step("password change, the two differ")
r = b.post("/backend.php", {**change, "old_password": "First-Pass-77-alice", "confirm_password": "Second-Pass-89"}, page=False, headers=dict(x))
d.never("refused", r=r)
d.step("password change")
r = b.post("/backend.php", {**change, "old_password": "First-Pass-77-alice"}, page=False, headers=dict(x))
d.expect("user.password.changed", alice, r=r, status=200)
d.step("login once more")
r = login(b, "alice", "Second-Pass-88")
d.never("signed in already, or again", r=r, may=["user.login.success"])
d.step("logout")
r = b.post("/public.php?op=logout", {"csrf_token": token(b)})
d.expect("user.logout", alice, r=r, status=302)
d.step("old password")
r = login(d.browser(), "alice", "First-Pass-77-alice")
d.expect("user.login.failed", alice, r=r, actor_from="form:login", status=302)
d.step("administrator")
a = d.browser()
r = login(a, "admin", "Adm1n-Pass-2951")
d.expect("user.login.success", admin, r=r, actor_from="form:login", status=302)
d.step("administrator's logout")
r = a.post("/public.php?op=logout", {"csrf_token": token(a)})
d.expect("user.logout", admin, r=r, status=302)
d.done()
