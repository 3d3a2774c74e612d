"""The service under load: many clients, and uploads that want to harm.

    python benchmarks/serve.py                 # a minute of load; about three minutes
    python benchmarks/serve.py --seconds 10 --quick    # a try; writes no file

Needs the demo's data and models (`make repro`). Starts `vidprompt serve demo/ez_clip/supervised_split1` and
sends the demo's test videos: by one client, then by 32 at once. Beside them, in the same run and on the same
cores, is the bare model: `Model.predict` on one file after the other in one process, while the service rests.
Then 200 hostile uploads, eight at once, among them slow ones and broken HTTP; a prediction before and after
them is the same to the last bit. Writes `benchmarks/results/serve.json`.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

sys.path.insert(0, str(Path(__file__).parents[1]))
from benchmarks.machine import ROOT, provenance
from tests.serving.hostile import BROKEN, flipped, hostile_files

import vidprompt
from vidprompt.prediction.model import Model

OUT = ROOT / "benchmarks/results/serve.json"
MODEL = "demo/ez_clip/supervised_split1"
CLIENTS, HOSTILE, VIDEOS = 32, 200, 64
LIMITS = ["--max-upload-mb", "16", "--max-seconds", "60", "--max-pixels", str(640 * 480)]
Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def server(*options: str) -> Iterator[tuple[int, psutil.Process]]:
    """The service as a process: its port, and the process."""
    command = [sys.executable, "-m", "vidprompt.cli", "serve", MODEL, "--port", "0", *options]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            while "http://" not in (line := process.stderr.readline()):
                if not line:
                    raise SystemExit("the service did not start")
            port = int(line.split("http://")[1].split()[0].rsplit(":", 1)[1])
            threading.Thread(target=process.stderr.read, daemon=True).start()
            while not ready(port):
                time.sleep(0.1)
            yield port, psutil.Process(process.pid)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(90)


def ready(port: int) -> bool:
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
        connection.request("GET", "/healthz")
        return connection.getresponse().status == 200
    except OSError:
        return False


def multipart(content: bytes, name: str = "a.mp4", boundary: str = "x") -> bytes:
    head = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="video"; filename="{name}"\r\n\r\n'
    )
    return head.encode() + content + f"\r\n--{boundary}--\r\n".encode()


class Client:
    """One client with a connection that stays open."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)

    def post(self, body: bytes, path: str = "/predict", kind: str = "") -> Answer:
        kind = kind or "multipart/form-data; boundary=x"
        try:
            self._connection.request("POST", path, body, {"Content-Type": kind})
            answer = self._connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            raise


def load(port: int, bodies: Sequence[bytes], clients: int, seconds: float) -> dict[str, Any]:
    """Requests as fast as each client gets answers; a client that gets 429 waits as it is told."""
    end = time.monotonic() + seconds
    times: list[float] = []
    statuses: Counter[str] = Counter()
    lock = threading.Lock()

    def work(number: int) -> None:
        client, k = Client(port), number
        while time.monotonic() < end:
            began = time.perf_counter()
            status: int | str
            try:
                status, headers, _ = client.post(bodies[k % len(bodies)])
            except (OSError, http.client.HTTPException) as error:
                status, headers = type(error).__name__, {}
            with lock:
                statuses[str(status)] += 1
                if status == 200:
                    times.append(time.perf_counter() - began)
            if status == 429:
                time.sleep(float(headers.get("retry-after", 1)))
            k += clients

    began = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        list(pool.map(work, range(clients)))
    took = time.perf_counter() - began
    quantiles = statistics.quantiles(times, n=20)
    return {
        "clients": clients,
        "seconds": round(took, 1),
        "statuses": dict(sorted(statuses.items())),
        "requests a second": round(len(times) / took, 2),
        "p50 ms": round(1000 * statistics.median(times), 1),
        "p95 ms": round(1000 * quantiles[18], 1),
    }


def bare(model: Model, videos: Sequence[Path]) -> dict[str, Any]:
    """The model alone: decoding and its forward, one file after the other."""
    model.predict(videos[0])
    times = []
    for video in videos:
        began = time.perf_counter()
        model.predict(video)
        times.append(time.perf_counter() - began)
    return {
        "p50 ms": round(1000 * statistics.median(times), 1),
        "videos a second": round(len(times) / sum(times), 2),
    }


def hostile(folder: Path) -> list[tuple[str, bytes, str]]:
    """200 uploads: name, body, Content-Type; an empty type is sent as it is, without HTTP."""
    files = hostile_files(folder)
    good = (folder / "h264.mp4").read_bytes()
    uploads = [(name, multipart(content, f"{name}.mp4"), "") for name, content in files.items()]
    uploads += [(f"broken: {name}", body, kind) for name, (kind, body) in BROKEN.items()]
    uploads += [("too large", multipart(bytes(17 * 2**20)), "")]
    uploads += [("wrong type", good, "video/mp4"), ("no type", good, "nothing")]
    uploads += [(name, name.encode() + b"\r\n\r\n", "raw") for name in ("no HTTP", "GET")]
    uploads += [("slow", multipart(good)[:300], "slow")] * 4
    uploads += [("gone", multipart(good)[:300], "gone")] * 4
    while len(uploads) < HOSTILE:
        seed = len(uploads)
        uploads.append((f"flipped {seed}", multipart(flipped(good, seed)), ""))
    return uploads


def send_hostile(port: int, upload: tuple[str, bytes, str]) -> str:
    """What came back: a status, or what happened to the connection."""
    _, body, kind = upload
    if kind not in ("raw", "slow", "gone"):
        try:
            return str(Client(port).post(body, kind=kind)[0])
        except (OSError, http.client.HTTPException) as error:
            return type(error).__name__
    head = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 90000\r\n"
    head += b"Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        connection.sendall(body if kind == "raw" else head + body)
        if kind == "gone":
            return "gone"
        answer = connection.recv(65536)
        return answer.split(b" ", 2)[1].decode() if answer else "closed"


def memory_mb(process: psutil.Process) -> float:
    return round(process.memory_info().rss / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--quick", action="store_true", help="write no file")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    videos = sorted((ROOT / "cache/unpacked/demo/actions/videos").rglob("*.mp4"))[::7][:VIDEOS]
    if not videos:
        raise SystemExit("the demo's videos are not here: run make repro")
    model = vidprompt.load(MODEL)
    results: dict[str, Any] = {"model": MODEL, **provenance()}
    bodies = [multipart(video.read_bytes(), video.name) for video in videos]
    with server() as (port, process):
        load(port, bodies, 4, 2)  # warms up
        before = memory_mb(process)
        results["one client"] = load(port, bodies, 1, arguments.seconds / 4)
        results["bare model"] = bare(model, videos)
        results["load"] = load(port, bodies, CLIENTS, arguments.seconds)
        results["load"]["MB before, after"] = [before, memory_mb(process)]
    wanted, rate = results["bare model"], results["load"]["requests a second"]
    results["ratios"] = {
        "requests a second / bare model's": round(rate / wanted["videos a second"], 2),
        "p50 of one client / bare model's": round(
            results["one client"]["p50 ms"] / wanted["p50 ms"], 2
        ),
    }
    with server(*LIMITS) as (port, process), tempfile.TemporaryDirectory() as folder:
        uploads = hostile(Path(folder))
        first = Client(port).post(bodies[0])
        before = memory_mb(process)
        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(lambda one: send_hostile(port, one), uploads))
        after = Client(port).post(bodies[0])
        results["hostile uploads"] = {
            "number": len(uploads),
            "outcomes": dict(sorted(Counter(outcomes).items())),
            "answers afterwards": after[0] == 200 and after[2] == first[2],
            "MB before, after": [before, memory_mb(process)],
        }
    print(json.dumps(results, indent=1, sort_keys=True))
    errors = set(results["load"]["statuses"]) - {"200", "429"}
    failed = [outcome for outcome in outcomes if outcome.startswith("5")]
    if errors or failed or not results["hostile uploads"]["answers afterwards"]:
        raise SystemExit(f"failed: {sorted(errors)} {failed}")
    if not arguments.quick:
        OUT.write_text(json.dumps(results, indent=1, sort_keys=True) + "\n", "utf-8")


if __name__ == "__main__":
    main()
