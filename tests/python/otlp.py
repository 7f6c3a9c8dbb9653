"""An OpenTelemetry collector for the tests: rotel, which hands on what it took to a receiver here that reads it as protobuf.

It prints one JSON object a line: {"port": …}, where the collector takes OTLP over HTTP, then each span that came through it. It ends with its input.
"""

import gzip
import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import threading
import time

import rotel
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def say(what):
    print(json.dumps(what), flush=True)


def plain(value):
    return getattr(value, value.WhichOneof("value"))


class Receiver(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        request = ExportTraceServiceRequest()
        request.ParseFromString(body)
        for resource in request.resource_spans:
            of = {pair.key: plain(pair.value) for pair in resource.resource.attributes}
            for scope in resource.scope_spans:
                for span in scope.spans:
                    say(
                        {
                            "service": of.get("service.name"),
                            "trace": span.trace_id.hex(),
                            "span": span.span_id.hex(),
                            "parent": span.parent_span_id.hex(),
                            "name": span.name,
                            "kind": span.kind,
                            "start": span.start_time_unix_nano,
                            "end": span.end_time_unix_nano,
                            "error": span.status.message if span.status.code == 2 else None,
                            "attributes": {pair.key: plain(pair.value) for pair in span.attributes},
                        }
                    )
        self.send_response(200)
        self.send_header("content-type", "application/x-protobuf")
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Receiver)
threading.Thread(target=receiver.serve_forever, daemon=True).start()
with tempfile.TemporaryDirectory() as folder:
    port = free_port()
    collector = subprocess.Popen(
        [
            pathlib.Path(rotel.__file__).with_name("rotel-agent"),
            "start",
            f"--otlp-grpc-endpoint=127.0.0.1:{free_port()}",
            f"--otlp-http-endpoint=127.0.0.1:{port}",
            "--exporter=otlp",
            "--otlp-exporter-protocol=http",
            f"--otlp-exporter-endpoint=http://127.0.0.1:{receiver.server_address[1]}",
            f"--pid-file={folder}/pid",
            f"--log-file={folder}/log",
        ],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while collector.poll() is None and not answers(port):
        time.sleep(0.05)
    say({"port": port})
    sys.stdin.read()
    collector.kill()
    collector.wait()
os._exit(0)
