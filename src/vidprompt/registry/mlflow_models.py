"""Registers a version in MLflow's model registry too (`vidprompt register --mlflow`).

Git's tags stay the registry: MLflow gets a copy of the weights and the card, the version's commit and hashes
as tags, and the stage as an alias.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vidprompt.provenance.dvc_project import DvcProject
from vidprompt.provenance.revision import Revision
from vidprompt.registry.declared import find_model
from vidprompt.registry.model_files import Weights, find_weights
from vidprompt.registry.registration import Registered
from vidprompt.system.errors import UserError
from vidprompt.tracking.tracker import PROJECT

VERSION_TAG = "vidprompt.version"
PLACE = "model"  # of the files, in the run's artifacts


def register_in_mlflow(done: Registered, stage: str, project: Path | str = ".") -> str:
    """Give a registered version and its stage to the MLflow of MLFLOW_TRACKING_URI; returns `NAME version N`.

    A version that MLflow has already gets the alias alone. Raises UserError without the package, and with
    MLflow's reason where it fails: what is registered in git stays so.
    """
    try:
        from mlflow import MlflowClient
    except ImportError as error:
        raise UserError("--mlflow needs its package: pip install 'vidprompt[mlflow]'") from error
    revision = Revision(Path(project), done.version.commit)
    with DvcProject(revision) as dvc:
        weights = find_weights(find_model(revision, done.version.name), dvc)
    try:
        return _register(MlflowClient(), done, stage, weights)
    except Exception as error:  # MLflow's own, and those of the network below it
        reason = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise UserError(
            f"{done.version.selector} is registered in git, but not in MLflow: {reason}. Run the same again"
        ) from error


def _register(client: Any, done: Registered, stage: str, weights: Weights) -> str:
    version = done.version
    found = client.search_model_versions(f"name='{version.name}'")
    known = [one for one in found if one.tags.get(VERSION_TAG) == version.version]
    if known:
        number = known[0].version
    else:
        if not client.search_registered_models(f"name='{version.name}'"):
            client.create_registered_model(version.name)
        number = _upload(client, done, weights).version
    client.set_registered_model_alias(version.name, stage, number)
    return f"{version.name} version {number}"


def _upload(client: Any, done: Registered, weights: Weights) -> Any:
    """Write the files into a run of their own, and make a version of them."""
    version = done.version
    tags = {
        VERSION_TAG: version.version,
        "mlflow.source.git.commit": version.commit,
        "dvc.md5": weights.md5,
        "sha256": weights.sha256,
    }
    experiment = client.get_experiment_by_name(PROJECT)
    home = experiment.experiment_id if experiment else client.create_experiment(PROJECT)
    run = client.create_run(home, run_name=version.selector, tags=tags)
    for file in (weights.file, done.card):
        client.log_artifact(run.info.run_id, str(file), PLACE)
    client.set_terminated(run.info.run_id)
    return client.create_model_version(
        version.name,
        source=f"{run.info.artifact_uri}/{PLACE}",
        run_id=run.info.run_id,
        tags=tags,
        description=done.card.read_text("utf-8"),
    )
