"""Renders a kit's Helm chart as far as it goes offline, and says what is wrong with a Kubernetes manifest.

The charts use nothing of Helm's language but `{{ .Values.A.B }}` and `{{ .Release.Name }}`; anything else is refused
here, so that what these tests see is what Helm would render.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

WORD = re.compile(r"\{\{ \.(Values|Release)\.([A-Za-z.]+) \}\}")
RELEASE = "trial"


def manifests(chart: Path) -> dict[str, Any]:
    """Every manifest of a chart with its default values, by file name."""
    words = {"Values": yaml.safe_load((chart / "values.yaml").read_text()), "Release": {"Name": RELEASE}}
    return {
        path.name: yaml.safe_load(rendered(path.read_text(), words))
        for path in sorted(chart.glob("templates/*.yaml"))
    }


def rendered(template: str, words: dict[str, Any]) -> str:
    """A template with its words; `ValueError` for a word that is not there, and for anything but words."""

    def value(match: re.Match[str]) -> str:
        found: Any = words[match[1]]
        for name in match[2].split("."):
            if name not in found:
                raise ValueError(f"{match[0]} is no value")
            found = found[name]
        return str(found)

    text = WORD.sub(value, template)
    if "{{" in text:
        raise ValueError(f"more than words: {text[text.index('{{') :][:60]}")
    return text


def problems(manifest: dict[str, Any]) -> list[str]:
    """What a workload or a policy lacks: no root, read-only, privileges, probes, limits, tags, secrets as files."""
    kinds = {
        "Deployment": _workload,
        "NetworkPolicy": _policy,
        "Service": _nothing,
        "PersistentVolumeClaim": _nothing,
    }
    if manifest["kind"] not in kinds:
        return [f"kind {manifest['kind']}"]
    return list(kinds[manifest["kind"]](manifest["spec"]))


def _nothing(_spec: dict[str, Any]) -> Iterator[str]:
    return iter(())


def _policy(spec: dict[str, Any]) -> Iterator[str]:
    if spec["policyTypes"] != ["Ingress", "Egress"]:
        yield "the policy leaves a direction open"
    for direction in ("ingress", "egress"):
        if any(not rule or not rule.get("ports") for rule in spec[direction]):
            yield f"{direction} to every port"


def _workload(spec: dict[str, Any]) -> Iterator[str]:
    pod = spec["template"]["spec"]
    person = pod["securityContext"]
    if not person.get("runAsNonRoot") or person.get("runAsUser", 0) < 1000:
        yield "runs as root"
    if person.get("seccompProfile", {}).get("type") != "RuntimeDefault":
        yield "no seccomp profile"
    if pod.get("automountServiceAccountToken") is not False:
        yield "a service account's token"
    if spec["selector"]["matchLabels"].items() - spec["template"]["metadata"]["labels"].items():
        yield "the selector misses its own pods"
    for container in pod.get("initContainers", []) + pod["containers"]:
        yield from _container(container, {volume["name"] for volume in pod["volumes"]})
    for container in pod["containers"]:
        for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
            if not {"exec", "tcpSocket", "httpGet"} & container.get(probe, {}).keys():
                yield f"{container['name']} has no {probe}"


def _container(container: dict[str, Any], volumes: set[str]) -> Iterator[str]:
    name, locks = container["name"], container.get("securityContext", {})
    if not locks.get("readOnlyRootFilesystem"):
        yield f"{name} can write its root file system"
    if locks.get("allowPrivilegeEscalation") is not False or locks.get("capabilities") != {"drop": ["ALL"]}:
        yield f"{name} has privileges"
    if not container.get("resources", {}).get("limits", {}).keys() >= {"cpu", "memory"}:
        yield f"{name} has no limits"
    if ":" not in container["image"] or container["image"].endswith((":latest", ":")):
        yield f"{name} has an image without a version"
    for variable in container.get("env", []):
        if re.search("KEY|SECRET|PASS|TOKEN", variable["name"]) or "valueFrom" in variable:
            yield f"{name} has a secret in {variable['name']}"
    if unknown := {mount["name"] for mount in container["volumeMounts"]} - volumes:
        yield f"{name} mounts {', '.join(sorted(unknown))}, which is not there"
