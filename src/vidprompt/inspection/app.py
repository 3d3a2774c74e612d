"""Build a FiftyOne dataset of an inspection, by FiftyOne's public API, and open its app."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vidprompt.inspection.videos import Inspection, embeddings
from vidprompt.system.errors import UserError


def open_app(found: Inspection, port: int | None = None) -> None:
    """Build the dataset and show it until the app is closed. UserError where FiftyOne is not there."""
    fo, brain = load_fiftyone()
    session = fo.launch_app(build(found, fo, brain), port=port)
    session.wait()


def load_fiftyone() -> tuple[Any, Any]:
    """The modules `fiftyone` and `fiftyone.brain`. UserError where they cannot be imported.

    The import starts FiftyOne's database, or connects to FIFTYONE_DATABASE_URI.
    """
    try:
        import fiftyone
        import fiftyone.brain
    except ImportError as error:
        raise UserError(
            "vidprompt inspect needs FiftyOne: pip install 'vidprompt[inspect]', or write a folder for "
            "another machine's FiftyOne with --export DIR"
        ) from error
    except Exception as error:  # its database does not start: errors of many kinds
        first = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(
            f"FiftyOne's database does not start ({first[0]}): set FIFTYONE_DATABASE_URI to a MongoDB, or "
            "use --export DIR"
        ) from error
    return fiftyone, fiftyone.brain


def build(found: Inspection, fo: Any, brain: Any) -> Any:
    """The dataset `vidprompt-…`, in place of one of that name: samples, maps of embeddings, evaluations.

    `fo` and `brain` are the modules `fiftyone` and `fiftyone.brain`.
    """
    dataset = fo.Dataset(name=f"vidprompt-{found.name}", overwrite=True)
    dataset.info = {"fields": [one.name for one in found.fields], "errors": found.errors}
    dataset.default_classes = sorted({video.label for video in found.videos})
    dataset.add_samples(_samples(found, fo), dynamic=True, num_samples=len(found.videos))
    for one in found.fields:
        shown = dataset.exists(one.name)
        stored = embeddings(one, found)
        if stored is not None:
            names = found.with_field(one.name)
            shown.set_values(f"{one.name}_embedding", list(stored.vectors(names)))
            brain.compute_visualization(
                shown, points=stored.points(names), brain_key=f"map_{one.name}"
            )
        shown.evaluate_classifications(
            one.name, gt_field="ground_truth", eval_key=f"eval_{one.name}"
        )
        dataset.save_view(f"wrong {one.name}", dataset.match_tags(f"wrong: {one.name}"))
    dataset.save()
    return dataset


def _samples(found: Inspection, fo: Any) -> Iterator[Any]:
    for video in found.videos:
        predictions = {
            name: fo.Classification(label=one.label, confidence=one.confidence, rank=one.rank)
            for name, one in video.predictions.items()
        }
        yield fo.Sample(
            filepath=str(video.path),
            tags=video.tags,
            video_id=video.video_id,
            video_group=video.group,
            ground_truth=fo.Classification(label=video.label),
            **video.numbers,
            **predictions,
        )
