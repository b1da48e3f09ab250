"""The ClickHouse engine behind a small HTTP interface: prints its port. Needs the package chdb."""
import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlparse

from chdb import session

SESSION = session.Session()
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        statement = parse_qs(urlparse(self.path).query).get("query", [""])[0]
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        settings = parse_qs(urlparse(self.path).query).get("date_time_input_format", [""])[0]
        if settings and statement.startswith("INSERT"):
            head, tail = statement.split(" FORMAT ")
            statement = f"{head} SETTINGS date_time_input_format='{settings}' FORMAT {tail}"
        sql = (statement + "\n" if statement else "") + body.decode()
        try:
            with LOCK:
                result = SESSION.query(sql, "TabSeparated")
            self.answer(200, result.bytes() if result is not None else b"")
        except Exception as error:
            self.answer(400, str(error).encode())

    do_GET = do_POST

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
