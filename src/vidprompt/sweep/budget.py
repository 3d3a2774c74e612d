"""Training lengths with which several methods see the same number of clips."""

from __future__ import annotations

import math
from collections.abc import Mapping

from vidprompt.config.schema import Config, ReidConfig
from vidprompt.data.splits.split_file import Subset
from vidprompt.training.settings import in_steps


def batch_size(config: Config, train: Subset) -> int:
    """Clips of a step on a training list."""
    if isinstance(config.protocol, ReidConfig):
        people = min(config.protocol.people_per_batch, len(set(train.labels)))
        return people * config.protocol.tracklets_per_person
    return min(config.trainer.batch_size, len(train.videos))


def trained_by_steps(config: Config) -> bool:
    """False for a method that trains nothing, or is fitted at once to the features of its videos."""
    return config.method.trained and not (config.method.fitted and config.trainer.lr == 0)


def steps_of_recipe(config: Config, train: Subset) -> int:
    """Steps of `trainer.length` on a training list, or none. UserError for a length without a number."""
    if not trained_by_steps(config):
        return 0
    size = batch_size(config, train)
    return in_steps(config.trainer.length, "trainer.length", len(train.videos), size)


def equal_steps(configs: Mapping[str, Config], train: Subset) -> dict[str, int]:
    """Method → steps with which it sees as many clips as the one with the longest recipe does by its own.

    Each keeps its batch size; to within one batch the clips are equal. A method without steps has 0.
    `configs` are those of one protocol.
    """
    sizes = {method: batch_size(config, train) for method, config in configs.items()}
    clips = max(
        (steps_of_recipe(config, train) * sizes[method] for method, config in configs.items()),
        default=0,
    )
    return {
        method: math.ceil(clips / sizes[method]) if trained_by_steps(config) else 0
        for method, config in configs.items()
    }
