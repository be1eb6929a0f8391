"""An S3 server on this machine, and buckets in it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

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
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    before = dict(os.environ)
    os.environ.update(ACCESS | {"AWS_ENDPOINT_URL": f"http://{host}:{port}"})
    try:
        yield f"http://{host}:{port}"
    finally:
        for name in (*ACCESS, "AWS_ENDPOINT_URL"):
            os.environ.pop(name, None)
        os.environ.update(before)
        server.stop()


def new_bucket() -> Bucket:
    """A bucket of its own."""
    import s3fs

    url = f"s3://bucket-{uuid4().hex[:8]}"
    s3fs.S3FileSystem().mkdir(url)
    return Bucket(url)
