#!/usr/bin/env bash
# LNbits of PyPI (FastAPI): a token in a cookie and as a bearer, on sqlite, with a wallet that pays nobody.
. "$APPS_LIB/app.sh"
fresh
need_pip lnbits==1.6.2 "bitstring<5"
export LNBITS_DATA_FOLDER="$DATA" LNBITS_ADMIN_UI=true LNBITS_BACKEND_WALLET_CLASS=VoidWallet AUTH_ALLOWED_METHODS=username-password \
  AUTH_SECRET_KEY=test-range-only-4711 AUTH_HTTPS_ONLY=false LNBITS_RATE_LIMIT_NO=10000 FIRST_INSTALL_TOKEN= \
  LNBITS_EXTENSIONS_MANIFESTS= LNBITS_EXTENSIONS_DEFAULT_INSTALL=
# Its own files are looked for in the folder it is started in.
cd "$VENV"/lib/python3*/site-packages
start lnbits lnbits --host 127.0.0.1 --port "$PORT"
ready /api/v1/health 120
curl -s -X PUT "http://127.0.0.1:$PORT/api/v1/auth/first_install" -H 'content-type: application/json' \
  -d "{\"username\":\"admin\",\"password\":\"$ADMIN_PASSWORD\",\"password_repeat\":\"$ADMIN_PASSWORD\"}" >"$LOG/setup.log"
for u in alice bob; do
  curl -s -X POST "http://127.0.0.1:$PORT/api/v1/auth/register" -H 'content-type: application/json' \
    -d "{\"username\":\"$u\",\"email\":\"$u@example.test\",\"password\":\"First-Pass-77-$u\",\"password_repeat\":\"First-Pass-77-$u\"}" >>"$LOG/setup.log"
done
