"""A remote of one's own: S3, spoken to a real server (moto's) over HTTP, by the `dvc` that users type."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.pipeline.project import ROOT, environment, run

FILES = (".gitignore", ".dvcignore", ".dvc/config", ".dvc/.gitignore", "data/.gitignore")
PIPELINE = """stages:
  frames:
    cmd: mkdir -p cache/frames && for i in $(seq 150); do echo $i > cache/frames/$i; done
    deps: [data/demo]
    outs: [cache/frames]
  evaluate:
    cmd: cat cache/frames/1 > results/metrics.json
    deps: [cache/frames]
    metrics: [results/metrics.json: {cache: false}]
"""
OBJECTS = 151  # of the frames, with the list of their folder
SECRET = "a-secret-of-the-users"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture(scope="module")
def storage(address: str) -> Any:
    """A client of the server's, to look at what arrived."""
    import boto3

    keys = {"aws_access_key_id": "user", "aws_secret_access_key": SECRET}
    return boto3.client("s3", endpoint_url=address, region_name="us-east-1", **keys)


def _git(folder: Path, *words: str) -> str:
    return run("git", "-c", "user.name=a", "-c", "user.email=a@b", *words, folder=folder)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """This repository's settings of DVC, a demo in the remote in git, and two stages that ran."""
    folder = tmp_path_factory.mktemp("remotes") / "project"
    for name in FILES:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    (folder / "data/demo").mkdir()
    (folder / "data/demo/a.txt").write_text("demo")
    for name in ("cache", "results"):
        (folder / name).mkdir()
    (folder / "dvc.yaml").write_text(PIPELINE)
    run("git", "init", "-q", folder=folder)
    shutil.copy(ROOT / "data.dvc", folder)  # which says that the demo goes to `sample`
    run("dvc", "add", "-q", "data/demo", folder=folder)
    run("dvc", "repro", "-q", folder=folder)
    run("dvc", "push", "-q", "data.dvc", folder=folder)
    _git(folder, "add", ".")
    _git(folder, "commit", "-q", "-m", "all")
    return folder


def _connect(folder: Path, address: str, bucket: str) -> None:
    """As docs/dvc.md says."""
    url = f"s3://{bucket}/vidprompt"
    run("dvc", "remote", "add", "--local", "-d", "mine", url, folder=folder)
    options = {"endpointurl": address, "access_key_id": "user", "secret_access_key": SECRET}
    with (folder / ".dvc/config.local").open("a") as file:  # what `dvc remote modify` writes
        file.writelines(f"    {key} = {value}\n" for key, value in options.items())


@pytest.fixture
def connected(project: Path, address: str, storage: Any, tmp_path: Path) -> tuple[Path, str]:
    """The project with a bucket of its own as the default remote."""
    bucket = f"bucket-{tmp_path.name.replace('_', '-').lower()}"[:60].rstrip("-")
    storage.create_bucket(Bucket=bucket)
    folder = Path(shutil.copytree(project, tmp_path / "project"))
    _connect(folder, address, bucket)
    return folder, bucket


def _keys(storage: Any, bucket: str) -> set[str]:
    pages = storage.get_paginator("list_objects_v2").paginate(Bucket=bucket)
    return {one["Key"] for page in pages for one in page.get("Contents", [])}


def test_what_is_pushed_to_s3_is_whole_in_a_fresh_clone(
    connected: tuple[Path, str], storage: Any, address: str, tmp_path: Path
) -> None:
    folder, bucket = connected
    run("dvc", "push", folder=folder)
    keys = _keys(storage, bucket)
    assert len(keys) == OBJECTS
    store = folder / ".dvcstore"  # the demo stays in git alone
    assert not keys & {f"vidprompt/{path.relative_to(store)}" for path in store.rglob("*")}
    assert _git(folder, "status", "--porcelain") == ""  # and the secret is not in git
    _git(tmp_path, "clone", "-q", str(folder), "clone")
    clone = tmp_path / "clone"
    _connect(clone, address, bucket)
    run("dvc", "pull", folder=clone)
    assert (clone / "cache/frames/150").read_text("utf-8") == "150\n"
    assert (clone / "data/demo/a.txt").is_file()  # from the remote in git
    assert "up to date" in run("dvc", "status", folder=clone)
    assert "in sync" in run("dvc", "status", "-c", folder=clone)
    assert "Running" not in run("dvc", "repro", folder=clone)
    assert _git(clone, "status", "--porcelain") == ""


def test_a_push_that_was_killed_goes_on(connected: tuple[Path, str], storage: Any) -> None:
    folder, bucket = connected
    command = ("dvc", "push", "-j", "1")
    with subprocess.Popen(command, cwd=folder, env=environment(), stderr=subprocess.PIPE) as push:
        until = time.monotonic() + 60
        while not _keys(storage, bucket) and push.poll() is None and time.monotonic() < until:
            time.sleep(0.02)
        push.send_signal(signal.SIGKILL)
    first = _keys(storage, bucket)
    assert 0 < len(first) < OBJECTS
    assert not any(
        key.endswith(".dir") for key in first
    )  # a listing comes when all it lists is there
    assert f"{OBJECTS - len(first)} files pushed" in run("dvc", "push", folder=folder)
    assert "in sync" in run("dvc", "status", "-c", folder=folder)


def test_a_bucket_that_is_not_there_is_said(connected: tuple[Path, str]) -> None:
    folder, _ = connected
    url = "s3://no-such-bucket/vidprompt"
    run("dvc", "remote", "modify", "--local", "mine", "url", url, folder=folder)
    said = run("dvc", "push", folder=folder, fails=True)
    assert "The specified bucket does not exist" in said


def test_without_a_remote_the_demo_comes_and_the_rest_is_named(
    project: Path, tmp_path: Path
) -> None:
    """What docs/dvc.md says of a fresh clone."""
    _git(tmp_path, "clone", "-q", str(project), "clone")
    clone = tmp_path / "clone"
    assert "cache/frames" in run("dvc", "pull", folder=clone, fails=True)
    assert (clone / "data/demo/a.txt").is_file()
    run("dvc", "pull", "--allow-missing", folder=clone)
    run("dvc", "push", folder=project, fails=True)
    run("dvc", "repro", folder=clone)  # makes the same again
    assert _git(clone, "status", "--porcelain") == ""
