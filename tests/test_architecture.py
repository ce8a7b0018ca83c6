"""The walls of the house: who imports whom, which library has which doors, and what no file may hold."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

import fedrank

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("proto", "privacy", "model", "deploy", "client", "server", "simulation", "evaluation", "fedrank")
GENERATED = "*_pb2*.py"
LONGEST_FILE, LONGEST_TEST_FILE, LONGEST_FUNCTION = 300, 450, 50

DOORS = {
    "opacus": ("privacy/*", "client/training.py", "evaluation/bench/peers/*"),
    "flwr": (
        "client/app.py",
        "client/node*.py",
        "server/coordination/*",
        "simulation/*",
        "evaluation/bench/peers/*",
    ),
    "grpc": ("server/serving/*", "client/ranking*.py", "evaluation/load/echo.py", f"proto/{GENERATED}"),
    "grpc_health": ("server/serving/*",),
    "grpc_status": ("server/serving/*", "client/ranking*.py"),
    "sqlalchemy": ("client/store*", "privacy/*", "evaluation/bench/storage*", "evaluation/bench/faults*"),
    "alembic": ("privacy/migrations/*",),
    "cryptography": ("privacy/*",),
    "torch": ("model/torch_tower.py", "client/training.py", "evaluation/*"),
    "pandera": ("simulation/data/*",),
    "implicit": ("evaluation/*",),
    "typer": ("fedrank/*",),
    "faiss": ("server/serving/index_*.py", "evaluation/bench/ranking_index*.py"),
    "onnx": ("model/onnx_tower.py",),
    "onnxruntime": ("server/serving/tower.py",),
    "numba": ("model/compiling.py",),
    "uvloop": ("server/serving/endpoint.py",),
    "prometheus_client": ("server/serving/metrics*.py",),
}
"""Each foreign library, and the files that may import it."""

CODE_CARRYING = {"pickle", "_pickle", "cPickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
HEAVY = ("torch", "flwr", "opacus", "polars", "pandera", "numba")
"""What `fedrank --help` must not load."""

MACHINE_PATHS = re.compile(r"(?<![\w.])/(?:work|root)/|(?<![\w.])/tmp/(?:lab)")
INDEX_URLS = re.compile(r"index[-_]url\W{1,4}\w+://|://[^\s\"')]+/simple\b", re.IGNORECASE)


def sources(*folders: str) -> list[Path]:
    """Python files under folders of the tree, generated ones left out, in a fixed order."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return sorted(path for path in found if not fnmatch(path.name, GENERATED))


def place(path: Path) -> str:
    """The path of a file within the tree, for patterns and messages."""
    return path.relative_to(ROOT).as_posix()


def imported(tree: ast.AST) -> set[str]:
    """The full names of all modules that a file imports absolutely, wherever in the file."""
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def outside_the_doors(where: str, source: str) -> list[str]:
    """Which libraries the file at `where` imports although it is none of their doors."""
    tops = {name.partition(".")[0] for name in imported(ast.parse(source))}
    return sorted(
        name for name in tops & DOORS.keys() if not any(fnmatch(where, door) for door in DOORS[name])
    )


def running_data(source: str) -> list[str]:
    """Where a file could run what it reads: pickle and its kin, eval, exec, torch.load, pickled arrays."""
    tree = ast.parse(source)
    found = sorted(name for name in imported(tree) if name.partition(".")[0] in CODE_CARRYING)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            call = ast.unparse(node.func)
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            if call in ("eval", "exec", "torch.load") or words.get("allow_pickle", "False") != "False":
                found.append(f"line {node.lineno}: {call}")
    return found


def long_functions(source: str) -> list[str]:
    """Functions with more than LONGEST_FUNCTION lines."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    functions = [node for node in ast.walk(ast.parse(source)) if isinstance(node, kinds)]
    return [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > LONGEST_FUNCTION]


def tracked_texts() -> Iterator[tuple[str, str]]:
    """Every tracked file that is text, with its content; skips the test outside a git checkout."""
    listing = ["git", "-c", "safe.directory=*", "-C", str(ROOT), "ls-files", "-z"]
    try:
        done = subprocess.run(listing, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is no git checkout, so there is no list of tracked files")
    for name in filter(None, done.stdout.split("\0")):
        try:
            yield name, (ROOT / name).read_text(encoding="utf-8")
        except (FileNotFoundError, UnicodeDecodeError):
            continue


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the import contracts of the tree in `folder`."""
    script = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"
    return subprocess.run([sys.executable, "-c", script], cwd=folder, capture_output=True, text=True)


def test_the_import_contracts_are_kept() -> None:
    """Rooms import downwards only; .importlinter is the list."""
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_import_contracts_see_every_forbidden_direction(tmp_path: Path) -> None:
    """In a copy of the tree with one bad import per wall, each of them is named."""
    planted = {
        "client": "server.registry",
        "server.serving": "server.coordination.learner",
        "server.coordination": "client.work",
        "server.registry": "server.serving.engine",
        "proto": "privacy.errors",
        "privacy": "model.errors",
        "model": "client.errors",
        "deploy": "client.errors",
        "simulation": "evaluation.errors",
        "evaluation": "fedrank",
    }
    shutil.copy(ROOT / ".importlinter", tmp_path)
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=shutil.ignore_patterns("__pycache__"))
    for room, target in planted.items():
        folder = tmp_path / room.replace(".", "/")
        file = folder / "planted.py" if folder.is_dir() else folder.with_suffix(".py")
        with file.open("a") as text:
            text.write(f"\nimport {target}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    missed = [room for room, target in planted.items() if f"-> {target}" not in done.stdout]
    assert missed == []


@pytest.mark.parametrize("path", sources(*ROOMS), ids=place)
def test_a_file_keeps_the_rules_of_the_house(path: Path) -> None:
    """Foreign libraries come in by their doors only, no room imports tests, and nothing is too long."""
    source = path.read_text(encoding="utf-8")
    assert outside_the_doors(place(path), source) == []
    assert {name for name in imported(ast.parse(source)) if name.partition(".")[0] == "tests"} == set()
    assert len(source.splitlines()) <= LONGEST_FILE
    assert long_functions(source) == []
    assert running_data(source) == []


@pytest.mark.parametrize("path", sources("tests"), ids=place)
def test_a_test_file_is_readable_and_runs_no_data(path: Path) -> None:
    """Tests may be longer than what they test, within reason."""
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= LONGEST_TEST_FILE
    assert long_functions(source) == []
    assert running_data(source) == []


def test_the_rules_see_what_they_are_for() -> None:
    """Each rule finds its planted violation and lets the permitted form pass."""
    assert outside_the_doors("client/store.py", "import opacus\nfrom sqlalchemy import select") == ["opacus"]
    assert outside_the_doors("client/cohort.py", "def f():\n    import flwr.app") == ["flwr"]
    assert outside_the_doors("client/ranking_words.py", "import grpc") == []
    assert running_data("import pickle") == ["pickle"]
    assert running_data("from pickle import loads") == ["pickle", "pickle.loads"]
    assert running_data("eval(x)\nnp.load(f, allow_pickle=True)") == ["line 1: eval", "line 2: np.load"]
    assert running_data("torch.load(f)") == ["line 1: torch.load"]
    assert running_data("model.eval()\nnp.load(f)\nnp.save(f, x, allow_pickle=False)\nre.compile(x)") == []
    body = "    pass\n" * LONGEST_FUNCTION
    assert long_functions("def long():\n" + body) == ["long"]
    assert long_functions("def short():\n" + body[: -len("    pass\n")]) == []


def test_no_tracked_file_names_a_path_of_one_machine_or_a_package_index() -> None:
    """A fresh clone must work anywhere, and builds must not reach for one index."""
    texts = dict(tracked_texts())
    assert {name for name, text in texts.items() if MACHINE_PATHS.search(text)} == set()
    assert {name for name, text in texts.items() if INDEX_URLS.search(text)} == set()


@pytest.mark.parametrize("folder", ["work", "root", "tmp/lab"])
def test_the_search_for_machine_paths_finds_one(folder: str) -> None:
    """The pattern matches a real path, and not a word or an expression that only looks like one."""
    assert MACHINE_PATHS.search(f"open('/{folder}/x')")
    assert not MACHINE_PATHS.search(f"net{folder}/x self.root/x ../{folder}/x")


@pytest.mark.parametrize("host", ["--extra-index-" + "url http://h/x", "http://h/" + "simple/"])
def test_the_search_for_package_indexes_finds_one(host: str) -> None:
    """By the option or by the address; an ordinary address passes."""
    assert INDEX_URLS.search(host)
    assert not INDEX_URLS.search("https://www.apache.org/licenses/ a simple thing")


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["simulate"],
        ["serve"],
        ["rank"],
        ["provision"],
        ["merchant", "invite"],
        ["bench"],
        ["data", "check"],
        ["privacy", "budget"],
        ["db", "check"],
        ["keys", "rotate"],
    ],
)
def test_help_loads_no_heavy_library(words: list[str]) -> None:
    """`--help` of every command answers in a moment: what is heavy waits until it is used."""
    script = f"import sys, atexit; sys.argv = ['fedrank', *{words!r}, '--help']; "
    script += f"atexit.register(lambda: print([name for name in {HEAVY!r} if name in sys.modules])); "
    script += "from fedrank.cli import main; main()"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "Usage: fedrank" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_version_is_that_of_the_package() -> None:
    """`fedrank.__version__` and pyproject.toml are changed together."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert fedrank.__version__ == project["version"]
