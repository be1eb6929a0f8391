"""An S3 server on this machine, and buckets in it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

SERVER = """
import time
from moto.server import ThreadedMotoServer

server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
time.sleep(3600)
"""
"""In a process of its own: libraries that wait for it may hold this one's interpreter."""

ACCESS = {
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True)
class Bucket:
    """An empty bucket. ``url``: s3://NAME."""

    url: str

    def fill(self, folder: Path, prefix: str) -> str:
        """Copy a folder's files; their common address."""
        import s3fs

        s3fs.S3FileSystem().put(f"{folder}/", f"{self.url}/{prefix}/", recursive=True)
        return f"{self.url}/{prefix}"


@contextmanager
def s3_server() -> Iterator[str]:
    """The server's address; the environment leads to it meanwhile."""
    command = [sys.executable, "-W", "ignore", "-c", SERVER]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout
    address = f"http://127.0.0.1:{server.stdout.readline().strip()}"
    before = dict(os.environ)
    os.environ.update(ACCESS | {"AWS_ENDPOINT_URL": address})
    try:
        yield address
    finally:
        for name in (*ACCESS, "AWS_ENDPOINT_URL"):
            os.environ.pop(name, None)
        os.environ.update(before)
        server.kill()
        server.wait()
        server.stdout.close()


def new_bucket() -> Bucket:
    """A bucket of its own."""
    import s3fs

    url = f"s3://bucket-{uuid4().hex[:8]}"
    s3fs.S3FileSystem().mkdir(url)
    return Bucket(url)
