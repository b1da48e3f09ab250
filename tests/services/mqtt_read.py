"""mqtt_read.py PORT FILTER COUNT: says `subscribed`, then prints `TOPIC PAYLOAD` of so many messages.

MQTT 3.1.1 by hand, so that a test needs no package beside the broker.
"""

import socket
import sys

port, filter_, count = int(sys.argv[1]), sys.argv[2].encode(), int(sys.argv[3])
connection = socket.create_connection(("127.0.0.1", port))
connection.settimeout(60)
stream = connection.makefile("rb")


def send(kind, body):
    length, size = b"", len(body)
    while True:
        size, digit = divmod(size, 128)
        length += bytes([digit | (128 if size else 0)])
        if not size:
            break
    connection.sendall(bytes([kind]) + length + body)


def text(value):
    return len(value).to_bytes(2, "big") + value


def receive():
    kind = stream.read(1)[0]
    size = shift = 0
    while True:
        byte = stream.read(1)[0]
        size |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return kind, stream.read(size)


send(0x10, text(b"MQTT") + bytes([4, 2]) + (60).to_bytes(2, "big") + text(b"reader"))
assert receive() == (0x20, b"\x00\x00")
send(0x82, b"\x00\x01" + text(filter_) + b"\x01")
assert receive()[0] == 0x90
print("subscribed", flush=True)
while count:
    kind, body = receive()
    assert kind & 0xF0 == 0x30, kind
    length = int.from_bytes(body[:2], "big")
    topic, rest = body[2 : 2 + length], body[2 + length :]
    if kind & 6:
        send(0x40, rest[:2])
        rest = rest[2:]
    print(topic.decode(), rest.decode(), flush=True)
    count -= 1
