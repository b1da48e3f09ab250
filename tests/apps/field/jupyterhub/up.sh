#!/usr/bin/env bash
# JupyterHub of PyPI, accounts of its own authenticator's kind (one shared password each), no proxy beside it.
. "$APPS_LIB/app.sh"
fresh
need_pip "jupyterhub==5.*"
cat >"$DATA/conf.py" <<PY
from jupyterhub.auth import Authenticator
from jupyterhub.proxy import Proxy
from jupyterhub.spawner import SimpleLocalProcessSpawner
class Listed(Authenticator):
    async def authenticate(self, handler, data):
        return data["username"] if data["password"] == {"alice": "First-Pass-77-alice", "admin": "$ADMIN_PASSWORD"}.get(data["username"]) else None
class Direct(Proxy):
    should_start = False
    async def get_all_routes(self): return {"/": {"routespec": "/", "target": "http://127.0.0.1:$PORT", "data": {"hub": True}}}
    async def add_route(self, routespec, target, data): pass
    async def delete_route(self, routespec): pass
c.JupyterHub.proxy_class = Direct
c.JupyterHub.authenticator_class = Listed
c.JupyterHub.spawner_class = SimpleLocalProcessSpawner
c.JupyterHub.hub_bind_url = "http://127.0.0.1:$PORT"
c.JupyterHub.bind_url = "$PUBLIC_URL"
c.JupyterHub.db_url = "sqlite:///$DATA/hub.sqlite"
c.JupyterHub.cookie_secret_file = "$DATA/secret"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {"admin"}
PY
cd "$DATA"
start hub jupyterhub -f "$DATA/conf.py"
ready /hub/login 120
