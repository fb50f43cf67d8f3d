"""The embedded lake: an object's ETag is the MD5 of what it is now, however it came."""

import time
from hashlib import md5

from db.embedded import EmbeddedStores
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
