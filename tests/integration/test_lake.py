"""The embedded lake: an object's ETag is the MD5 of what it is now, however it came."""

import time
from dataclasses import replace
from hashlib import md5

import pytest

from db.embedded import EmbeddedStores
from db.errors import ConfigurationError, MdmError
from db.lake import Lake
from db.settings import settings


def etags(lake) -> dict[str, str]:
    """key -> ETag of all objects."""
    return {found.key: found.etag for found in lake.list()}


def test_an_object_that_is_replaced_has_another_etag(lake):
    for data in (b"one", b"two"):
        lake.put("sales/a.jsonl", data)
        assert etags(lake) == {"sales/a.jsonl": md5(data).hexdigest()}


def test_files_that_come_another_way_are_seen_after_a_second(lake):
    file = EmbeddedStores(settings).home / "lake" / lake.bucket / "a.jsonl"
    for data in (b"one", b"two", b"three"):
        file.write_bytes(data)
        time.sleep(1.2)
        assert etags(lake) == {"a.jsonl": md5(data).hexdigest()}


def test_a_store_that_cannot_write_is_no_store_that_does_not_answer(lake):
    lake.put("sales", b"where a folder is needed")
    with pytest.raises(
        MdmError, match=r"fails \(too many 500 error responses\): its disk may be full"
    ) as caught:
        lake.put("sales/a.jsonl", b"one")
    assert type(caught.value) is MdmError


def test_an_empty_password_is_named():
    with pytest.raises(ConfigurationError, match="MINIO_ROOT_PASSWORD is empty"):
        Lake.from_settings(replace(settings, minio_root_password=""))
