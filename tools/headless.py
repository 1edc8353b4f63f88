"""Open a page in headless Chromium and wait for what its script sends (the browser example's test, portability.py)."""

from __future__ import annotations

import functools
import http.server
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

#: The page, with the script that is to run in it; an error that nobody catches is sent like a result.
_PAGE = """<!doctype html><meta charset="utf-8"><body><script>
const send = (text) => fetch("/result", { method: "POST", body: String(text) });
addEventListener("error", (event) => send("error: " + event.message));
addEventListener("unhandledrejection", (event) => send("error: " + event.reason));
</script><script type="module">%s</script>"""


def chromium() -> str | None:
    """The browser's program, if there is one."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def run_script(browser: str, script: str, folders: Mapping[str, Path], seconds: float = 120) -> str:
    """Run a script in a page, until it calls `send(text)`; the text.

    Args:
        browser: Chromium's program.
        script: a module, of a page beside `folders`.
        folders: what is served, by the first part of the path; "" is the root.
        seconds: how long to wait.

    Raises:
        TimeoutError: nothing was sent.
    """
    results: queue.Queue[str] = queue.Queue()
    handler = functools.partial(_Handler, script=script, folders=folders, results=results)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server, tempfile.TemporaryDirectory() as profile:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={profile}"]
        process = subprocess.Popen(
            [*command, f"http://127.0.0.1:{server.server_address[1]}/driver.html"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            return results.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"the page sent nothing in {seconds} s") from None
        finally:
            os.killpg(process.pid, signal.SIGKILL)  # with the processes that the browser started
            process.wait()
            server.shutdown()


class _Handler(http.server.SimpleHTTPRequestHandler):
    # A browser refuses a module of another type, and the system's table may not know these.
    extensions_map = http.server.SimpleHTTPRequestHandler.extensions_map | {
        ".mjs": "text/javascript",
        ".wasm": "application/wasm",
    }

    def __init__(self, *arguments: Any, script: str, folders: Mapping[str, Path], results: queue.Queue[str]) -> None:
        self._script, self._folders, self._results = script, folders, results
        super().__init__(*arguments)

    def translate_path(self, path: str) -> str:
        first, _, rest = path.partition("?")[0].lstrip("/").partition("/")
        return str(self._folders[first] / rest if rest and first in self._folders else self._folders[""] / first / rest)

    def do_GET(self) -> None:
        if self.path != "/driver.html":
            super().do_GET()
            return
        page = (_PAGE % self._script).encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def do_POST(self) -> None:
        self._results.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass
