"""The shell script as a user runs it: flags, commands, errors and exit codes, on stores of its own."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from db.embedded import EmbeddedStores
from db.errors import ConfigurationError
from db.settings import PROJECT, Settings, load
from tests.conftest import HOME, free_ports
from tests.pipeline import wait_for

FLAGS = (
    "--from --to --only --list --no-producers --records --seed --retrain --source --sources --runtime "
    "--quiet --help --yes"
).split()
COMMANDS = "up down status psql load reset".split()


@dataclass
class Project:
    """A copy of the project in a folder of its own, with its own .env, ports and stores."""

    root: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, text: str | None = None, folder: Path | None = None, **environment: str):
        """Run the script to its end, called from a folder, its own for None; standard output and error apart."""
        return subprocess.run(
            [self.root / "run_mdm_pipeline.sh", *arguments],
            cwd=folder or self.root,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            input=text,
            timeout=300,
        )

    def start(self, *arguments: str, **how: object) -> subprocess.Popen:
        """Start the script and leave it running."""
        return subprocess.Popen(
            [self.root / "run_mdm_pipeline.sh", *arguments],
            cwd=self.root,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **how,
        )

    @property
    def settings(self) -> Settings:
        """The settings as the script reads them."""
        return load(self.environment | {"MDM_HOME": str(self.root / ".mdm")}, self.root / ".env")


def copy_project(root: Path) -> Project:
    """A copy as a fresh clone has it, which shares the virtual environment of the tests."""
    made = ("*.pyc", "__pycache__", ".env", ".mdm", ".venv", ".git", ".*_cache", ".hypothesis")
    shutil.copytree(PROJECT, root, ignore=shutil.ignore_patterns(*made))
    (root / ".venv").symlink_to(PROJECT / ".venv")
    ports = dict(zip(("POSTGRES_PORT", "MINIO_PORT", "MINIO_CONSOLE_PORT"), free_ports(3), strict=True))
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG", "TERM") if name in os.environ}
    ports = {name: str(port) for name, port in ports.items()}
    return Project(root, inherited | ports | {"MDM_RUNTIME": "embedded"})


@pytest.fixture(scope="module")
def project() -> Iterator[Project]:
    """A project whose stores are up."""
    root = HOME.with_name(f"{HOME.name}-shell")
    copy = copy_project(root)
    try:
        started = copy.run("up")
        assert started.returncode == 0, started.stderr
        yield copy
    finally:
        copy.run("reset", "--yes")
        shutil.rmtree(root)


@pytest.fixture
def bare_project(tmp_path: Path) -> Project:
    """A project nothing was run in, for what ends before the stores start."""
    return copy_project(tmp_path / "project")


def one_paragraph(ended: subprocess.CompletedProcess[str], code: int) -> str:
    """The error of a run that ended with this code: said once, plainly, without a traceback."""
    assert ended.returncode == code, ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.count("error:") == 1, ended.stderr
    return ended.stderr


def test_the_help_is_the_header_and_names_every_flag_and_command(bare_project: Project):
    ended = bare_project.run("--help")
    assert ended.returncode == 0
    for word in FLAGS + COMMANDS:
        assert re.search(rf"(?<![\w-]){word}(?![\w-])", ended.stdout), word
    parsed = re.findall(r"^ +(--[a-z-]+)(?:\)| \|)", (PROJECT / "run_mdm_pipeline.sh").read_text(), re.M)
    assert set(parsed) == set(FLAGS)


def test_the_list_has_every_phase_in_order_and_every_script_is_there(bare_project: Project):
    ended = bare_project.run("--list")
    assert ended.returncode == 0
    lines = ended.stdout.splitlines()
    assert [line.split()[0] for line in lines] == "1 2 3 4 4.5 5 6 7 8 9A 9B 10".split()
    scripts = [word for line in lines for word in line.split() if word.endswith(".py")]
    assert [script for script in scripts if not (PROJECT / script).exists()] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("--frm 3", "no flag '--frm'"),
        ("bogus", "no command 'bogus'"),
        ("up bogus", "'up' takes no 'bogus'"),
        ("up down", "'up' takes no 'down'"),
        ("--from", "--from needs a value"),
        ("--from 12", "no phase '12'"),
        ("--only 9", "no phase '9'"),
        ("--from 9A --to 2", "nothing to run"),
        ("--only 1 --no-producers", "nothing to run"),
        ("--from 6 --retrain", "--retrain is for phase 5, which this run leaves out"),
        ("--to 4.5 --retrain", "--retrain is for phase 5, which this run leaves out"),
        ("--from 2 --records 5", "--records is for the producers, phase 1, which this run leaves out"),
        ("--no-producers --seed 5", "--seed is for the producers, phase 1, which this run leaves out"),
        ("--records many", "--records takes a whole number from 1, not 'many'"),
        ("--records=0", "--records takes a whole number from 1, not '0'"),
        ("--seed -1", "--seed takes a whole number"),
        ("--runtime podman", "--runtime takes docker"),
        ("--sources nowhere.toml", "no file 'nowhere.toml'"),
        ("load", "load needs files and a source"),
        ("load LICENSE --source", "--source needs a value"),
        ("load nowhere.csv --source sales", "no file 'nowhere.csv'"),
        ("--source sales", "--source goes with the command 'load'"),
        ("--yes", "--yes goes with the command 'reset'"),
        ("down --records 5", "--records is a flag of a run"),
    ],
)
def test_wrong_arguments_end_with_2_and_one_paragraph(bare_project: Project, arguments: str, said: str):
    assert said in one_paragraph(bare_project.run(*arguments.split()), 2)
    assert not (bare_project.root / ".env").exists(), "checks come before work"


def test_every_setting_stands_in_the_example_and_every_line_of_it_is_a_setting():
    named = re.findall(r"^([A-Z_]+)=", (PROJECT / ".env.example").read_text(), re.M)
    internal = {"MDM_RUN_ID"}
    assert set(named) == {name.upper() for name in Settings.__dataclass_fields__} - internal


def test_the_passwords_are_random_private_and_kept(project: Project):
    env_file = project.root / ".env"
    before = env_file.read_text()
    passwords = re.findall(r"^\w+_PASSWORD=(\w*)$", before, re.M)
    assert len(set(passwords)) == 2 and all(len(password) >= 32 for password in passwords)
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600
    assert project.run("up").returncode == 0
    assert env_file.read_text() == before


def test_no_password_stands_in_a_command_line(project: Project):
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    for password in (project.settings.postgres_password, project.settings.minio_root_password):
        assert not [command for command in commands if password in command]


def test_psql_runs_commands_and_scripts(project: Project, tmp_path: Path):
    ended = project.run("psql", "-Atc", "select current_user || ' ' || current_database()")
    assert (ended.returncode, ended.stdout) == (0, "mdm_user mdm_db\n")
    assert project.run("--quiet", "psql", "-At", text="select 1 + 1;").stdout == "2\n"
    assert project.run("psql", text="select 1 / 0; select 2;").returncode == 3
    (tmp_path / "query.sql").write_text("select 3;")
    assert project.run("psql", "-At", "-f", "query.sql", folder=tmp_path).stdout == "3\n"


def test_psql_and_up_need_nothing_but_bash_python_and_coreutils(project: Project, tmp_path: Path):
    for tool in "bash env dirname cat cp chmod id mkdir mv od rm tail test tr".split():
        (tmp_path / tool).symlink_to(shutil.which(tool))
    started = project.run("up", PATH=str(tmp_path))
    assert started.returncode == 0, started.stderr
    ended = project.run("psql", "-Atc", "show server_version", PATH=str(tmp_path))
    assert ended.stdout.startswith("18."), ended.stderr


def test_a_psql_older_than_the_server_is_left_alone(project: Project, tmp_path: Path):
    (tmp_path / "psql").write_text("#!/bin/sh\necho 'psql (PostgreSQL) 15.14 (Debian 15.14-0)'\n")
    (tmp_path / "psql").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    assert project.run("psql", "--version", PATH=path).stdout.startswith("psql (PostgreSQL) 18.")
    (tmp_path / "psql").write_text("#!/bin/sh\necho 'psql (PostgreSQL) 19.1'\n")
    assert project.run("psql", "--version", PATH=path).stdout == "psql (PostgreSQL) 19.1\n"


def test_a_run_that_nobody_reads_on_ends_quietly_and_is_gone_on_with(project: Project):
    run = subprocess.Popen(
        [project.root / "run_mdm_pipeline.sh", "--no-producers"],
        cwd=project.root,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    while not run.stdout.readline().startswith("Phase 2"):
        pass
    run.stdout.close()
    assert (run.stderr.read(), run.wait()) == ("", 141)
    status = "select status from gold.pipeline_runs order by run_id desc limit 1"
    assert project.run("psql", "-Atc", status).stdout == "failed\n"
    assert project.run("--no-producers").returncode == 0


def test_without_python_it_says_what_to_install(bare_project: Project, tmp_path: Path):
    (bare_project.root / ".venv").unlink()
    for tool in "bash env dirname".split():
        (tmp_path / tool).symlink_to(shutil.which(tool))
    assert "Python 3.11 or newer is needed" in one_paragraph(bare_project.run("up", PATH=str(tmp_path)), 3)


def test_status_tells_up_from_down(project: Project):
    assert project.run("status").returncode == 0
    assert "Stopped" in project.run("down").stdout
    ended = project.run("status")
    assert ended.returncode == 3
    assert "does not answer" in ended.stdout
    assert "Nothing was running" in project.run("down").stdout
    assert "run_mdm_pipeline.sh up" in one_paragraph(project.run("psql", "-c", "select 1"), 3)
    assert project.run("up").returncode == 0


def test_the_data_outlives_down_and_killed_servers(project: Project):
    project.run("psql", "-c", "create table public.kept as select 7 as n")
    project.run("down")
    project.run("up")
    servers = EmbeddedStores(project.settings)
    for server in (servers.postgres, servers.lake, servers.browser):
        server.process().kill()
        wait_for(lambda server=server: server.process() is None)
    assert project.run("up").returncode == 0
    assert project.run("psql", "-Atc", "select n from public.kept").stdout == "7\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another user")
def test_a_home_keeps_its_data_wherever_it_goes_and_whoever_may_enter(project: Project, tmp_path: Path):
    project.run("down")
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    home, moved, copy = closed / "home", closed / "moved", closed / "copy"

    def kept(home: Path) -> str:
        assert project.run("up", MDM_HOME=str(home)).returncode == 0
        found = project.run("psql", "-Atc", "select to_regclass('public.kept')", MDM_HOME=str(home)).stdout
        assert project.run("down", MDM_HOME=str(home)).returncode == 0
        return found.strip()

    try:
        assert "data: /var/lib/mdm-" in project.run("up", MDM_HOME=str(home)).stdout
        project.run("psql", "-c", "create table public.kept ()", MDM_HOME=str(home))
        assert re.search("data +are in /var/lib/mdm-", project.run("status", MDM_HOME=str(home)).stdout)
        project.run("down", MDM_HOME=str(home))
        home.rename(moved)
        assert kept(moved) == "kept"
        for folder in (closed, *closed.parents[:-2]):
            folder.chmod(folder.stat().st_mode | 0o011)
        assert kept(moved) == "kept"
        shutil.copytree(moved, copy)
        assert f"is a copy of {moved}" in one_paragraph(project.run("up", MDM_HOME=str(copy)), 3)
        data = Path((moved / "data_is_in").read_text().strip())
        shutil.move(data, f"{data}.elsewhere")
        assert "Bring them back" in one_paragraph(project.run("up", MDM_HOME=str(moved)), 3)
        shutil.move(f"{data}.elsewhere", data)
        assert kept(moved) == "kept"
    finally:
        for folder in (home, moved):
            if folder.exists():
                project.run("reset", "--yes", MDM_HOME=str(folder))
    assert not data.exists()
    assert project.run("up").returncode == 0


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's servers run as another user")
def test_a_home_that_is_closed_later_does_not_begin_anew(project: Project, tmp_path: Path):
    project.run("down")
    for folder in (tmp_path, *tmp_path.parents[:-2]):
        folder.chmod(folder.stat().st_mode | 0o011)
    home = tmp_path / "open" / "home"
    try:
        assert project.run("up", MDM_HOME=str(home)).returncode == 0
        assert project.run("down", MDM_HOME=str(home)).returncode == 0
        assert (home / "postgres").exists()
        home.parent.chmod(0o700)
        assert "can no longer enter" in one_paragraph(project.run("up", MDM_HOME=str(home)), 3)
    finally:
        home.parent.chmod(0o755)
        project.run("reset", "--yes", MDM_HOME=str(home))
    assert project.run("up").returncode == 0


def test_a_stale_pid_file_never_costs_another_process(project: Project):
    project.run("down")
    with subprocess.Popen(["sleep", "60"]) as bystander:
        for name in ("rclone_s3.pid", "rclone_http.pid"):
            (project.settings.mdm_home / name).write_text(f"{bystander.pid}\n")
        assert "Nothing was running" in project.run("down").stdout
        assert project.run("up").returncode == 0
        assert bystander.poll() is None
        bystander.kill()


@pytest.mark.parametrize("variable", ["POSTGRES_PORT", "MINIO_PORT", "MINIO_CONSOLE_PORT"])
def test_a_taken_port_is_named_with_the_variable_to_change(project: Project, variable: str):
    project.run("down")
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", int(project.environment[variable])))
        taken.listen()
        said = one_paragraph(project.run("up"), 3)
    assert f"Port {project.environment[variable]} is taken" in said
    assert f"{variable} in .env" in said
    assert project.run("up").returncode == 0


def test_a_changed_port_moves_the_running_server(project: Project):
    (port,) = free_ports(1)
    assert project.run("up", POSTGRES_PORT=str(port)).returncode == 0
    assert project.run("psql", "-Atc", "show port", POSTGRES_PORT=str(port)).stdout == f"{port}\n"
    assert project.run("up").returncode == 0


@pytest.mark.parametrize("variable", ["POSTGRES_PASSWORD", "MINIO_ROOT_PASSWORD"])
def test_a_wrong_password_is_named(project: Project, variable: str):
    assert variable in one_paragraph(project.run("up", **{variable: "wrong-password"}), 2)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("POSTGRES_PORT", "five"),
        ("MINIO_PORT", "70000"),
        ("MINIO_BUCKET", "Bad_Bucket"),
        ("MDM_RUNTIME", "podman"),
        ("MDM_QUIET", "maybe"),
    ],
)
def test_a_wrong_setting_is_named(project: Project, variable: str, value: str):
    assert variable in one_paragraph(project.run("up", **{variable: value}), 2)


def test_docker_that_does_not_answer(project: Project, tmp_path: Path):
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/docker.sock"}
    assert "MDM_RUNTIME=embedded" in one_paragraph(project.run("--runtime", "docker", "up", **nowhere), 3)
    ended = project.run("status", MDM_RUNTIME="auto", **nowhere)
    assert "embedded (as before)" in ended.stdout


def test_auto_says_what_it_chose_and_why(bare_project: Project, tmp_path: Path):
    nowhere = {"DOCKER_HOST": f"unix://{tmp_path}/docker.sock", "MDM_RUNTIME": "auto"}
    assert re.search(r"embedded \(no .*docker", bare_project.run("status", **nowhere).stdout, re.I)


def test_external_stores_that_are_down(project: Project):
    (port,) = free_ports(1)
    said = one_paragraph(project.run("--runtime", "external", "up", POSTGRES_PORT=str(port)), 3)
    assert f"127.0.0.1:{port}" in said


def test_stores_elsewhere_do_not_make_a_home_forget_its_own(project: Project):
    ended = project.run("--runtime", "external", "up")
    assert ended.returncode == 0, ended.stderr
    assert "embedded (as before)" in project.run("status", MDM_RUNTIME="auto").stdout


def test_one_phase_alone_and_quiet(project: Project):
    ended = project.run("--only", "1", "--records", "20", "--seed", "5")
    assert ended.returncode == 0, ended.stderr
    assert "Phase 1:" in ended.stdout and "Phase 2:" not in ended.stdout
    ended = project.run("--quiet", "--only", "1", "--records", "20")
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def is_alive(process: psutil.Process) -> bool:
    """Whether it still runs; one that ended may keep its line in the process table."""
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def last_run(project: Project) -> str:
    """How the last run ended, by its receipt."""
    said = project.run("psql", "-Atc", "select status from gold.pipeline_runs order by run_id desc limit 1")
    return said.stdout.strip()


def test_ctrl_c_stops_the_phase_and_the_second_run_is_refused(project: Project):
    running = project.start("--only", "1", "--records", "400000")
    script = psutil.Process(running.pid)
    try:
        wait_for(lambda: last_run(project) == "running")
        assert "Another run is at work" in one_paragraph(project.run("--only", "2"), 1)
        assert "Another run is at work" in one_paragraph(project.run("down"), 1)
        at_work = script.children(recursive=True)
        running.send_signal(signal.SIGINT)
        said, _ = running.communicate(timeout=30)
    finally:
        running.kill()
    assert running.returncode == 130, said
    assert "Stopped." in said and "Traceback" not in said
    wait_for(lambda: not any(is_alive(child) for child in at_work))
    assert last_run(project) == "failed"
    assert project.run("--only", "1", "--records", "20").returncode == 0
    assert last_run(project) == "done"


def test_ctrl_c_while_settings_are_read_needs_no_traceback(bare_project: Project):
    settings = bare_project.root / ".env"
    os.mkfifo(settings)
    running = bare_project.start("status", start_new_session=True)
    reads = [str(bare_project.root / ".venv/bin/python"), "db/settings.py"]
    wait_for(lambda: reads in [(one.info["cmdline"] or [])[:2] for one in psutil.process_iter(["cmdline"])])
    os.killpg(running.pid, signal.SIGINT)

    def has_read_and_ended() -> bool:
        with suppress(OSError):  # nobody reads
            os.close(os.open(settings, os.O_WRONLY | os.O_NONBLOCK))
        return running.poll() is not None

    wait_for(has_read_and_ended)
    said, _ = running.communicate()
    assert running.returncode == 130, said
    assert "Stopped." in said and "Traceback" not in said


def test_a_home_that_cannot_be_written_is_named(project: Project):
    said = one_paragraph(project.run("up", MDM_HOME="/proc/mdm"), 3)
    assert "/proc/mdm" in said and "MDM_HOME" in said


def test_reset_asks_first_and_then_leaves_nothing(project: Project):
    project.run("psql", "-c", "create table public.doomed as select 1 as n")
    assert "reset --yes" in one_paragraph(project.run("reset"), 2)
    assert project.run("psql", "-Atc", "select n from public.doomed").stdout == "1\n"
    ended = project.run("reset", "--yes")
    assert (ended.returncode, "Deleted" in ended.stdout) == (0, True)
    assert not (project.settings.mdm_home / "postgres").exists()
    assert project.run("up").returncode == 0
    assert project.run("psql", "-Atc", "select to_regclass('public.doomed') is null").stdout == "t\n"


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
def test_the_compose_file_is_valid(project: Project):
    given = {name.upper(): str(value) for name, value in vars(project.settings).items()}
    ended = subprocess.run(
        ["docker-compose", "--file", PROJECT / "docker-compose.yml", "config"],
        env=project.environment | given,
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    published = re.findall(r"127\.0\.0\.1:(\d+):", ended.stdout)
    assert {int(port) for port in published} == {
        project.settings.postgres_port,
        project.settings.minio_port,
        project.settings.minio_console_port,
    }


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("MINIO_BUCKET=größe\n".encode("latin1"), "is not UTF-8"),
        (b"POSTGRES_PORT=70000\n", "POSTGRES_PORT is '70000'; it takes a number from 1 to 65535"),
        (b"MDM_QUIET=perhaps\n", "MDM_QUIET is 'perhaps'; it takes true or false"),
    ],
)
def test_a_mistake_in_the_env_file_is_told(content, says, tmp_path):
    (tmp_path / ".env").write_bytes(content)
    with pytest.raises(ConfigurationError, match=says):
        load({}, tmp_path / ".env")
