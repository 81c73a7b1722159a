"""A proxy that cuts connections on which nothing comes for a while, as firewalls do:
ci-proxy.py PORT TARGET SECONDS CUTS.

It listens on PORT of this machine, passes everything on to the port TARGET, and writes a line into
the file CUTS for each connection that it cuts.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

PORT, TARGET, SECONDS = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
CUTS = Path(sys.argv[4])


async def passed_on(client: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    server, to_server = await asyncio.open_connection("127.0.0.1", TARGET)
    loop = asyncio.get_running_loop()
    last = loop.time()

    async def one_way(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        nonlocal last
        while data := await source.read(1 << 16):
            last = loop.time()
            sink.write(data)
            await sink.drain()

    ways = {
        asyncio.ensure_future(one_way(client, to_server)),
        asyncio.ensure_future(one_way(server, writer)),
    }
    while not any(way.done() for way in ways):
        left = last + SECONDS - loop.time()
        if left <= 0:
            with CUTS.open("a") as cuts:
                cuts.write("cut\n")
            break
        await asyncio.wait(ways, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    for way in ways:
        way.cancel()
    await asyncio.gather(*ways, return_exceptions=True)
    for end in (writer, to_server):
        end.close()


async def main() -> None:
    server = await asyncio.start_server(passed_on, "127.0.0.1", PORT)
    async with server:
        await server.serve_forever()


asyncio.run(main())
