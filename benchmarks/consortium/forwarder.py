"""``python forwarder.py LISTEN TARGET MILLISECONDS``: TCP connections, forwarded late.

What comes is sent on ``MILLISECONDS`` later, in order, both ways; a round trip takes twice that longer. It
holds what is on the way, as a long cable does, so it adds time and takes away no speed.
"""

from __future__ import annotations

import asyncio
import sys

CHUNK = 1 << 16
ON_THE_WAY = 1 << 10  # chunks


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
    """Everything from ``reader`` to ``writer``, each chunk ``delay_s`` after it came."""
    loop = asyncio.get_running_loop()
    on_the_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(ON_THE_WAY)

    async def take() -> None:
        while True:
            data = await reader.read(CHUNK)
            await on_the_way.put((loop.time() + delay_s, data))
            if not data:
                return

    taking = asyncio.create_task(take())
    try:
        while True:
            due, data = await on_the_way.get()
            await asyncio.sleep(max(0.0, due - loop.time()))
            if not data:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
    finally:
        taking.cancel()


async def forward(listen: str, target: str, delay_s: float) -> None:
    """Accept at ``listen`` and connect each to ``target``, both host:port, for ever."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        host, port = target.rsplit(":", 1)
        try:
            there, back = await asyncio.open_connection(host, int(port))
        except OSError:
            writer.close()
            return
        pumps = (pump(reader, back, delay_s), pump(there, writer, delay_s))
        await asyncio.gather(*pumps, return_exceptions=True)
        for end in (back, writer):
            end.close()

    host, port = listen.rsplit(":", 1)
    server = await asyncio.start_server(serve, host, int(port))
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(forward(sys.argv[1], sys.argv[2], float(sys.argv[3]) / 1000))
