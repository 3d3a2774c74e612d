"""What the commands `vidprompt embed` and `vidprompt search` do and print."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from vidprompt.config.schema import RunnerConfig
from vidprompt.data.probe.result import Limits
from vidprompt.index.build import SHOWN_FAILURES, BuildReport, MakeShards, build_index
from vidprompt.index.cluster import ClusterRun
from vidprompt.index.encode import EncodeSettings
from vidprompt.index.processes import LocalProcesses, ModelName
from vidprompt.index.results import SearchResults
from vidprompt.system.cores import available_cores
from vidprompt.system.errors import UserError
from vidprompt.system.launch import process_count


@dataclass(frozen=True)
class EmbedOptions:
    """The options of `vidprompt embed`; `workers`: None for the cores of each process."""

    model: str
    window: float | None = None
    stride: float | None = None
    device: str = "auto"
    weights: Path | None = None
    num_frames: int | None = None
    processes: str = "auto"
    workers: int | None = None
    runner: str = "local"
    address: str | None = None
    timeout_s: float = 600.0


def run_embed(folder: Path, out: Path, options: EmbedOptions) -> BuildReport:
    """Build or update an index. Raises UserError for options that do not go together."""
    if options.address and options.runner == "local":
        raise UserError("an --address is of a cluster: say --runner dask or --runner ray")
    name = ModelName(
        _absolute(options.model),
        options.device,
        str(options.weights.absolute()) if options.weights else None,
        options.num_frames,
    )
    count = _process_count(options.processes)
    settings = EncodeSettings(
        workers=_workers(options.workers, count), limits=Limits(timeout_s=options.timeout_s)
    )
    make: MakeShards | None = None
    if options.runner != "local":
        # the cluster's processes share its cores: each decodes with one process of its own
        own = EncodeSettings(options.workers or 1, settings.limits)
        workers = count if options.processes != "auto" else available_cores()
        make = ClusterRun(name.load, RunnerConfig(options.runner, options.address, workers), own)
    elif count > 1:
        make = LocalProcesses(name.load, count, settings)
    model = name.load()
    return build_index(
        model,
        folder,
        out,
        window=options.window,
        stride=options.stride,
        settings=settings,
        make=make,
    )


def _absolute(model: str) -> str:
    """A path as seen from every folder; other names as they are."""
    path = Path(model).expanduser()
    return str(path.absolute()) if path.exists() else model


def _process_count(processes: str) -> int:
    if processes == "auto":
        return process_count("auto")
    try:
        return process_count(int(processes))
    except ValueError:
        raise UserError(f"--processes {processes}: a number, or auto (a GPU each)") from None


def _workers(workers: int | None, processes: int) -> int:
    return max(1, available_cores() // processes) if workers is None else workers


def report_lines(report: BuildReport, out: Path) -> list[str]:
    """A summary, and the videos that failed."""
    rows = "" if report.rows == report.videos else f", {report.rows:,} windows"
    summary = (
        f"{out}: {report.videos:,} videos{rows} ({report.encoded:,} encoded now), "
        f"{report.failed:,} failed, {report.dropped:,} dropped"
    )
    lines = [summary, *(f"  {video}: {reason}" for video, reason in report.failures)]
    if report.failed > SHOWN_FAILURES:
        lines.append(f"  … and {report.failed - SHOWN_FAILURES:,} more")
    return lines + [f"  not read: {problem}" for problem in report.left_out]


def hit_rows(results: SearchResults, windows: bool) -> tuple[list[str], list[list[str]]]:
    """The heads and rows of a table of hits."""
    heads = ["rank", "score", "video"]
    rows = [[str(hit.rank), f"{hit.score:.4f}", hit.video] for hit in results]
    if windows:
        heads += ["start", "end"]
        for row, hit in zip(rows, results, strict=True):
            row += [_clock(hit.start), _clock(hit.end)]
    return heads, rows


def _clock(seconds: float) -> str:
    """Seconds as 1:02:03.5."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    return f"{hours}:{minutes:02}:{rest:04.1f}" if hours else f"{minutes}:{rest:04.1f}"
