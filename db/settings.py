"""The one place that reads the environment and `.env`.

Every setting stands in `.env.example` with its comment; a variable of the same name in the environment
overrides `.env`.

Usage: python db/settings.py NAME...    (prints the values, a line each; for run_mdm_pipeline.sh)
"""

import os
import shlex
import sys
from dataclasses import dataclass, fields
from pathlib import Path

from dotenv import dotenv_values

from db.errors import ConfigurationError

PROJECT = Path(__file__).resolve().parent.parent
MEND = "Mend it in .env or in the environment."
RUNTIMES = ("auto", "docker", "embedded", "external")


@dataclass(frozen=True)
class Settings:
    """The settings of one process; a field is the variable of the same name in upper case."""

    mdm_runtime: str = "auto"
    mdm_home: Path = Path(".mdm")
    postgres_host: str = "127.0.0.1"
    postgres_port: int = 5433
    postgres_user: str = "mdm_user"
    postgres_password: str = ""
    postgres_db: str = "mdm_db"
    minio_host: str = "127.0.0.1"
    minio_port: int = 9000
    minio_console_port: int = 9001
    minio_root_user: str = "minioadmin"
    minio_root_password: str = ""
    minio_bucket: str = "mdm-ingestion"
    minio_secure: bool = False
    postgres_image: str = "postgres:18.6-trixie"
    minio_image: str = "quay.io/minio/minio:RELEASE.2025-09-07T16-13-09Z"
    mdm_sources_file: Path = Path("ingestion/sources.toml")
    mdm_default_region: str = "US"
    mdm_merge_flagged: bool = False
    mdm_quiet: bool = False
    mdm_run_id: int = 0


def load(environment: dict[str, str] | None = None, env_file: Path = PROJECT / ".env") -> Settings:
    """Settings from defaults, then `.env`, then the environment.

    Relative paths are taken from the project's root. Raises ConfigurationError naming the variable.
    """
    environment = dict(os.environ) if environment is None else environment
    try:
        given = {**dotenv_values(env_file), **environment}
    except UnicodeDecodeError:
        raise ConfigurationError(f"{env_file} is not UTF-8. Save it as that.") from None
    except OSError as error:
        raise ConfigurationError(
            f"{env_file} cannot be read: {error.strerror}. Run as its owner, or give {env_file} to who runs."
        ) from None
    values = {}
    for field in fields(Settings):
        name = field.name.upper()
        text = given.get(name)
        if text is None or text.strip() == "":
            values[field.name] = field.default
            continue
        values[field.name] = _parse(name, text.strip(), field.type)
    for name, value in values.items():
        if isinstance(value, Path) and not value.is_absolute():
            values[name] = PROJECT / value
    if values["mdm_runtime"] not in RUNTIMES:
        raise ConfigurationError(
            f"MDM_RUNTIME is {values['mdm_runtime']!r}; it can be {', '.join(RUNTIMES)}. {MEND}"
        )
    return Settings(**values)


def flags_given() -> str:
    """The flags of a run that this process has from its environment, as the shell takes them."""
    flags = {"--sources": "MDM_SOURCES_FILE", "--runtime": "MDM_RUNTIME"}
    return "".join(
        f" {flag} {shlex.quote(os.environ[name])}" for flag, name in flags.items() if os.environ.get(name)
    )


def _parse(name: str, text: str, kind: type) -> object:
    if kind is bool:
        if text.lower() in ("true", "1", "yes", "on"):
            return True
        if text.lower() in ("false", "0", "no", "off"):
            return False
        raise ConfigurationError(f"{name} is {text!r}; it takes true or false. {MEND}")
    if kind is int:
        most = 65_535 if name.endswith("_PORT") else None
        if not text.isdecimal() or (most and not 0 < int(text) <= most):
            takes = f"a number from 1 to {most}" if most else "a whole number"
            raise ConfigurationError(f"{name} is {text!r}; it takes {takes}. {MEND}")
        return int(text)
    return kind(text).expanduser() if kind is Path else kind(text)


# libpq takes from variables of its own what it is not told: another service, how dates are written. Those of TLS and
# GSSAPI stay, which no setting is for.
for variable in [name for name in os.environ if name.startswith("PG")]:
    if not variable.startswith(("PGSSL", "PGGSS", "PGKRB")):
        del os.environ[variable]

try:
    settings = load()
except ConfigurationError as error:
    print(f"error: {error}", file=sys.stderr)
    sys.exit(error.exit_code)

if __name__ == "__main__":
    import argparse

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [field.name for field in fields(Settings)]
    parser.add_argument("names", nargs="+", metavar="NAME", choices=names, help=", ".join(names))
    for name in parser.parse_args().names:
        print(getattr(settings, name))
