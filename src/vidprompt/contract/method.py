"""Run the checks of the contract on a method."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from vidprompt.config.build import build
from vidprompt.config.compose import compose
from vidprompt.config.params_files import PARAMS, read_yaml
from vidprompt.config.plugins import package_params
from vidprompt.config.schema import MethodConfig
from vidprompt.contract import checks
from vidprompt.contract.result import CheckResult, ContractFailure, NotApplicable
from vidprompt.contract.subject import FRAMES, SMALL, Subject
from vidprompt.models.backbones.specification import as_mapping
from vidprompt.models.factory import METHODS
from vidprompt.models.methods.video_clip import VideoCLIP
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import check_choice

CHECKS: dict[str, Callable[[Subject], str]] = {
    "shapes": checks.shapes,
    "gradients": checks.gradients,
    "backbone unchanged": checks.backbone_unchanged,
    "start": checks.start,
    "determinism": checks.determinism,
    "state round trip": checks.state_round_trip,
    "other lengths": checks.other_lengths,
    "meta device": checks.meta_device,
    "recompute": checks.recompute,
    "torch.export": checks.torch_export,
    "ONNX": checks.onnx_export,
}


def check_method(
    method: str | type[VideoCLIP],
    *,
    backbone: str | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    **options: Any,
) -> list[CheckResult]:
    """Check a method against the contract of methods, on the CPU.

    Args:
        method: a name, ours or a plug-in's, or a class that is not registered. A name has the options and the
            objective of its parameters, where there are some: of the project around the current folder, or of
            the plug-in's package.
        backbone: for `load_backbone`; None: a small one with random weights, made here.
        overrides: `key=value` of the method's parameters, in a project.
        only: names in CHECKS; none: all.
        options: of the method, over those of its parameters.

    Raises UserError for an unknown method, option or check, and for a plug-in that does not work.
    """
    return list(
        check_each(method, backbone=backbone, overrides=overrides, only=only, options=options)
    )


def check_each(
    method: str | type[VideoCLIP],
    *,
    backbone: str | Mapping[str, Any] | None = None,
    overrides: Sequence[str] = (),
    only: Sequence[str] = (),
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Iterator[CheckResult]:
    """`check_method`, each result as soon as it is known."""
    for name in only:
        check_choice("check", name, CHECKS)
    subject = _subject(method, backbone, overrides, options)
    subject.model()  # an unknown option is no finding
    yield from _run(subject, only or tuple(CHECKS))


def _run(subject: Subject, names: Sequence[str]) -> Iterator[CheckResult]:
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                remark = CHECKS[name](subject)
        except NotApplicable as reason:
            yield CheckResult(name, "not applicable", str(reason))
        except ContractFailure as failure:
            yield CheckResult(name, "FAILED", str(failure))
        except Exception as error:
            text = " ".join(str(error).split())[:300]
            yield CheckResult(name, "FAILED", f"raises {type(error).__name__}: {text}")
        else:
            yield CheckResult(name, "passed", remark)


def _subject(
    method: str | type[VideoCLIP],
    backbone: str | Mapping[str, Any] | None,
    overrides: Sequence[str],
    options: Mapping[str, Any],
) -> Subject:
    spec = SMALL if backbone is None else as_mapping(backbone)
    if not isinstance(method, str):
        return Subject(method, options, spec=spec)
    _ = METHODS[method]  # an unknown one, or a plug-in that does not work
    config = _parameters(method, overrides)
    if config is None:
        return Subject(method, options, spec=spec)
    return Subject(
        method,
        {**config.options, **options},
        config.objective,
        config.objective_options,
        config.num_frames if backbone is not None else min(config.num_frames, FRAMES),
        spec,
    )


def _parameters(method: str, overrides: Sequence[str]) -> MethodConfig | None:
    """The method's parameters, of the project in the current folder or of a plug-in's package; None: none.

    Raises UserError for overrides where there is no project.
    """
    if (Path.cwd() / PARAMS / "config.yaml").is_file():
        return compose([f"method={method}", *overrides]).method
    if overrides:
        raise UserError(
            f"{overrides[0]}: overrides need a project's {PARAMS}/: run this in its folder"
        )
    for one in package_params():
        file = one.folder / "method" / f"{method}.yaml"
        if file.is_file():
            content = {k: v for k, v in read_yaml(file).items() if k != "pipeline"}
            return build(MethodConfig, content, one.label(f"method/{method}"))
    return None
