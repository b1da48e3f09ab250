#!/usr/bin/env python3
"""Roundcube: one address for everything; the answer to a wrong password is 401 and the form."""
import os, sys
sys.path.insert(0, os.environ["APPS_LIB"])
from drive import Drive, find

d = Drive()
alice, bob = {"username": "alice"}, {"username": "bob"}


def login(b, user, password):
    return b.submit(b.get("/?_task=login"), {"_user": user, "_pass": password, "_timezone": "Europe/Berlin"}, form="_pass")


def token(b):
    return find(r'"request_token":"([^"]+)"', b.get("/?_task=settings").text)


b = d.browser()
d.step("browse")
b.get("/"), b.get("/?_task=mail")
d.never("the form")
d.step("wrong password")
r = login(b, "alice", "bad")
d.expect("user.login.failed", alice, r=r, actor_from="form:_user")
d.step("unknown user")
r = login(b, "ghost", "bad")
d.expect("user.login.failed", {"username": "ghost"}, r=r, actor_from="form:_user")
d.step("login")
r = login(b, "alice", "First-Pass-77-alice")
d.expect("user.login.success", alice, r=r, status=302, actor_from="form:_user")
d.step("inside")
b.get("/?_task=mail"), b.get("/?_task=mail&_action=compose"), b.get("/?_task=settings"), b.get("/?_task=mail&_action=list&_mbox=INBOX&_remote=1")
b.post("/?_task=utils&_action=save-pref", {"_name": "list_cols", "_value": "x", "_remote": "1", "_token": token(b)})
b.post("/?_task=mail&_action=refresh", {"_remote": "1", "_mbox": "INBOX", "_token": token(b)}, headers={"X-Requested-With": "XMLHttpRequest"})
d.never("reading mail, a preference")
d.step("identity")
r = b.get("/?_task=settings&_action=add-identity&_framed=1")
if "_email" in r.text:
    r = b.submit(r, {"_name": "Alice", "_email": "alice@example.test"}, form="_email")
d.never("another sender's address", r=r, may=["user.updated", "user.profile.*"])
d.step("login while signed in")
r = b.post("/?_task=login", {"_task": "login", "_action": "login", "_user": "alice", "_pass": "First-Pass-77-alice", "_token": token(b)})
d.never("signed in already", may=["user.login.*"], r=r)
d.step("logout")
if "_task=logout" not in b.get("/?_task=mail").text:
    login(b, "alice", "First-Pass-77-alice")
r = b.get("/?_task=logout&_token=" + token(b))
d.expect("user.logout", alice, r=r)
d.step("logout by nobody")
b.get("/?_task=logout")
d.never("nobody")
d.step("another")
n = d.browser()
r = login(n, "bob", "First-Pass-77-bob")
d.expect("user.login.success", bob, r=r, status=302, actor_from="form:_user")
d.step("logout of the other")
r = n.get("/?_task=logout&_token=" + token(n))
d.expect("user.logout", bob, r=r)
d.step("wrong again")
r = login(n, "bob", "bad")
d.expect("user.login.failed", bob, r=r, actor_from="form:_user")
d.done()
