"""The manifests in deploy/kubernetes are valid, confine every process, and fit the code."""

from __future__ import annotations

from typing import Any

import kubernetes_validate  # type: ignore[import-untyped] # it has no types
import pytest
import yaml  # type: ignore[import-untyped] # its stubs are not among the dependencies

from shared.config import load
from shared.http import server
from tests.fixtures.documents import ROOT, parse, variables_read_by_config

FOLDER = ROOT / "deploy" / "kubernetes"
FILES = sorted(FOLDER.glob("*.yaml"))
RELEASE_VARIABLES = {"DATABASE_URL", "PREPAID_APP_ROLE"}


def documents() -> list[dict[str, Any]]:
    return [
        document
        for file in FILES
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
    ]


def named(kind: str, name: str) -> dict[str, Any]:
    found = [d for d in documents() if (d["kind"], d["metadata"]["name"]) == (kind, name)]
    assert len(found) == 1, (kind, name)
    return found[0]


def pods() -> dict[str, dict[str, Any]]:
    """Return the pod of each workload, by its component."""
    return {
        document["metadata"]["labels"]["app.kubernetes.io/component"]: document["spec"]["template"]
        for document in documents()
        if document["kind"] in {"Deployment", "Job"}
    }


def container(component: str) -> dict[str, Any]:
    containers: list[dict[str, Any]] = pods()[component]["spec"]["containers"]
    assert len(containers) == 1
    return containers[0]


def variables(component: str) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container(component).get("env", [])}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_manifest_satisfies_the_schema_of_kubernetes(file: Any) -> None:
    for document in yaml.safe_load_all(file.read_text(encoding="utf-8")):
        kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)


def test_the_manifests_start_what_exists_from_one_image() -> None:
    assert set(pods()) == {"web", "worker", "release"}
    for component in pods():
        program, *words = container(component)["command"]
        assert program == "prepaid"
        parse(words)
    assert len({container(component)["image"] for component in pods()}) == 1


def test_every_pod_runs_confined_as_the_user_of_the_image() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    for component, pod in pods().items():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False, component
        assert spec["enableServiceLinks"] is False, component
        assert spec["serviceAccountName"] == named("ServiceAccount", "prepaid")["metadata"]["name"]
        assert spec["securityContext"]["runAsNonRoot"] is True, component
        assert f"--uid {spec['securityContext']['runAsUser']} " in dockerfile
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}, component
        context = container(component)["securityContext"]
        assert context["allowPrivilegeEscalation"] is False, component
        assert context["readOnlyRootFilesystem"] is True, component
        assert context["capabilities"] == {"drop": ["ALL"]}, component
        assert container(component)["resources"]["limits"]["memory"], component
        assert container(component)["resources"]["requests"], component


def test_every_selector_matches_its_pods_and_no_others() -> None:
    labels = {component: pod["metadata"]["labels"] for component, pod in pods().items()}
    for document in documents():
        component = document["metadata"]["labels"].get("app.kubernetes.io/component")
        if document["kind"] == "Service":
            assert document["spec"]["selector"] == labels[component]
        elif document["kind"] in {"Deployment", "PodDisruptionBudget"}:
            assert document["spec"]["selector"] == {"matchLabels": labels[component]}
    (policy,) = (d for d in documents() if d["kind"] == "NetworkPolicy")
    for component, found in labels.items():
        assert policy["spec"]["podSelector"]["matchLabels"].items() <= found.items(), component


def test_the_variables_are_those_of_the_settings() -> None:
    known = variables_read_by_config()
    config = named("ConfigMap", "prepaid")["data"]
    secret = named("Secret", "prepaid")["stringData"]
    for component in ("web", "worker"):
        sources = container(component)["envFrom"]
        assert sources == [
            {"configMapRef": {"name": "prepaid"}},
            {"secretRef": {"name": "prepaid"}},
        ]
        assert set(variables(component)) | set(config) | set(secret) <= known
        load({**secret_without_placeholders(secret), **config, **variables(component)})


def secret_without_placeholders(secret: dict[str, str]) -> dict[str, str]:
    return {name: value.replace("CHANGE_ME", "7f3a9c1e5b2d8f40") for name, value in secret.items()}


def test_the_owner_of_the_schema_is_known_to_the_release_alone() -> None:
    assert container("release")["envFrom"] == [{"secretRef": {"name": "prepaid-owner"}}]
    owner = named("Secret", "prepaid-owner")["stringData"]
    assert set(owner) == RELEASE_VARIABLES
    app = named("Secret", "prepaid")["stringData"]["DATABASE_URL"]
    assert f"//{owner['PREPAID_APP_ROLE']}:" in app
    assert owner["DATABASE_URL"] != app


def test_the_probes_ask_paths_that_exist_on_ports_that_are_open() -> None:
    for component, variable in (
        ("web", "PREPAID_OPERATIONS_PORT"),
        ("worker", "PREPAID_WORKER_PORT"),
    ):
        ports = {port["name"]: port["containerPort"] for port in container(component)["ports"]}
        assert str(ports["operations"]) == variables(component)[variable]
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            action = container(component)[probe]["httpGet"]
            assert action["port"] in ports
            assert action["path"] == ("/readyz" if probe == "readinessProbe" else "/healthz")
    web = container("web")
    (listening,) = (p["containerPort"] for p in web["ports"] if p["name"] == "http")
    assert str(listening) == variables("web")["PORT"]
    # Web must serve on while no worker runs, which /readyz on the port for operators reports.
    assert web["readinessProbe"]["httpGet"]["port"] == "http"
    (port,) = named("Service", "prepaid-web")["spec"]["ports"]
    assert port["targetPort"] == "http"


def test_a_pod_has_longer_to_stop_than_it_takes() -> None:
    drain = int(named("ConfigMap", "prepaid")["data"]["PREPAID_DRAIN_SECONDS"])
    readiness = container("web")["readinessProbe"]
    noticed = readiness["periodSeconds"] * readiness["failureThreshold"]
    assert drain >= noticed + readiness["timeoutSeconds"]
    grace = pods()["web"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > drain + 2 * server.SHUTDOWN_SECONDS_MAX
    for component in ("web", "worker"):
        deployment = named("Deployment", f"prepaid-{component}")["spec"]
        assert deployment["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
        assert deployment["replicas"] > 1
