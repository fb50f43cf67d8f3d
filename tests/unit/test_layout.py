"""The layout of the design: a ground floor, six rooms that do not know each other, SQL beside its script."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from db.settings import PROJECT

ROOMS = ("producers", "ingestion", "staging", "matching", "identity", "gold")
FLOORS = ("db", *ROOMS)
TOP = {
    "run_mdm_pipeline.sh", "docker-compose.yml", ".env.example", "pyproject.toml", "README.md", "LICENSE",
    ".ci", ".gitignore", "tests", *FLOORS,
}  # fmt: skip


def scripts(*folders: str) -> list[Path]:
    """The Python files of these folders, by their path from the root."""
    return sorted(
        path.relative_to(PROJECT)
        for folder in folders
        for path in (PROJECT / folder).rglob("*.py")
        if "__pycache__" not in path.parts
    )


def imported(path: Path) -> Iterator[str]:
    """The first names of what a file imports, wherever in it."""
    for node in ast.walk(ast.parse((PROJECT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (name.name.split(".")[0] for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level < len(path.parts), f"{path}:{node.lineno} imports from above its folder"
            yield path.parts[0] if node.level else node.module.split(".")[0]


@pytest.mark.parametrize("room", ROOMS)
def test_no_phase_imports_another(room):
    others = set(ROOMS) - {room} | {"tests"}
    assert {str(path): found for path in scripts(room) if (found := others & set(imported(path)))} == {}


def test_the_ground_floor_imports_no_phase():
    above = {*ROOMS, "tests"}
    assert {str(path): found for path in scripts("db") if (found := above & set(imported(path)))} == {}


@pytest.mark.parametrize("path", scripts(*FLOORS), ids=str)
def test_the_sql_files_a_script_names_lie_beside_it(path):
    text = (PROJECT / path).read_text(encoding="utf-8")
    named = set(re.findall(r"""HERE / f?["']([\w{}]+\.sql)["']""", text))
    missing = {name for name in named if "{" not in name and not (PROJECT / path.parent / name).is_file()}
    assert missing == set()


def test_every_sql_file_is_named_by_a_script_beside_it():
    orphans = []
    for path in sorted(path for room in ROOMS for path in (PROJECT / room).rglob("*.sql")):
        texts = [beside.read_text(encoding="utf-8") for beside in path.parent.glob("*.py")]
        # A script may give the name without its ending.
        if not any(re.search(rf"\b{path.stem}\b", text) for text in texts):
            orphans.append(str(path.relative_to(PROJECT)))
    assert orphans == []


def test_only_the_settings_read_the_environment():
    def reads(path: Path) -> bool:
        for node in ast.walk(ast.parse((PROJECT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("environ", "environb", "getenv"):
                return True
        return False

    # What a child process inherits, and whether a terminal shows colours, are no settings.
    allowed = {"db/settings.py", "db/embedded.py", "db/docker.py", "db/console.py", "gold/run_summary.py"}
    assert [str(path) for path in scripts(*FLOORS) if reads(path) and str(path) not in allowed] == []


def test_sql_stands_in_sql_files():
    """A string of SQL in Python is one statement of a few lines at most."""
    long = []
    for path in scripts(*FLOORS):
        for node in ast.walk(ast.parse((PROJECT / path).read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                begins_as_sql = re.match(r"\s*(select|insert|update|delete|create|with)\b", node.value)
                if begins_as_sql and node.value.count("\n") > 3:
                    long.append(f"{path}:{node.lineno}")
    assert long == []


def test_nothing_else_at_the_top():
    ignored = (PROJECT / ".gitignore").read_text().split()
    found = {path for path in PROJECT.iterdir() if path.name not in TOP | {".git"}}
    assert {path.name for path in found if not any(path.match(line.strip("/")) for line in ignored)} == set()


def test_the_migrations_of_the_schema_are_numbered_once():
    numbers = [path.name.split("_")[0] for path in (PROJECT / "db" / "init").glob("*.sql")]
    assert sorted(set(numbers)) == sorted(numbers) and all(
        re.fullmatch(r"\d{3}", number) for number in numbers
    )


def test_no_name_that_says_nothing():
    banned = {"utils", "helpers", "common", "manager"}
    names = {
        str(path): set(path.stem.split("_")) | set(path.parts[:-1]) for path in scripts(*FLOORS, "tests")
    }
    assert [path for path, words in names.items() if words & banned] == []
