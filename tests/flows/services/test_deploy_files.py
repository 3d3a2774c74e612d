"""The pools and deployments of containers: placeholders, variables and entrypoints fit together."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[3]
KINDS = ("docker", "kubernetes")


@pytest.mark.parametrize("kind", KINDS)
def test_a_pool_asks_for_what_it_uses(kind: str) -> None:
    pool = json.loads((ROOT / f"deploy/{kind}-pool.json").read_text("utf-8"))
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(pool["job_configuration"])))
    variables = pool["variables"]
    assert used == set(variables["properties"])
    assert set(variables["required"]) <= used
    assert not any("default" in variables["properties"][name] for name in variables["required"])


@pytest.mark.parametrize("kind", KINDS)
def test_a_deployment_says_what_its_pool_requires(kind: str) -> None:
    pool = json.loads((ROOT / f"deploy/{kind}-pool.json").read_text("utf-8"))
    content = yaml.safe_load((ROOT / f"deploy/{kind}.yaml").read_text("utf-8"))
    assert content["deployments"]
    ours = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))["deployments"]
    for one in content["deployments"]:
        variables = one["work_pool"]["job_variables"]
        assert set(pool["variables"]["required"]) <= set(variables)
        assert set(variables) <= set(pool["variables"]["properties"])
        assert one["entrypoint"] in {other["entrypoint"] for other in ours}
        # another name: `make up` would otherwise take the deployment back to its own pool
        assert one["name"] not in {other["name"] for other in ours}


def test_the_tree_is_where_the_deployments_look_for_it() -> None:
    for kind in KINDS:
        (pull,) = yaml.safe_load((ROOT / f"deploy/{kind}.yaml").read_text("utf-8"))["pull"]
        (step,) = pull.values()
        assert step == {"directory": "/project"}
    job = json.loads((ROOT / "deploy/kubernetes-pool.json").read_text("utf-8"))
    pod = job["job_configuration"]["job_manifest"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    claim, clone = yaml.safe_load_all((ROOT / "deploy/kubernetes-tree.yaml").read_text("utf-8"))
    assert claim["metadata"]["name"] == job["variables"]["properties"]["claim"]["default"]
    (cloning,) = clone["spec"]["template"]["spec"]["containers"]
    assert container["volumeMounts"][0] == cloning["volumeMounts"][0]
    assert cloning["volumeMounts"][0]["mountPath"] == "/project"


@pytest.mark.parametrize("name", ["Dockerfile", "serve.Dockerfile"])
def test_an_image_copies_what_there_is_and_has_no_rights_that_it_needs_not(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text("utf-8").replace("\\\n", " ")
    lines = [line.split() for line in text.splitlines() if line and line[0] not in "# "]
    sources = [words[1:-1] for words in lines if words[0] == "COPY" and "--from" not in words[1]]
    assert sources
    for source in sources:
        assert all((ROOT / one).exists() for one in source), source
    assert all(
        ":" in words[1] and "latest" not in words[1] for words in lines if words[0] == "FROM"
    )
    if name == "serve.Dockerfile":
        extras = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
        wanted = re.search(r"vidprompt\[([\w,]+)\]", text)
        assert wanted
        assert set(wanted[1].split(",")) <= set(extras["optional-dependencies"])
        assert ["USER", "10001"] in lines
        assert "--token-file" in lines[-1][-2]
