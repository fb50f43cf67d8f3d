"""The README says what is so: flags, settings, packages, files, commands, and queries that run."""

import re
import shlex
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest

from db.settings import PROJECT
from ingestion.sources import read_sources
from matching.model import read_model
from tests.pipeline import record

README = (PROJECT / "README.md").read_text(encoding="utf-8")
SCRIPT = PROJECT / "run_mdm_pipeline.sh"
MADE_BY_A_RUN = (".env", ".mdm", ".venv", "reports/")
# Files of the examples, and what a dump or an old clone has.
EXAMPLES = ("people.csv", "crm.toml")


def blocks(language: str, text: str = README) -> list[str]:
    """The fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)


def section(title: str) -> str:
    """The text of a section, up to the next one of the same depth."""
    return README.split(f"\n## {title}\n")[1].split("\n## ")[0]


def quoted() -> list[str]:
    """What stands between single backquotes outside the fenced blocks."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", README, flags=re.M | re.S))


@cache
def help_text() -> str:
    """What --help prints."""
    return subprocess.run([SCRIPT, "--help"], capture_output=True, text=True, check=True).stdout


def flags_in(text: str) -> set[str]:
    """Long flags as they are typed."""
    return set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", text))


def test_every_flag_of_the_help_is_explained_and_no_other():
    of_script = flags_in(help_text())
    # A row of a table each, but for --yes, which stands beside the command it belongs to.
    tabled = flags_in("\n".join(line for line in README.splitlines() if line.startswith("|")))
    assert of_script - tabled == set()
    of_benchmarks = flags_in((PROJECT / "tests" / "benchmarks" / "run_benchmarks.py").read_text())
    assert flags_in(" ".join(quoted())) - of_script - of_benchmarks == set()


def test_every_command_of_the_help_is_explained():
    commands = re.findall(r"^  ([a-z]+)[ \w.\[\]-]*  ", help_text().partition("Commands:")[2], re.M)
    assert {"up", "down", "status", "psql", "load", "reset"} <= set(commands)
    for command in commands:
        assert re.search(rf"^\| `./run_mdm_pipeline.sh {command}\b", README, re.M), command


def test_every_setting_is_in_the_table_with_its_default():
    stated = dict(re.findall(r"^\| `([A-Z_]+)` \| (?:`([^`]*)`)? ?\|", section("Settings"), re.M))
    stated.pop("MDM_RUNTIME", None)
    stated["MDM_RUNTIME"] = re.search(r"^\| `MDM_RUNTIME` \| `(\w+)`", section("Settings"), re.M)[1]
    example = (PROJECT / ".env.example").read_text()
    assert stated == dict(re.findall(r"^([A-Z_]+)=(.*)$", example, re.M))


def test_every_package_has_its_reason():
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())
    pinned = project["project"]["dependencies"] + sum(project["dependency-groups"].values(), [])
    reasons = dict(re.findall(r"^\| ([a-z0-9-]+) \| (.+) \|$", section("Development"), re.M))
    missing = {requirement.partition("==")[0] for requirement in pinned} - {
        package for package, reason in reasons.items() if reason.strip()
    }
    assert missing == set()


def test_every_file_it_names_is_there():
    tree = re.findall(r"^(\S+[./]\S*) ", blocks("text", section("Development"))[0], re.M)
    links = re.findall(r"\]\(([^)]+)\)", README)
    words = [word for text in [*quoted(), *blocks("sh"), *links] for word in text.split()]
    named = {
        word
        for word in (word.strip(",;:'\"") for word in words + tree)
        if re.fullmatch(r"(\./)?[\w.][\w./-]*(/|\.(py|sh|sql|toml|md|html|yml|png|example|csv))", word)
        and not word.removeprefix("./").startswith(MADE_BY_A_RUN)
        and word not in EXAMPLES
    }
    prefixes = {source.prefix for source in read_sources(PROJECT / "ingestion" / "sources.toml")}
    assert len(named) > 15
    folders = [PROJECT, PROJECT / "ingestion", PROJECT / "tests", PROJECT / "db", PROJECT / "staging"]
    assert [
        name for name in sorted(named - prefixes) if not any((folder / name).exists() for folder in folders)
    ] == []


def test_every_call_of_the_script_parses(tmp_path: Path):
    for name in EXAMPLES:
        (tmp_path / name).touch()
    typed = [line for block in blocks("sh") + blocks("text") for line in block.splitlines()] + quoted()
    calls = {
        match[1].strip()
        for line in typed
        if (match := re.search(r"\./run_mdm_pipeline\.sh((?: [\w./=-]+)*)", line))
    }
    assert len(calls) > 8
    for call in sorted(calls - {""}):
        # `parse` is the script's own reading of its arguments; it ends 2 at what it does not know.
        checked = subprocess.run(
            ["bash", "-c", 'source "$1" && shift && parse "$@"', "bash", SCRIPT, *shlex.split(call)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert checked.returncode == 0, f"{call}: {checked.stderr}"


def test_the_benchmarks_know_what_it_names():
    benchmarks = (PROJECT / "tests" / "benchmarks" / "run_benchmarks.py").read_text()
    scenarios = re.search(r"^SCENARIOS = \((.*)\)", benchmarks, re.M)[1]
    for name in re.findall(r'"(\w+)"', scenarios):
        assert f"`{name}`" in section("Operations"), name
    for call in re.findall(r"run_benchmarks\.sh((?: [\w-]+)*)", README):
        assert flags_in(call) <= flags_in(benchmarks), call


def test_its_examples_of_configuration_are_taken(tmp_path: Path):
    sources, rule = blocks("toml")
    (tmp_path / "crm.toml").write_text(sources)
    (crm,) = read_sources(tmp_path / "crm.toml")
    assert crm.name == "crm" and crm.attributes["address"] == ("street", "house_number")
    model = tmp_path / "model.toml"
    model.write_text((PROJECT / "matching" / "model.toml").read_text() + "\n" + rule)
    assert read_model(model).blocking[-1].name == tomllib.loads(rule)["blocking"][0]["name"]


@pytest.fixture
def demo(pipelines):
    """Two days of the demo, in the pipeline from lake to gold."""
    made = pipelines(PROJECT / "ingestion" / "sources.toml")
    for _ in range(2):
        made.produce(400)
        made.run()
    return made


def test_what_it_says_of_the_database_is_there(demo):
    names = set(re.findall(r"\b((?:raw|staging|identity|gold)\.[a-z_]+)\b(?!\.)", README))
    files = {f"gold.{path.stem}" for path in (PROJECT / "gold").glob("*.py")}
    known = {
        name
        for (name,) in demo.query(
            "select relnamespace::regnamespace || '.' || relname from pg_class "
            "union select pronamespace::regnamespace || '.' || proname from pg_proc"
        )
    }
    assert sorted(name for name in names - files - known if not name.endswith("_")) == []


def test_every_function_it_names_says_in_psql_what_it_does(database):
    names = set(re.findall(r"\b((?:raw|staging|identity|gold)\.[a-z_]+)\(", README))
    described = dict(
        database.query(
            "select pronamespace::regnamespace || '.' || proname, obj_description(oid, 'pg_proc') from pg_proc"
        )
    )
    assert len(names) > 12
    assert [name for name in sorted(names) if not described[name]] == []


def test_its_queries_run_and_find_something(demo):
    """In psql, as a reader types them: the ten queries, the rules of survivorship, the check of law 5."""
    queries = section("Ten queries")
    assert re.findall(r"^\*\*(\d+)\.", queries, re.M) == [str(number) for number in range(1, 11)]
    typed = blocks("sql", queries) + blocks("sql", section("Survivorship"))
    typed += blocks("sql", section("What always holds"))
    ended = subprocess.run(
        [sys.executable, "db/console.py", "--no-psqlrc", "--set=ON_ERROR_STOP=1"],
        cwd=PROJECT,
        env=demo.stores.environment(demo.database, demo.lake),
        input="\n".join(f"\\echo block {number}\n{block}" for number, block in enumerate(typed)),
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 0, ended.stderr
    shown = re.split(r"^block \d+\n", ended.stdout, flags=re.M)[1:]
    # What sets variables or rules shows nothing; of the demo's two days all other queries find rows.
    for block, output in zip(typed, shown, strict=True):
        if r"\gset" not in block and "insert into" not in block:
            assert re.search(r"^\([1-9]\d* rows?\)$", output, re.M), block


def test_its_query_of_capped_blocks_tells_what_was_capped(pipelines):
    shop = pipelines()
    shop.deliver(*(record(f"shop:{i}", name=f"Ana Lima{chr(97 + i % 26)}", birth_date=f"19{i}-03-17",
                          phone="+12127365000") for i in range(10, 70)))  # fmt: skip
    shop.run("2", "4.5")
    (query,) = blocks("sql", section("How matching works"))
    rule, key, profiles, limit, *_, phone, _ = shop.query(query.strip().removesuffix(";"))[0]
    assert (rule, key, profiles, limit, phone) == ("phone", ["phone"], 60, 50, "+12127365000")


def test_the_example_of_own_data_ends_as_shown(pipelines, tmp_path: Path):
    example = section("Your own data")
    (tmp_path / "crm.toml").write_text(blocks("toml", example)[0])
    delivered, shown = blocks("text", example)
    crm = pipelines(tmp_path / "crm.toml")
    crm.lake.put_many([("crm/people.csv", delivered.encode())])
    crm.run()
    names = [name.strip() for name in shown.splitlines()[0].split("|")]
    rows = crm.query(f"select {', '.join(f'{name}::text' for name in names)} from gold.dim_customers")
    assert rows == [tuple(cell.strip() for cell in line.split("|")) for line in shown.splitlines()[2:]]
    assert crm.query("select reason from raw.rejected_records") == [("customer_no is empty",)]
