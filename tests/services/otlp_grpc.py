"""A receiver of OTLP logs over gRPC, built on the official messages and grpcio: prints its port, then
one JSON line for each record it was sent. A record with `mallory` in it is rejected, one with
`later` makes it unavailable for half a second. Needs the packages opentelemetry-proto, grpcio
and googleapis-common-protos."""
import json
from concurrent import futures

import grpc
from google.protobuf import any_pb2, duration_pb2, json_format
from google.rpc import error_details_pb2, status_pb2
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as pb
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as service


class Servicer(service.LogsServiceServicer):
    def Export(self, request, context):
        text = str(request)
        if "later" in text:
            info = error_details_pb2.RetryInfo(retry_delay=duration_pb2.Duration(nanos=500_000_000))
            detail = any_pb2.Any()
            detail.Pack(info)
            status = status_pb2.Status(code=14, message="busy", details=[detail])
            context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
            context.abort(grpc.StatusCode.UNAVAILABLE, "busy")
        if "mallory" in text:
            partial = pb.ExportLogsPartialSuccess(rejected_log_records=1, error_message="no")
            return pb.ExportLogsServiceResponse(partial_success=partial)
        for resource in request.resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    print(json.dumps(json_format.MessageToDict(record)), flush=True)
        return pb.ExportLogsServiceResponse()


server = grpc.server(futures.ThreadPoolExecutor(2))
service.add_LogsServiceServicer_to_server(Servicer(), server)
print(server.add_insecure_port("127.0.0.1:0"), flush=True)
server.start()
server.wait_for_termination()
