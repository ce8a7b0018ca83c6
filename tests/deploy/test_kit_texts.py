"""How kits are run: what is rendered parses, is locked down, and says what a merchant has to know."""

from __future__ import annotations

import copy
import json
import re
import shutil
import subprocess
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import yaml
from charts import manifests, problems, rendered
from federations import TEXT, federation, provisioned

from deploy.kit_texts import parts_of, serve_words
from fedrank.cli import app

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
GOLDEN = HERE / "golden"
"""Texts as they were read and found good. After a change that is meant, write them anew and read the difference:
python tests/deploy/write_golden.py"""
KITS = ("coordinator", "merchants/north", "merchants/south", "serving/north")


@pytest.fixture(scope="module")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kits of the small federation."""
    return provisioned(tmp_path_factory.mktemp("federation")).root


@pytest.mark.parametrize(
    "name", sorted(path.relative_to(GOLDEN).as_posix() for path in GOLDEN.rglob("*") if path.is_file())
)
def test_a_text_is_as_it_was_read_and_found_good(kits: Path, name: str) -> None:
    """Byte for byte but for the version of fedrank."""
    written = (kits / name).read_text(encoding="utf-8").replace(version("fedrank"), "VERSION")
    assert written == (GOLDEN / name).read_text(encoding="utf-8")


def compose_problems(content: Any) -> list[str]:
    """What a compose file has that the schema does not know, or lacks."""
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((HERE / "compose.schema.json").read_text())
    return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(content)]


@pytest.mark.parametrize("place", ["", *KITS])
def test_a_compose_file_keeps_the_schema(kits: Path, place: str) -> None:
    """Locked down, with a pinned image and a look at its health; every folder that is mounted is there."""
    content = yaml.safe_load((kits / place / "compose.yaml").read_text())
    assert compose_problems(content) == []
    for service in content["services"].values():
        for volume in service["volumes"]:
            assert (kits / place / volume["source"]).is_dir()


def test_the_schema_sees_what_it_is_for(kits: Path) -> None:
    """A root user, a floating image, a secret in the environment, a host's folder and a typing error are found."""
    good = yaml.safe_load((kits / "merchants/north/compose.yaml").read_text())
    for name, value in (
        ("user", "0:0"),
        ("image", "fedrank:latest"),
        ("environment", {"NODE_KEY": "x"}),
        ("volumes", [{"type": "bind", "source": "/", "target": "/host"}]),
        ("read_only", False),
        ("helthcheck", {}),
    ):
        bad = copy.deepcopy(good)
        bad["services"]["merchant"][name] = value
        assert len(compose_problems(bad)) == 1


def test_the_compose_file_of_a_whole_federation_starts_every_part(kits: Path) -> None:
    """The coordinator answers to the name that merchants reach it by; no merchant's node listens."""
    services = yaml.safe_load((kits / "compose.yaml").read_text())["services"]
    assert list(services) == ["coordinator", "merchant-north", "serving-north", "merchant-south"]
    assert services["coordinator"]["networks"] == {"default": {"aliases": ["hub.shops.example"]}}
    assert "ports" not in services["merchant-north"]
    assert (
        services["serving-north"]["volumes"][1]["source"]
        == services["merchant-north"]["volumes"][1]["source"]
    )


@pytest.mark.parametrize("place", KITS)
def test_a_chart_runs_without_root_or_privileges_with_probes_and_no_secret_in_the_open(
    kits: Path, place: str
) -> None:
    """Every manifest of every chart."""
    found = manifests(kits / place / "helm")
    assert {name: problems(manifest) for name, manifest in found.items()} == {name: [] for name in found}
    assert yaml.safe_load((kits / place / "helm/Chart.yaml").read_text())["apiVersion"] == "v2"
    volumes = found["deployment.yaml"]["spec"]["template"]["spec"]["volumes"]
    assert [volume["secret"]["secretName"] for volume in volumes if "secret" in volume] != []


def test_the_checks_of_charts_see_what_they_are_for(kits: Path) -> None:
    """Each planted fault is found, and named once."""
    good = manifests(kits / "merchants/north/helm")["deployment.yaml"]
    for path, value in (
        ("securityContext.runAsNonRoot", False),
        ("automountServiceAccountToken", True),
        ("containers.0.securityContext", {"readOnlyRootFilesystem": True}),
        ("containers.0.image", "fedrank:latest"),
        ("containers.0.livenessProbe", {}),
        ("containers.0.resources", {}),
        ("containers.0.env", [{"name": "NODE_KEY", "value": "x"}]),
        ("containers.0.volumeMounts", [{"name": "nowhere", "mountPath": "/x"}]),
    ):
        bad = copy.deepcopy(good)
        *way, last = path.split(".")
        at: Any = bad["spec"]["template"]["spec"]
        for step in way:
            at = at[int(step) if step.isdigit() else step]
        at[last] = value
        assert len(problems(bad)) == 1, path
    with pytest.raises(ValueError, match="no value"):
        rendered("{{ .Values.nothing }}", {"Values": {}, "Release": {}})
    with pytest.raises(ValueError, match="more than words"):
        rendered("{{ if .Values.x }}", {"Values": {"x": 1}, "Release": {}})


def test_a_merchants_node_reaches_the_coordinator_and_nothing_else(kits: Path) -> None:
    """Egress alone: names, and the coordinator's port; the coordinator and the endpoint call nobody."""
    policy = manifests(kits / "merchants/north/helm")["network.yaml"]["spec"]
    assert policy["ingress"] == []
    assert [port["port"] for rule in policy["egress"] for port in rule["ports"]] == [53, 53, 9092]
    for place in ("coordinator", "serving/north"):
        assert manifests(kits / place / "helm")["network.yaml"]["spec"]["egress"] == []


def test_an_endpoint_finds_the_volume_of_its_merchants_node(kits: Path) -> None:
    """Under the release name that the README gives, on the same machine of the cluster."""
    values = yaml.safe_load((kits / "serving/north/helm/values.yaml").read_text())
    assert values["dataClaim"] == "merchant-north-data"
    pod = manifests(kits / "serving/north/helm")["deployment.yaml"]["spec"]["template"]["spec"]
    (rule,) = pod["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    node = manifests(kits / "merchants/north/helm")["deployment.yaml"]["spec"]["template"]
    assert rule["labelSelector"]["matchLabels"].items() <= node["metadata"]["labels"].items()


@pytest.mark.parametrize("place", KITS)
def test_only_public_files_can_reach_an_image(kits: Path, place: str) -> None:
    """The list of what docker may see names no key, and holds everything that is copied."""
    allowed = re.findall(r"^!(.+)$", (kits / place / ".dockerignore").read_text(), re.MULTILINE)
    copied = re.findall(r"^COPY (.+) /public/$", (kits / place / "helm/Dockerfile").read_text(), re.MULTILINE)
    assert sorted(allowed) == sorted(copied[0].split())
    for name in allowed:
        assert b"PRIVATE KEY" not in (kits / place / name).read_bytes()


@pytest.mark.parametrize("place", KITS)
def test_systemd_takes_a_unit_as_it_is(kits: Path, tmp_path: Path, place: str) -> None:
    """`systemd-analyze verify` has nothing to say, and finds little exposed."""
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed here")
    (unit,) = (kits / place / "systemd").iterdir()
    stand_in = tmp_path / unit.name
    stand_in.write_text(unit.read_text().replace("/opt/fedrank/bin/fedrank", "/bin/true"))
    done = subprocess.run([analyze, "verify", str(stand_in)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    words = [analyze, "security", "--offline=true", "--no-pager", "--threshold=20", str(stand_in)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-200:]


def test_a_unit_may_listen_below_1024_only_where_its_kit_says_so(tmp_path: Path) -> None:
    """One capability for port 443, none otherwise."""
    low = federation(tmp_path, TEXT.replace(":9092", ":443"))
    units = [part.texts()[f"systemd/fedrank-{part.name}.service"] for part in parts_of(low)]
    assert [("CAP_NET_BIND_SERVICE" in unit) for unit in units] == [True, False, False, False]


def test_the_words_that_serve_rankings_are_words_of_fedrank_serve(tmp_path: Path) -> None:
    """Each option exists, and each value is one that it takes."""
    import typer.main

    described = federation(tmp_path)
    words = serve_words(described, described.merchant("north"), "/kit", "/kit/data", "127.0.0.1")
    serve = typer.main.get_command(app).commands["serve"]  # type: ignore[attr-defined]
    known = {option for parameter in serve.params for option in parameter.opts}
    assert {word for word in words if word.startswith("--")} <= known


def test_the_image_is_pinned_and_runs_as_nobody() -> None:
    """Torch of the version that the package wants, a user without root, no shell in between."""
    text = (ROOT / "deploy/Dockerfile").read_text()
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert re.findall(r"pip install (torch==\S+)", text) == [
        one for one in wanted if one.startswith("torch==")
    ]
    assert f"--tag fedrank:{version('fedrank')} " in text
    assert "\nUSER 10001:10001\n" in text
    assert 'ENTRYPOINT ["/opt/fedrank/bin/fedrank"]' in text
    assert "latest" not in text
