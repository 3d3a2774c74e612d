"""The commands as processes: what runs when SIGTERM comes is finished, and nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A folder of open_clip with a small model."""
    import open_clip
    import torch

    from vidprompt.contract.subject import SMALL

    small = SMALL["config"]
    config = {**small, "text_cfg": {**small["text_cfg"], "context_length": 77}}
    folder = tmp_path / "small"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    clip = open_clip.CLIP(**config)
    torch.save(clip.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


@contextmanager
def started(
    model: Path, tmp_path: Path, *options: str
) -> Iterator[tuple[subprocess.Popen[str], str]]:
    environment = {**os.environ, "TMPDIR": str(tmp_path / "temporary")}
    (tmp_path / "temporary").mkdir(exist_ok=True)
    command = [sys.executable, "-m", "vidprompt.cli", "serve", str(model), "--port", "0", *options]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, cwd=tmp_path, env=environment
    )
    try:
        assert process.stderr is not None
        lines = list[str]()
        while "http://" not in (line := process.stderr.readline()):
            lines.append(line)
            assert line, "".join(lines)
        address = line[line.index("http://") :].split()[0]
        while True:
            try:
                urllib.request.urlopen(f"{address}/healthz", timeout=60).close()
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        yield process, address
    finally:
        process.kill()
        process.wait()


@pytest.mark.slow
def test_what_runs_is_finished_after_sigterm(model: Path, tmp_path: Path, video: Path) -> None:
    import httpx2

    with started(model, tmp_path, "--decoders", "2") as (process, address):
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        (uploads,) = (tmp_path / "temporary").glob("vidprompt-serve-*")
        content = video.read_bytes()

        def slowly() -> Iterator[bytes]:
            boundary = (
                b'--x\r\nContent-Disposition: form-data; name="video"; filename="a.mp4"\r\n\r\n'
            )
            yield boundary + content[:1000]
            time.sleep(1)
            process.send_signal(signal.SIGTERM)
            time.sleep(1)
            yield (
                content[1000:]
                + b'\r\n--x\r\nContent-Disposition: form-data; name="classes"\r\n\r\na,b'
            )
            yield b"\r\n--x--\r\n"

        headers = {"Content-Type": "multipart/form-data; boundary=x"}
        answer = httpx2.post(f"{address}/predict", content=slowly(), headers=headers, timeout=60)
        assert answer.status_code == 200
        assert process.wait(30) == 0
        assert not uploads.exists()
        assert not [one for one in children if one.is_running() and one.status() != "zombie"]
        with pytest.raises(httpx2.ConnectError):
            httpx2.get(f"{address}/healthz")


@pytest.mark.slow
def test_the_server_that_is_killed_leaves_no_process(model: Path, tmp_path: Path) -> None:
    with started(model, tmp_path) as (process, _):
        children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.wait()
        gone, alive = psutil.wait_procs(children, timeout=15)
        assert not alive
        assert gone
        (left,) = (tmp_path / "temporary").glob("vidprompt-serve-*")
        os.utime(left, (0, 0))
    with started(model, tmp_path):
        assert not left.exists()  # the next one removes it


@pytest.mark.slow
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--host", "0.0.0.0"], "give it a token (--token-file FILE)"),
        (["--token-file", "gone"], "gone: the token cannot be read"),
        (["--max-upload-mb", "0"], "upload_mb=0"),
        (["--index", "gone"], "gone"),
    ],
)
def test_a_wrong_option_is_one_sentence(
    model: Path, tmp_path: Path, options: list[str], says: str
) -> None:
    command = [sys.executable, "-m", "vidprompt.cli", "serve", str(model), "--port", "0", *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=120)
    assert done.returncode == 2
    assert says in done.stderr
    assert "Traceback" not in done.stderr
