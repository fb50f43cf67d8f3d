"""The stores of this project, wherever they run: start them, stop them, say how they are, wipe them.

MDM_RUNTIME chooses: `docker`, `embedded`, `external`; `auto` takes what this MDM_HOME was first used with,
and at first Docker where an engine, Compose and the images are to be had, else `embedded`.

Usage: python db/runtime.py up | down | status | reset [--yes]
"""

import argparse
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from minio.deleteobjects import DeleteObject

from db.docker import DockerStores
from db.embedded import EmbeddedStores
from db.errors import ConfigurationError, MdmError, MissingError, run_script
from db.lake import Lake
from db.postgres import POSTGRES_VERSION, connect
from db.settings import Settings, settings

# Seconds the stores may take until they answer: fresh containers make their data first.
PATIENCE = {"docker": 120, "embedded": 20, "external": 3}


class Stores(Protocol):
    """What every runtime can do."""

    def start(self) -> list[str]:
        """Start what does not run; returns the titles of what was started."""

    def stop(self) -> list[str]:
        """Stop what runs; returns the titles of what was stopped."""

    def remove(self) -> None:
        """Delete all data of the pipeline for good."""


class ExternalStores:
    """Servers of the user's own: neither started nor stopped here; wiped within the pipeline's own bounds."""

    def __init__(self, given: Settings):
        self.settings = given

    def start(self) -> list[str]:
        """Nothing to start."""
        return []

    def stop(self) -> list[str]:
        """Nothing to stop."""
        return []

    def remove(self) -> None:
        """Drop the pipeline's schemas and delete the objects of its bucket."""
        with connect() as connection, connection.cursor() as cursor:
            cursor.execute("drop schema if exists raw, staging, identity, gold cascade")
        lake = Lake.from_settings(self.settings)
        doomed = (DeleteObject(found.key) for found in lake.list())
        for error in lake.client.remove_objects(lake.bucket, doomed):
            raise MdmError(f"The object store kept {error.name}: {error.message}")


RUNTIMES = {"docker": DockerStores, "embedded": EmbeddedStores, "external": ExternalStores}


@dataclass(frozen=True)
class Choice:
    """A runtime and why it was taken; `tentative` when another may still take its place."""

    runtime: str
    reason: str
    tentative: bool = False


def choose(given: Settings = settings) -> Choice:
    """The runtime of these settings."""
    if given.mdm_runtime != "auto":
        return Choice(given.mdm_runtime, "as MDM_RUNTIME says")
    memory = _memory(given)
    if memory.exists() and memory.read_text().strip() in RUNTIMES:
        return Choice(memory.read_text().strip(), "as before")
    problem = DockerStores.problem()
    if problem:
        return Choice("embedded", problem)
    return Choice("docker", "a Docker engine and Compose answer", tentative=True)


def up(given: Settings = settings) -> None:
    """Start the stores and wait until both answer."""
    choice = choose(given)
    stores: Stores = RUNTIMES[choice.runtime](given)
    try:
        stores.start()
    except MissingError as error:
        if not choice.tentative:
            raise
        _say(given, f"  {error}")
        with suppress(MdmError):
            stores.stop()
        choice = Choice("embedded", "Docker answers but cannot run the stores")
        stores = EmbeddedStores(given)
        stores.start()
    _wait(given, PATIENCE[choice.runtime])
    # Stores elsewhere are no home's own: a home that holds stores goes on knowing which.
    if choice.runtime != "external":
        given.mdm_home.mkdir(parents=True, exist_ok=True)
        _memory(given).write_text(f"{choice.runtime}\n")
    _say(given, f"  stores: {choice.runtime} ({choice.reason})")
    if isinstance(stores, EmbeddedStores) and stores.home != given.mdm_home:
        _say(given, f"  data: {stores.home}, as {given.mdm_home} was closed to the servers' user at first")


def down(given: Settings = settings) -> None:
    """Stop the stores; their data stays."""
    choice = choose(given)
    if choice.runtime == "external":
        print("The stores are external: they are not stopped from here.")
        return
    stopped = RUNTIMES[choice.runtime](given).stop()
    print(f"Stopped: {', '.join(stopped)}." if stopped else "Nothing was running.")


def status(given: Settings = settings) -> int:
    """Say how the stores are; 0 when both answer, else 3."""
    choice = choose(given)
    print(f"runtime     {choice.runtime} ({choice.reason})")
    answers = [_described("PostgreSQL", _postgres_state, given), _described("lake", _lake_state, given)]
    if choice.runtime == "embedded" and given.mdm_home.exists():
        answers.append(_described("data", lambda given: EmbeddedStores(given).home, given, "are in"))
    if choice.runtime != "external":
        print(f"browser     http://{given.minio_host}:{given.minio_console_port}")
    return 0 if all(answers) else MissingError.exit_code


def reset(given: Settings = settings, *, is_sure: bool) -> None:
    """Delete all the pipeline's data for good; the settings and passwords stay."""
    choice = choose(given)
    doomed = {
        "docker": "the containers of PostgreSQL and of the lake with their volumes",
        "embedded": f"PostgreSQL's data, the lake and the logs in {given.mdm_home}",
        "external": (
            f"the schemas raw, staging, identity and gold of {given.postgres_db} at {given.postgres_host}, "
            f"and every object of the bucket {given.minio_bucket} at {given.minio_host}"
        ),
    }[choice.runtime]
    if not is_sure:
        raise ConfigurationError(
            f"This would delete {doomed}, for good. To do it: ./run_mdm_pipeline.sh reset --yes"
        )
    RUNTIMES[choice.runtime](given).remove()
    _memory(given).unlink(missing_ok=True)
    print(f"Deleted: {doomed}.")


def _memory(given: Settings) -> Path:
    """The file that keeps which runtime holds this home's data."""
    return given.mdm_home / "runtime"


def _wait(given: Settings, patience: float) -> None:
    deadline = time.monotonic() + patience
    for ask in (_postgres_state, _lake_state):
        while True:
            try:
                ask(given)
                break
            except MissingError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)


def _postgres_state(given: Settings) -> str:
    with connect() as connection:
        version = connection.server_version
        encoding = connection.get_parameter_status("server_encoding")
    if version < POSTGRES_VERSION * 10000:
        raise ConfigurationError(
            f"PostgreSQL at {given.postgres_host}:{given.postgres_port} is version {version // 10000}; "
            f"the pipeline needs {POSTGRES_VERSION} or newer."
        )
    if encoding != "UTF8":
        raise ConfigurationError(
            f"The database {given.postgres_db!r} at {given.postgres_host}:{given.postgres_port} is in {encoding} and "
            "cannot hold every name. Make one with encoding UTF8 (create database NAME template template0 encoding "
            "'UTF8') and name it by POSTGRES_DB in .env."
        )
    return f"{given.postgres_host}:{given.postgres_port}, version {version // 10000}.{version % 10000}"


def _lake_state(given: Settings) -> str:
    lake = Lake.from_settings(given)
    return f"{lake.address}, bucket {lake.bucket}"


def _described(title: str, ask, given: Settings, how: str = "answers at") -> bool:
    try:
        print(f"{title:<11} {how} {ask(given)}")
    except MdmError as error:
        print(f"{title:<11} {error}")
        return False
    return True


def _say(given: Settings, text: str) -> None:
    if not given.mdm_quiet:
        print(text, flush=True)


def main() -> int | None:
    """One verb for the shell script."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in (up, down, status):
        verbs.add_parser(verb.__name__, help=verb.__doc__)
    verbs.add_parser("reset", help=reset.__doc__).add_argument("--yes", action="store_true")
    arguments = parser.parse_args()
    if arguments.verb == "reset":
        return reset(is_sure=arguments.yes)
    return {"up": up, "down": down, "status": status}[arguments.verb]()


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)
    run_script(main)
