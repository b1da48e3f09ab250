"""A receiver of OTLP logs and traces over HTTP, built on the official messages: prints its port, then
one JSON line for each record and each span it was sent. Needs the packages
opentelemetry-proto and zstandard."""
import gzip
import json
from http.server import BaseHTTPRequestHandler, HTTPServer

import zstandard
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        elif self.headers.get("content-encoding") == "zstd":
            body = zstandard.ZstdDecompressor().decompressobj().decompress(body)
        of_traces = self.path == "/v1/traces"
        request = traces.ExportTraceServiceRequest() if of_traces else logs.ExportLogsServiceRequest()
        taken = traces.ExportTraceServiceResponse() if of_traces else logs.ExportLogsServiceResponse()
        in_json = "json" in self.headers["content-type"]
        try:
            json_format.Parse(body, request) if in_json else request.ParseFromString(body)
            status, answer = 200, b"{}" if in_json else taken.SerializeToString()
        except (json_format.ParseError, DecodeError) as error:
            status, answer = 400, str(error).encode()
        for resource in request.resource_spans if of_traces else request.resource_logs:
            for scope in resource.scope_spans if of_traces else resource.scope_logs:
                for record in scope.spans if of_traces else scope.log_records:
                    print(json.dumps(json_format.MessageToDict(record)), flush=True)
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Handler)
print(server.server_port, flush=True)
server.serve_forever()
