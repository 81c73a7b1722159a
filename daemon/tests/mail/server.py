"""The mail server of the tests, steered by lines on standard input.

`server.py FOLDER [tls] [smtps] [auth] [port=N]` prints its port when it listens. `refuse TEXT`
makes it answer so to every message, `refuse` alone lets it take them again. `hang-up TEXT` makes it
drop the connection at messages with that text, `hang-up` alone no longer; `hung-up` says how often
it did. `mute` makes it never answer to QUIT. It ends with its input. Each message is in FOLDER as
`001.eml` and so on.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "tests" / "harness"))

from smtp import Smtp


def main() -> None:
    folder, *words = sys.argv[1:]
    ports = [int(word.removeprefix("port=")) for word in words if word.startswith("port=")]
    server = Smtp(
        Path(folder),
        tls="tls" in words,
        smtps="smtps" in words,
        auth="auth" in words,
        port=ports[0] if ports else 0,
    )
    server.start()
    print(server.port, flush=True)
    for line in sys.stdin:
        command, _, text = line.strip().partition(" ")
        if command == "refuse":
            server.refuse = text or None
        elif command == "hang-up":
            server.hang_up_at = text.encode() or None
        elif command == "mute":
            server.is_mute_at_quit = True
        print(server.hung_up if command == "hung-up" else "ok", flush=True)
    server.stop()


if __name__ == "__main__":
    main()
