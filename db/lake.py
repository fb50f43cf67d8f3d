"""The door to the object store (MinIO or any S3)."""

import io
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import BinaryIO

import urllib3
from minio import Minio
from minio.error import InvalidResponseError, MinioException, S3Error

from db.errors import ConfigurationError, MdmError, MissingError
from db.settings import Settings, settings

# One PUT up to S3's own limit: the ETag of a multipart upload is not the one listed later.
SINGLE_PUT = 5 * 1024**3


@dataclass(frozen=True)
class LakeObject:
    """One object as listed: its key, size in bytes, ETag and time of arrival (UTC)."""

    key: str
    size: int
    etag: str
    last_modified: datetime


class Lake:
    """One bucket. Every method raises MissingError when the store does not answer."""

    def __init__(self, client: Minio, bucket: str, address: str):
        self.client, self.bucket, self.address = client, bucket, address

    @classmethod
    def from_settings(cls, given: Settings = settings) -> "Lake":
        """The lake of the settings; makes the bucket when it is not there."""
        address = f"{given.minio_host}:{given.minio_port}"
        if not given.minio_root_password:
            raise ConfigurationError(
                f"MINIO_ROOT_PASSWORD is empty, and the object store at {address} asks for one. Set it in .env."
            )
        http = urllib3.PoolManager(
            maxsize=16,
            timeout=urllib3.Timeout(connect=5, read=120),
            retries=urllib3.Retry(total=2, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
        )
        try:
            client = Minio(
                address,
                access_key=given.minio_root_user,
                secret_key=given.minio_root_password,
                secure=given.minio_secure,
                region="us-east-1",
                http_client=http,
            )
            lake = cls(client, given.minio_bucket, address)
            with lake._explained():
                if not client.bucket_exists(given.minio_bucket):
                    client.make_bucket(given.minio_bucket)
        except ValueError as error:
            # What the client checks before it asks the store.
            raise ConfigurationError(
                f"There can be no bucket {given.minio_bucket!r} at {address}: {error}. "
                "Mend MINIO_BUCKET, MINIO_HOST and MINIO_PORT."
            ) from error
        return lake

    def put(self, key: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Store one object whole, in one request."""
        with self._explained():
            self.client.put_object(
                self.bucket, key, io.BytesIO(data), len(data), content_type=content_type, part_size=SINGLE_PUT
            )

    def put_file(self, key: str, file: BinaryIO, size: int) -> None:
        """Store an open file of `size` bytes in one request, without reading it into memory."""
        with self._explained():
            self.client.put_object(self.bucket, key, file, size, part_size=SINGLE_PUT)

    def put_many(self, objects: Iterable[tuple[str, bytes]], threads: int = 8) -> int:
        """Store (key, data) pairs over several connections; returns how many."""
        with ThreadPoolExecutor(threads) as pool:
            return sum(1 for _ in pool.map(lambda pair: self.put(*pair), objects))

    def get(self, key: str) -> bytes:
        """One object, whole."""
        with self.open(key) as stream:
            return stream.read()

    @contextmanager
    def open(self, key: str) -> Iterator[urllib3.BaseHTTPResponse]:
        """One object as a stream; closed at the end of the block."""
        with self._explained():
            response = self.client.get_object(self.bucket, key)
            # As it was stored: its headers may call it gzip, and be wrong; its first bytes tell.
            response.decode_content = False
            try:
                yield response
            finally:
                response.close()
                response.release_conn()

    def list(self, prefix: str = "") -> Iterator[LakeObject]:
        """All objects below a prefix, in key order as the store gives them."""
        with self._explained():
            for item in self.client.list_objects(self.bucket, prefix=prefix, recursive=True):
                yield LakeObject(
                    item.object_name,
                    item.size or 0,
                    (item.etag or "").strip('"'),
                    item.last_modified.astimezone(UTC),
                )

    def exists(self, key: str) -> bool:
        """Whether there is an object of this key."""
        return any(found.key == key for found in self.list(key))

    def remove(self, key: str) -> None:
        """Delete one object; no error when it is not there."""
        with self._explained():
            self.client.remove_object(self.bucket, key)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what the client raises into an error that says what to do.

        Some S3 servers send errors as text/xml, which the client reports as InvalidResponseError.
        """
        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            reason = getattr(error, "reason", None)
            if isinstance(reason, urllib3.exceptions.ResponseError):
                raise MdmError(
                    f"The object store at {self.address} fails ({reason}): its disk may be full or read-only. "
                    "Its log tells more."
                ) from error
            raise MissingError(
                f"The object store does not answer at {self.address} ({type(error).__name__}). "
                "Start it with ./run_mdm_pipeline.sh up, or mend MINIO_HOST and MINIO_PORT."
            ) from error
        except (S3Error, InvalidResponseError) as error:
            text = str(error)
            if any(
                word in text for word in ("AccessDenied", "InvalidAccessKey", "SignatureDoesNotMatch", "403")
            ):
                raise ConfigurationError(
                    f"The object store at {self.address} refuses the user or password. "
                    "Mend MINIO_ROOT_USER and MINIO_ROOT_PASSWORD."
                ) from error
            raise MdmError(f"The object store at {self.address} reports: {text}") from error
        except MinioException as error:
            raise MdmError(f"The object store at {self.address} reports: {error}") from error
