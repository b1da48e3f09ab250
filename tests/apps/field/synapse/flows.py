#!/usr/bin/env python3
"""Synapse: the client-server API of Matrix. No cookie, no page but that of the mailed link."""
import os, sys
sys.path.insert(0, os.environ["APPS_LIB"])
from drive import Drive, find

d = Drive()
API = "/_matrix/client/v3"
alice, bob = {"username": "alice", "id": "@alice:example.test"}, {"username": "bob", "id": "@bob:example.test"}


def who(user):
    return {"type": "m.id.user", "user": user}


def login(b, user, password):
    return b.json("POST", API + "/login", {"type": "m.login.password", "identifier": who(user), "password": password, "initial_device_display_name": "Browser"})


def bearer(r):
    return {"Authorization": "Bearer " + r.json()["access_token"]}


b = d.browser()
d.step("what there is")
b.json("GET", "/_matrix/client/versions"), b.json("GET", API + "/login"), b.json("GET", API + "/account/whoami")
d.never("reads, one refused")
d.step("wrong password")
r = login(b, "alice", "bad")
d.expect("user.login.failed", alice, r=r, actor_from="json:/identifier/user", status=403)
d.step("unknown user")
r = login(b, "ghost", "bad")
d.expect("user.login.failed", {"username": "ghost"}, r=r, actor_from="json:/identifier/user", status=403)
d.step("nothing typed")
r = b.json("POST", API + "/login", {"type": "m.login.password"})
d.never("incomplete", r=r, may=["user.login.failed"])
d.step("login")
r = login(b, "alice", "First-Pass-77-alice")
d.expect("user.login.success", alice, r=r, actor_from="json:/identifier/user", status=200)
h = bearer(r)
d.step("inside")
b.json("GET", API + "/account/whoami", headers=dict(h)), b.json("GET", API + "/sync?timeout=0", headers=dict(h))
room = b.json("POST", API + "/createRoom", {"name": "Notes", "preset": "private_chat"}, headers=dict(h)).json()["room_id"]
b.json("PUT", API + "/rooms/%s/send/m.room.message/1" % room, {"msgtype": "m.text", "body": "my password and login"}, headers=dict(h))
b.json("PUT", API + "/profile/@alice:example.test/displayname", {"displayname": "Alicia"}, headers=dict(h))
b.json("POST", API + "/user_directory/search", {"search_term": "bob"}, headers=dict(h))
d.never("reads, a room, a message, a name", may=["user.updated", "user.profile.*"])
d.step("password change, nothing proven yet")
r = b.json("POST", API + "/account/password", {"new_password": "Second-Pass-88", "logout_devices": False}, headers=dict(h))
d.never("the old one is asked for", r=r)
session = r.json()["session"]
d.step("password change, wrong old one")
r = b.json("POST", API + "/account/password", {"new_password": "Second-Pass-88", "logout_devices": False, "auth": {"type": "m.login.password", "identifier": who("alice"), "password": "bad", "session": session}}, headers=dict(h))
d.never("refused", r=r, may=["user.login.failed"])
d.step("password change")
r = b.json("POST", API + "/account/password", {"new_password": "Second-Pass-88", "logout_devices": False, "auth": {"type": "m.login.password", "identifier": who("alice"), "password": "First-Pass-77-alice", "session": session}}, headers=dict(h))
d.expect("user.password.changed", alice, r=r, status=200)
d.step("logout")
r = b.json("POST", API + "/logout", {}, headers=dict(h))
d.expect("user.logout", alice, r=r, status=200)
d.step("logout again")
r = b.json("POST", API + "/logout", {}, headers=dict(h))
d.never("the token is gone", r=r)
d.step("old password")
r = login(b, "alice", "First-Pass-77-alice")
d.expect("user.login.failed", alice, r=r, actor_from="json:/identifier/user", status=403)
d.step("login with an address")
r = b.json("POST", API + "/login", {"type": "m.login.password", "identifier": {"type": "m.id.thirdparty", "medium": "email", "address": "alice@example.test"}, "password": "Second-Pass-88"})
d.expect("user.login.success", {**alice, "email": "alice@example.test"}, r=r, actor_from="json:/identifier/address", status=200)
h = bearer(r)
d.step("logout everywhere")
r = b.json("POST", API + "/logout/all", {}, headers=dict(h))
d.expect("user.logout", {**alice, "email": "alice@example.test"}, r=r, status=200)
d.step("sign up, the name is taken")
n = d.browser()
r = n.json("POST", API + "/register", {"username": "bob", "password": "Carols-Pass-66", "auth": {"type": "m.login.dummy"}})
d.never("refused", r=r)
d.step("sign up, stages")
r = n.json("POST", API + "/register", {"username": "carol", "password": "Carols-Pass-66"})
d.never("a stage is asked for", r=r)
d.step("sign up")
r = n.json("POST", API + "/register", {"username": "carol", "password": "Carols-Pass-66", "auth": {"type": "m.login.dummy", "session": r.json()["session"]}})
d.expect("user.created", {"username": "carol", "id": "@carol:example.test"}, r=r, optional=True, status=200)
d.step("new account's logout")
r = n.json("POST", API + "/logout", {}, headers=bearer(r))
d.expect("user.logout", {"username": "carol", "id": "@carol:example.test"}, r=r, status=200)
d.step("reset requested")
n = d.browser()
r = n.json("POST", API + "/account/password/email/requestToken", {"client_secret": "monkeys_are_GREAT_4711", "email": "bob@example.test", "send_attempt": 1})
d.expect("user.password.reset_requested", {"email": "bob@example.test"}, r=r, actor_from="json:/email", status=200)
sid = r.json()["sid"]
d.step("the mailed link")
link = find(r"https?://[^/\s]+(/_synapse/client/password_reset/email/submit_token\?\S+)", d.mail("bob"))
page = n.get(link)
d.never("a page that asks whether it was you", r=page)
d.step("link confirmed")
r = n.submit(page, {})
d.never("not done yet", r=r)
d.step("reset completed")
r = n.json("POST", API + "/account/password", {"new_password": "Second-Pass-99", "logout_devices": True, "auth": {"type": "m.login.email.identity", "threepid_creds": {"sid": sid, "client_secret": "monkeys_are_GREAT_4711"}, "threepidCreds": {"sid": sid, "client_secret": "monkeys_are_GREAT_4711"}}})
d.expect("user.password.reset_completed", {**bob, "email": "bob@example.test"}, r=r, actor_from="link", status=200)
d.step("login with it")
r = login(n, "@bob:example.test", "Second-Pass-99")
d.expect("user.login.success", bob, r=r, actor_from="json:/identifier/user", status=200)
h = bearer(r)
d.step("account closed, password asked again")
r = n.json("POST", API + "/account/deactivate", {"auth": {"type": "m.login.password", "identifier": who("bob"), "password": "Second-Pass-99"}}, headers=dict(h))
d.never("deletion", r=r, may=["user.deleted", "user.deactivated", "user.logout"])
d.done()
