"""The stores in Docker: docker-compose.yml under Compose v2 or docker-compose 1.29."""

import hashlib
import json
import os
import shutil
import subprocess
from dataclasses import asdict

from db.errors import MdmError, MissingError
from db.server_settings import as_arguments, server_settings
from db.settings import PROJECT, Settings

# Seconds an idle engine may take to answer, and a slow line to fetch the images.
ANSWER_SECONDS = 10
FETCH_SECONDS = 900


class DockerStores:
    """The two containers of one MDM_HOME: `start`, `stop`, `remove`."""

    def __init__(self, settings: Settings):
        self.settings = settings
        name = hashlib.sha256(str(settings.mdm_home.resolve()).encode()).hexdigest()[:12]
        self.project = f"mdm-{name}"

    @staticmethod
    def problem() -> str | None:
        """Why Docker cannot be used here, or None."""
        if shutil.which("docker") is None:
            return "no docker command is installed"
        if not _succeeds(["docker", "info"]):
            return "no Docker engine answers"
        if _compose_command() is None:
            return "neither docker compose nor docker-compose is installed"
        return None

    def start(self) -> list[str]:
        """Start the containers; returns the titles of what was started.

        Raises MissingError: no Docker, no image to be had, a port taken.
        """
        problem = self.problem()
        if problem:
            raise MissingError(
                f"The stores are to run in Docker, but {problem}. Start or install it, or choose "
                "MDM_RUNTIME=embedded, which needs no Docker."
            )
        images = [self.settings.postgres_image, self.settings.minio_image]
        if not _succeeds(["docker", "image", "inspect", *images]):
            if not self.settings.mdm_quiet:
                print(f"  fetching {' and '.join(images)}", flush=True)
            self._compose("pull", refusal="Docker answers, but an image cannot be had")
        self._compose("up", "--detach", refusal="Docker could not start the stores")
        return ["PostgreSQL", "The object store"]

    def stop(self) -> list[str]:
        """Stop the containers; the volumes stay."""
        self._compose("down", refusal="Docker could not stop the stores")
        return ["PostgreSQL", "The object store"]

    def remove(self) -> None:
        """Remove the containers and their volumes for good."""
        self._compose("down", "--volumes", refusal="Docker could not remove the stores")

    def _compose(self, *arguments: str, refusal: str) -> None:
        compose = _compose_command()
        if compose is None:
            raise MissingError(f"{refusal}: {self.problem()}.")
        given = {
            name.upper(): str(value)
            for name, value in asdict(self.settings).items()
            if name.startswith(("postgres_", "minio_"))
        }
        given["MDM_POSTGRES_OPTIONS"] = " ".join(as_arguments(_engine_settings()))
        try:
            ended = subprocess.run(
                [*compose, "--project-name", self.project, "--project-directory", str(PROJECT)]
                + ["--file", str(PROJECT / "docker-compose.yml"), *arguments],
                env=os.environ | given,
                capture_output=True,
                text=True,
                timeout=FETCH_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise MissingError(f"{refusal}: no answer after {FETCH_SECONDS} s.") from error
        if ended.returncode == 0:
            return
        said = ended.stderr.strip() or ended.stdout.strip()
        for name in ("postgres_port", "minio_port", "minio_console_port"):
            port = getattr(self.settings, name)
            taken = ("already allocated" in said or "already in use" in said) and f":{port}" in said
            if taken:
                raise MissingError(
                    f"Port {port} is taken by another program. Stop that program, or choose another port by "
                    f"{name.upper()} in .env."
                )
        raise MissingError(f"{refusal}: {said.splitlines()[-1] if said else 'it does not say why'}.")


def _compose_command() -> list[str] | None:
    for command in (["docker", "compose"], ["docker-compose"]):
        if shutil.which(command[0]) and _succeeds([*command, "version"]):
            return command
    return None


def _engine_settings() -> dict[str, str]:
    """PostgreSQL's settings for the engine's machine, which may be a small virtual one."""
    described = subprocess.run(
        ["docker", "info", "--format", "{{json .}}"],
        capture_output=True,
        text=True,
        timeout=ANSWER_SECONDS,
    )
    if described.returncode != 0:
        raise MdmError(f"No Docker engine answers: {described.stderr.strip()}")
    engine = json.loads(described.stdout)
    return server_settings(engine["MemTotal"], engine["NCPU"], lz4=True)


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=ANSWER_SECONDS).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
