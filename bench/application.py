#!/usr/bin/env python3
"""What nginx cannot be as an application: it echoes WebSockets, and reads whole bodies before it answers.

    application.py PORT

Any request that asks for an upgrade becomes a WebSocket whose messages come back (RFC 6455, short
messages only: what scale.py sends); any other is answered 200 once its body was read.
"""

import asyncio
import base64
import hashlib
import re
import sys

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PIECE = 1 << 18


def accept_of(key):
    """Sec-WebSocket-Accept for a Sec-WebSocket-Key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key + GUID).digest())


async def echo(reader, writer):
    while True:
        first, second = await reader.readexactly(2)
        mask = await reader.readexactly(4)
        text = await reader.readexactly(second & 0x7F)
        writer.write(bytes([first, len(text)]) + bytes(byte ^ mask[i % 4] for i, byte in enumerate(text)))
        await writer.drain()


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            if key := re.search(rb"\r\nsec-websocket-key: *(\S+)", head, re.I):
                writer.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             b"Sec-WebSocket-Accept: " + accept_of(key.group(1)) + b"\r\n\r\n")
                await echo(reader, writer)
            length = re.search(rb"\r\ncontent-length: *(\d+)", head, re.I)
            left = int(length.group(1)) if length else 0
            while left:
                piece = await reader.read(min(left, PIECE))
                if not piece:
                    return
                left -= len(piece)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


async def main(port):
    server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=4096, limit=PIECE)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
