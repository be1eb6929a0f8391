"""`phenoembed serve` as a user starts and stops it."""

import json
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

from tests.store.fakes import fake_rows

import phenoembed_store


def test_the_service_starts_answers_and_stops(tmp_path: Path) -> None:
    """It says where it is, answers there, and Ctrl-C ends it with exit code 0 and without a traceback."""
    store = phenoembed_store.open(tmp_path / "store", create=True)
    store.write_images(fake_rows())
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    script = "from phenoembed_cli.main import main; main()"
    command = [sys.executable, "-c", script, "serve", "--port", str(port), "--store", str(store.path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            hits = _ask(f"http://127.0.0.1:{port}/search?compound=taxol&k=2", process)
        finally:
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
    assert [hit["rank"] for hit in hits["hits"]] == [1, 2]
    assert process.returncode == 0, said
    assert f"http://127.0.0.1:{port}" in said.splitlines()[0]
    assert said.splitlines()[-1] == "stopped"
    assert "Traceback" not in said


def _ask(address: str, process: subprocess.Popen[str]) -> dict[str, list[dict[str, object]]]:
    while process.poll() is None:
        with suppress(URLError), urlopen(address) as answer:  # a service of our own, which is still starting
            found: dict[str, list[dict[str, object]]] = json.loads(answer.read())
            return found
        time.sleep(0.1)
    raise AssertionError("the service ended by itself")
