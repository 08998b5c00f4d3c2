"""Serve the built site on this machine and open it in the browser.

python book/_ext/serve.py [FOLDER]
"""

import functools
import http.server
import sys
import webbrowser
from pathlib import Path


def main(folder: Path) -> int:
    """Serve ``folder`` until interrupted; return the exit status."""
    if not (folder / "index.html").exists():
        print(f"There is no site in {folder} yet: run `make book` first.", file=sys.stderr)
        return 1
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        address = f"http://127.0.0.1:{server.server_port}/"
        print(f"The book is at {address} (stop with Ctrl-C)", flush=True)
        webbrowser.open(address)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "_build/html")))
