#!/usr/bin/env python3
"""phpMyAdmin: the accounts are the database's; one address for everything, pages half of which are JSON."""
import os, sys
sys.path.insert(0, os.environ["APPS_LIB"])
from drive import Drive, find

d = Drive()
alice, root = {"username": "alice"}, {"username": "root"}


def login(b, user, password):
    return b.submit(b.get("/index.php"), {"pma_username": user, "pma_password": password}, form="pma_password")


def token(b):
    return find(r'name="token" value="([^"]+)"', b.get("/index.php?route=/").text)


b = d.browser()
d.step("browse")
b.get("/"), b.get("/index.php?route=/server/databases")
d.never("the form")
d.step("wrong password")
r = login(b, "alice", "bad")
d.expect("user.login.failed", alice, r=r, actor_from="form:pma_username")
d.step("unknown user")
r = login(b, "ghost", "bad")
d.expect("user.login.failed", {"username": "ghost"}, r=r, actor_from="form:pma_username")
d.step("login")
r = login(b, "alice", "First-Pass-77-alice")
d.expect("user.login.success", alice, r=r, actor_from="form:pma_username", status=302)
d.step("inside")
b.get("/index.php?route=/"), b.get("/index.php?route=/server/databases"), b.get("/index.php?route=/database/structure&db=notes")
d.never("reads")
d.step("a query")
r = b.post("/index.php?route=/sql", {"db": "notes", "sql_query": "select 'password' as login", "token": token(b), "ajax_request": "true"}, headers={"X-Requested-With": "XMLHttpRequest"})
d.never("a query", r=r)
d.step("password change, the two differ")
r = b.post("/index.php?route=/user-password", {"token": token(b), "nopass": "0", "pma_pw": "Second-Pass-88", "pma_pw2": "Second-Pass-89", "authentication_plugin": "mysql_native_password", "change_pw": "1", "ajax_request": "true"}, headers={"X-Requested-With": "XMLHttpRequest"})
d.never("refused", r=r)
d.step("password change")
r = b.post("/index.php?route=/user-password", {"token": token(b), "nopass": "0", "pma_pw": "Second-Pass-88", "pma_pw2": "Second-Pass-88", "authentication_plugin": "mysql_native_password", "change_pw": "1", "ajax_request": "true"}, headers={"X-Requested-With": "XMLHttpRequest"})
d.expect("user.password.changed", alice, r=r, status=200, mark='"success":true')
d.step("logout")
r = b.post("/index.php?route=/logout", {"token": token(b)})
d.expect("user.logout", alice, r=r)
d.step("old password")
r = login(d.browser(), "alice", "First-Pass-77-alice")
d.expect("user.login.failed", alice, r=r, actor_from="form:pma_username")
d.step("login with the new one")
n = d.browser()
r = login(n, "alice", "Second-Pass-88")
d.expect("user.login.success", alice, r=r, actor_from="form:pma_username", status=302)
d.step("logout of that")
r = n.post("/index.php?route=/logout", {"token": token(n)})
d.expect("user.logout", alice, r=r)
d.step("administrator")
a = d.browser()
r = login(a, "root", "Adm1n-Pass-2951")
d.expect("user.login.success", root, r=r, actor_from="form:pma_username", status=302)
d.step("administrator's logout")
r = a.post("/index.php?route=/logout", {"token": token(a)})
d.expect("user.logout", root, r=r)
d.done()
