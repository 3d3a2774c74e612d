"""The metadata of a model card in the Hub's format: licence, base model, and results as `model-index`.

The format: https://github.com/huggingface/hub-docs/blob/main/modelcard.md
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from vidprompt.hub.publication import Publication
from vidprompt.metrics.result import WITHIN, Measure, summary_measures
from vidprompt.provenance.git import try_git
from vidprompt.registry.declared import ModelResult, other_runs
from vidprompt.registry.policy import FILE, Policy, read_policy
from vidprompt.reporting.measures import PROTOCOL_TITLES
from vidprompt.reproduce.backbones.catalogue import figures
from vidprompt.system.errors import UserError

if TYPE_CHECKING:
    from huggingface_hub import EvalResult, ModelCardData

LIBRARY = "vidprompt"
TASK = "video-classification"
METRICS = {  # measure → the Hub's type of metric, and its name for people
    "top1": ("accuracy", "Top-1 accuracy"),
    "top5": ("top-5-accuracy", "Top-5 accuracy"),
    "mean_class": ("mean-class-accuracy", "Mean accuracy of classes"),
    "hm": ("harmonic-mean-accuracy", "Harmonic mean of base and novel accuracy"),
    "R-1": ("rank-1", "Rank-1"),
    "R-5": ("rank-5", "Rank-5"),
    "R-10": ("rank-10", "Rank-10"),
    "mAP": ("mAP", "Mean average precision"),
}
REID = "reid"


def card_metadata(publication: Publication, repo: str, licence: str) -> ModelCardData:
    """The metadata of the card of `repo`."""
    from huggingface_hub import ModelCardData

    spec = publication.metadata.backbone_spec
    dataset = str(publication.metadata.trained_on.get("dataset") or "")
    if publication.origin:
        dataset = publication.origin.model.dataset
    base = base_model(spec or {"name": publication.metadata.backbone})
    results = [
        found for one in publication.results for found in eval_results(publication, one, repo)
    ]
    is_reid = bool(publication.results) and all(one.protocol == REID for one in publication.results)
    return ModelCardData(
        license=licence,
        library_name=LIBRARY,
        pipeline_tag=None if is_reid else TASK,
        tags=[LIBRARY, "clip", "video", "prompt-learning", publication.metadata.method],
        datasets=[dataset] if dataset else None,
        base_model=base or None,
        base_model_relation="adapter" if base else None,
        model_name=publication.name if results else None,
        eval_results=results or None,
    )


def own_measures(one: ModelResult) -> Iterator[Measure]:
    """The summary's measures that follow from this training alone."""
    for measure in summary_measures(one.result).values():
        if not other_runs(one, measure):
            yield measure


def eval_results(publication: Publication, one: ModelResult, repo: str) -> Iterator[EvalResult]:
    """The measures of a result as the Hub has them: fractions in [0, 1], with their 95% intervals."""
    from huggingface_hub import EvalResult

    title = PROTOCOL_TITLES.get(one.protocol, one.protocol)
    name, url = _source(publication, repo)
    for measure in own_measures(one):
        kind, shown = metric_names(measure.measure)
        tested = one.protocol if measure.test == one.protocol else f"{one.protocol}/{measure.test}"
        about: dict[str, Any] = {"n": measure.n}
        if measure.ci95:
            about["ci95"] = [round(value, 6) for value in measure.ci95]
        yield EvalResult(
            task_type="other" if one.protocol == REID else TASK,
            task_name=title,
            dataset_type=one.dataset,
            dataset_name=one.dataset,
            dataset_config=tested,
            dataset_split="test",
            dataset_revision=one.result.hashes.data,
            metric_type=kind,
            metric_name=shown,
            metric_value=measure.value,
            metric_args=about,
            verified=False,
            source_name=name,
            source_url=url,
        )


def metric_names(measure: str) -> tuple[str, str]:
    """The Hub's type and the name of a measure: `within/pair` is an accuracy within classes' groups."""
    if measure.startswith(WITHIN):
        return "accuracy", f"Top-1 accuracy within {measure.removeprefix(WITHIN)}"
    return METRICS.get(measure, (measure, measure))


def base_model(spec: Mapping[str, Any]) -> str:
    """The backbone's repository on the Hub; empty where it has none that is known."""
    name, tag = str(spec.get("name", "")), str(spec.get("pretrained") or "")
    if name.startswith("hf-hub:"):
        return name.removeprefix("hf-hub:").partition("@")[0]
    if not tag:
        return ""
    from open_clip.pretrained import get_pretrained_cfg

    place = str(get_pretrained_cfg(name, tag).get("hf_hub") or "")
    return "/".join(place.split("/")[:2]) if "/" in place else ""


def find_licence(publication: Publication, given: str) -> str:
    """The Hub's identifier of the licence of the weights: `given`, or the backbone's, which they build on.

    Raises UserError where the backbone's is not known.
    """
    if given:
        return given
    spec = publication.metadata.backbone_spec
    name, tag = str(spec.get("name", "")), str(spec.get("pretrained") or "")
    known = figures().get((name, tag))
    own = policy_of(publication).backbone_licences
    backbone = publication.metadata.backbone.partition("@")[0]
    licence = (known.licence if known else "") or own.get(name) or own.get(backbone)
    if not licence:
        raise UserError(
            f"the licence of the backbone {backbone} is not known, and what is built on it is published "
            "under it: --license ID (as mit, apache-2.0, cc-by-nc-4.0; the Hub's identifiers), or add "
            f"`backbone_licences: {{{name or backbone}: ID}}` to {FILE}"
        )
    return licence


def policy_of(publication: Publication) -> Policy:
    """params/registry.yaml of the model's revision; an empty one where it has none."""
    origin = publication.origin
    if origin is None or origin.revision.read(FILE) is None:
        return Policy((), {}, {}, {}, {})
    return read_policy(origin.revision)


def _source(publication: Publication, repo: str) -> tuple[str, str]:
    """Name and address of where the numbers are from: the project's page, without anybody's password."""
    from huggingface_hub import constants

    if publication.origin:
        url = try_git(publication.origin.revision.root, "remote", "get-url", "origin") or b""
        if page := public_page(url.decode("utf-8", "replace").strip()):
            return "results/ of the project", page
    return "the model card", f"{constants.ENDPOINT}/{repo}"


def public_page(url: str) -> str:
    """The page of a git remote (https://…, git@HOST:PATH); empty for a folder and any other."""
    if url.startswith("git@") and ":" in url:
        host, _, path = url.removeprefix("git@").partition(":")
        return f"https://{host}/{path.removesuffix('.git').strip('/')}"
    parts = urlsplit(url)
    if parts.scheme not in ("https", "ssh") or not parts.hostname:
        return ""
    return f"https://{parts.hostname}/{parts.path.strip('/').removesuffix('.git')}"
