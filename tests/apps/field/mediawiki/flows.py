#!/usr/bin/env python3
"""MediaWiki: Special pages (one address serves everything), and the action API."""
import os, sys
sys.path.insert(0, os.environ["APPS_LIB"])
from drive import Drive, find, forms

d = Drive()
alice, bob = {"username": "Alice"}, {"username": "Bob"}
PW = {"Alice": "First-Pass-77-alice", "Bob": "First-Pass-77-bob"}
LOGIN = "/index.php?title=Special:UserLogin&returnto=Main+Page"


def login(b, user, password, page=LOGIN):
    return b.submit(b.get(page), {"wpName": user, "wpPassword": password}, form="wpPassword")


def token(b, kind):
    return b.json("GET", "/api.php?action=query&meta=tokens&format=json&type=" + kind).json()["query"]["tokens"][kind + "token"]


b = d.browser()
d.step("browse")
b.get("/index.php/Main_Page"), b.get("/index.php?search=password+login&title=Special:Search"), b.get(LOGIN)
b.get("/index.php?title=Special:RecentChanges"), b.get("/index.php?title=Special:PasswordReset"), b.get("/index.php?title=Special:CreateAccount")
d.never("public pages, search, the forms")

d.step("edit as nobody")
r = b.get("/index.php?title=Talk:Main_Page&action=edit")
b.submit(r, {"wpTextbox1": "a comment about password and login", "wpSummary": "hello"}, form="wpTextbox1", button="wpSave")
d.never("an anonymous edit")

d.step("wrong password")
r = login(b, "Alice", "bad")
d.expect("user.login.failed", alice, actor_from="form:wpName", r=r, mark="Incorrect")

d.step("unknown user")
r = login(b, "Ghost", "bad")
d.expect("user.login.failed", {"username": "Ghost"}, actor_from="form:wpName", r=r, mark="Incorrect")

d.step("empty")
r = login(b, "", "")
d.never("nothing typed", may=["user.login.failed"], r=r)

d.step("login")
r = login(b, "Alice", PW["Alice"])
d.expect("user.login.success", alice, actor_from="form:wpName", r=r, status=302)

d.step("pages inside")
b.get("/index.php/Main_Page"), b.get("/index.php?title=Special:Preferences"), b.get("/index.php?title=Special:Watchlist")
r = b.submit(b.get("/index.php?title=Notes&action=edit"), {"wpTextbox1": "text"}, form="wpTextbox1", button="wpSave")
d.never("reading and an edit")

d.step("password change, wrong old one")
page = b.get("/index.php?title=Special:ChangePassword")
if "wpPassword" in page.text:
    r = login(b, "Alice", "bad", "/index.php?title=Special:ChangePassword")
    d.never("asked again inside a session, wrong", r=r, may=["user.login.failed"])
    d.step("password asked again")
    r = b.submit(b.get("/index.php?title=Special:ChangePassword"), {"wpPassword": PW["Alice"]}, form="wpPassword")
    d.never("asked again inside a session", r=r)
    page = r
else:
    d.never("not asked here")
d.step("password change, the two differ")
r = b.submit(page, {"password": "Second-Pass-88", "retype": "Second-Pass-89"}, form="retype")
d.never("refused", r=r)
d.step("password change")
r = b.submit(b.get("/index.php?title=Special:ChangePassword"), {"password": "Second-Pass-88", "retype": "Second-Pass-88"}, form="retype")
d.expect("user.password.changed", alice, r=r)

d.step("login while signed in")
page = b.get(LOGIN)
if any(x[0] == "wpPassword" for f in forms(page.text) for x in f["fields"]):
    b.submit(page, {"wpName": "Alice", "wpPassword": "Second-Pass-88"}, form="wpPassword")
d.never("signed in already", may=["user.login.success"])

d.step("logout")
r = b.get("/index.php?title=Special:UserLogout")
r = b.submit(r, {}, form="UserLogout") if "wpEditToken" in r.text else r
d.expect("user.logout", alice, r=r)

d.step("logout by nobody")
b.get("/index.php?title=Special:UserLogout")
d.never("nobody was signed in")

d.step("old password")
r = login(d.browser(), "Alice", PW["Alice"])
d.expect("user.login.failed", alice, actor_from="form:wpName", r=r, mark="Incorrect")

d.step("sign up")
n = d.browser()
r = n.submit(n.get("/index.php?title=Special:CreateAccount"),
             {"wpName": "Carol", "wpPassword": "Carols-Pass-66", "retype": "Carols-Pass-66", "email": "carol@example.test"}, form="retype")
d.expect("user.created", {"username": "Carol"}, r=r, actor_from="form:wpName", optional=True)
d.step("new account's logout")
r = n.get("/index.php?title=Special:UserLogout")
r = n.submit(r, {}, form="UserLogout")
d.expect("user.logout", {"username": "Carol"}, r=r)

d.step("sign up, name taken")
n = d.browser()
r = n.submit(n.get("/index.php?title=Special:CreateAccount"),
             {"wpName": "Bob", "wpPassword": "Carols-Pass-66", "retype": "Carols-Pass-66", "email": "x@example.test"}, form="retype")
d.never("refused", r=r)

d.step("reset requested")
n = d.browser()
r = n.submit(n.get("/index.php?title=Special:PasswordReset"), {"wpUsername": "Bob"}, form="wpUsername")
d.expect("user.password.reset_requested", bob, r=r, actor_from="form:wpUsername")
d.step("login with the mailed password")
temporary = find(r"[Tt]emporary password:?\s*(\S+)", d.mail("bob"))
r = login(n, "Bob", temporary)
d.never("the new password is asked for first", may=["user.login.success"], r=r)
d.step("new password")
r = n.submit(r, {"wpPassword": "Second-Pass-99", "retype": "Second-Pass-99"}, form="retype")
d.expect("user.login.success", bob, r=r, status=302)
d.expect("user.password.reset_completed", bob, r=r, alt=["user.password.changed"])

d.step("API login, wrong")
a = d.browser()
r = a.post("/api.php", {"action": "clientlogin", "format": "json", "username": "Alice", "password": "bad",
                        "loginreturnurl": d.base + "/", "logintoken": token(a, "login")})
d.expect("user.login.failed", alice, r=r, actor_from="form:username", mark="FAIL")
d.step("API login")
r = a.post("/api.php", {"action": "clientlogin", "format": "json", "username": "Alice", "password": "Second-Pass-88",
                        "loginreturnurl": d.base + "/", "logintoken": token(a, "login")})
d.expect("user.login.success", alice, r=r, actor_from="form:username", mark="PASS")
d.step("API edit")
r = a.post("/api.php", {"action": "edit", "format": "json", "title": "Notes", "text": "more", "token": token(a, "csrf")})
d.never("an edit", r=r, mark="Success")
d.step("API logout")
r = a.post("/api.php", {"action": "logout", "format": "json", "token": token(a, "csrf")})
d.expect("user.logout", alice, r=r)
d.done()
