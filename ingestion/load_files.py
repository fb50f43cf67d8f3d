"""Put local files into the lake, below the prefix of a source, for the next run to take in.

The object is named after the file and its content: the same file loaded twice is the same object.

Usage: python ingestion/load_files.py FILE... --source NAME [--sources FILE]
"""

import argparse
import hashlib
import re
import shlex
from datetime import UTC, datetime
from pathlib import Path

from db.errors import ConfigurationError, MissingError, run_script
from db.lake import SINGLE_PUT, Lake
from db.settings import PROJECT, Settings, settings
from ingestion.readers import ENDINGS
from ingestion.sources import Source, read_sources


def main(argv: list[str] | None = None) -> int:
    """Load the files and say how to go on."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help=f"one of {', '.join(ENDINGS)}")
    parser.add_argument("--source", required=True, metavar="NAME", help="a source of the sources file")
    parser.add_argument("--sources", type=Path, default=settings.mdm_sources_file, metavar="FILE")
    arguments = parser.parse_args(argv)
    sources = {source.name: source for source in read_sources(arguments.sources)}
    if arguments.source not in sources:
        raise ConfigurationError(
            f"There is no source {arguments.source!r} in {arguments.sources}; there are {', '.join(sources)}."
        )
    for path in arguments.files:
        _check(path)
    load_files(Lake.from_settings(), sources[arguments.source], arguments.files)
    is_shipped = arguments.sources == PROJECT / Settings.mdm_sources_file
    own = "" if is_shipped else f" --sources {shlex.quote(str(arguments.sources))}"
    print(f"To take them in: ./run_mdm_pipeline.sh --no-producers{own}")
    return 0


def load_files(lake: Lake, source: Source, paths: list[Path]) -> list[str]:
    """Store each file whose content is not there yet as one object; returns the keys of the new ones."""
    there = {found.key.rpartition("/")[2]: found.key for found in lake.list(source.prefix)}
    loaded = []
    for path in paths:
        with path.open("rb") as file:
            name = object_name(path, hashlib.file_digest(file, "md5").hexdigest())
            size = file.tell()
            if name in there:
                print(f"  {path}: is there already, as {there[name]}")
                continue
            file.seek(0)
            key = f"{source.prefix}{datetime.now(UTC):dt=%Y-%m-%d/hr=%H}/{name}"
            lake.put_file(key, file, size)
        there[name] = key
        loaded.append(key)
        print(f"  {path}: {size:,} bytes, as {key}")
    return loaded


def object_name(path: Path, content: str) -> str:
    """The file's name, in characters safe in a key, with a part of its content's hash before the ending."""
    ending = _ending(path)
    stem = re.sub(r"[^A-Za-z0-9._-]+", "_", path.name[: -len(ending)])[:100]
    return f"{stem}-{content[:12]}{ending}"


def _ending(path: Path) -> str | None:
    return next((ending for ending in ENDINGS if path.name.lower().endswith(ending)), None)


def _check(path: Path) -> None:
    if not path.exists():
        raise MissingError(f"There is no file {path}.")
    if not path.is_file():
        raise ConfigurationError(f"{path} is not a file. Name the files in it one by one.")
    if _ending(path) is None:
        raise ConfigurationError(
            f"{path} ends in none of {', '.join(ENDINGS)}, which are read. Rename or convert it."
        )
    if path.stat().st_size >= SINGLE_PUT:
        raise ConfigurationError(
            f"{path} is larger than 5 GiB, the most an object takes. Compress or split it."
        )


if __name__ == "__main__":
    run_script(main)
