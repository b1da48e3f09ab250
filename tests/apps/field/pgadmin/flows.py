#!/usr/bin/env python3
"""pgAdmin: a page that a script fills in; the login is a form post, the rest JSON."""
import os, re, sys
sys.path.insert(0, os.environ["APPS_LIB"])
from drive import Drive, find

d = Drive()
alice, bob = {"email": "alice@example.test"}, {"email": "bob@example.test"}


def token(page):
    return find(r'csrfToken["\']?\s*[:=]\s*["\']([^"\']+)|csrf_token&#34;: &#34;([^&]+)', page.text) if "csrf" in page.text else ""


def csrf(page):
    m = re.search(r'(?:csrfToken|csrf_token|csrf)\W{1,12}([\w.-]{40,})', page.text)
    d.check(m, "no token in " + page.text[:6000])
    return m.group(1)


def login(b, user, password):
    t = csrf(b.get("/login?next=/"))
    return b.post("/authenticate/login", {"csrf_token": t, "email": user, "password": password, "language": "en", "internal_button": "Login"})


b = d.browser()
d.step("browse")
b.get("/"), b.get("/login"), b.get("/browser/reset_password")
d.never("pages")
d.step("wrong password")
r = login(b, "alice@example.test", "bad-password")
d.expect("user.login.failed", alice, r=r, actor_from="form:email")
d.step("unknown user")
r = login(b, "ghost@example.test", "bad-password")
d.expect("user.login.failed", {"email": "ghost@example.test"}, r=r, actor_from="form:email")
d.step("login")
r = login(b, "alice@example.test", "First-Pass-77-alice")
d.check(r.url.rstrip("/").endswith("browser") or r.url.endswith("/browser/"), "inside: " + r.url)
d.expect("user.login.success", alice, r=r, actor_from="form:email")
d.step("inside")
home = b.get("/browser/")
b.get("/user_management/"), b.get("/misc/ping")
d.never("reads")
d.step("password change, wrong old one")
h = {"X-pgA-CSRFToken": csrf(home) if "csrf" in home.text else ""}
r = b.json("GET", "/browser/change_password")
d.check("csrf_token" in r.text, r.text)
t = r.json()["csrf_token"]
r = b.json("POST", "/browser/change_password", {"csrf_token": t, "password": "bad-password", "new_password": "Second-Pass-88", "new_password_confirm": "Second-Pass-88"}, headers=h)
d.check(r.status_code >= 400, "refused")
d.never("refused", r=r)
d.step("password change")
r = b.json("POST", "/browser/change_password", {"csrf_token": t, "password": "First-Pass-77-alice", "new_password": "Second-Pass-88", "new_password_confirm": "Second-Pass-88"}, headers=h)
d.check(r.status_code == 200, "changed " + r.text)
d.expect("user.password.changed", alice, r=r)
d.step("logout")
r = b.get("/logout?next=/browser/")
d.expect("user.logout", alice, r=r)
d.step("logout by nobody")
b.get("/logout?next=/browser/")
d.never("nobody")
d.step("reset requested")
n = d.browser()
t = csrf(n.get("/browser/reset_password"))
r = n.post("/browser/reset_password", {"csrf_token": t, "email": "bob@example.test"})
d.expect("user.password.reset_requested", bob, r=r, actor_from="form:email")
d.step("reset page")
link = find(r"https?://[^/\s]+(/browser/reset_password/[^\s\"<]+)", d.mail("bob"))
page = n.get(link)
d.never("GET of the link", r=page)
d.step("reset completed")
r = n.post(link, {"csrf_token": csrf(page), "password": "Second-Pass-99", "password_confirm": "Second-Pass-99"})
d.expect("user.password.reset_completed", {}, r=r, actor_from="link")
d.step("login with it")
m = d.browser()
r = login(m, "bob@example.test", "Second-Pass-99")
d.expect("user.login.success", bob, r=r, actor_from="form:email")
d.step("login while signed in")
r = m.post("/authenticate/login", {"csrf_token": "", "email": "bob@example.test", "password": "Second-Pass-99"})
d.never("signed in already", may=["user.login.*"])
d.done()
