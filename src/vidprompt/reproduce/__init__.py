"""Make a published row again: check what is there, run what is missing, compare the figures."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from vidprompt.config.published import find_row

if TYPE_CHECKING:
    from vidprompt.pipeline.doctor import Finding
    from vidprompt.reproduce.plan import Chain
    from vidprompt.reproduce.table import Reproduction

logger = logging.getLogger(__name__)


def check(
    name: str, overrides: Sequence[str] = (), measure: bool = True
) -> Iterator[tuple[Chain, Finding]]:
    """What a row needs and has, chain by chain: data, weights, disk, time, and steps that are done.

    Raises UserError for an unknown row or a wrong override.
    """
    from vidprompt.pipeline.doctor import Finding, State, examine
    from vidprompt.reproduce.expected_cost import expected_cost
    from vidprompt.reproduce.plan import plan_row
    from vidprompt.reproduce.steps import done_steps

    for chain in plan_row(find_row(name), overrides).all:
        done, to_train = done_steps(chain)
        measured = False
        for finding in examine(chain.config, measure, to_train):
            measured |= finding.subject == "disk"
            yield chain, finding
        if not measured:
            for finding in expected_cost(chain.config, to_train):
                yield chain, finding
        left = f"to train: {', '.join(to_train)}" if to_train else "nothing to train"
        message = f"{left}; done before: {', '.join(done) or 'nothing'}"
        yield chain, Finding("steps", State.OK, message)


def run(
    name: str, overrides: Sequence[str] = (), *, again: bool = False, command: Sequence[str] = ()
) -> Reproduction:
    """What `vidprompt reproduce ROW` does: run all that is not finished, compare, write the files.

    `again`: run finished steps, too; `command`: instead of vidprompt, for tests. Raises UserError for an
    unknown row and where a stage fails, Interrupted when stopped: the same call goes on.
    """
    from vidprompt.reproduce import table
    from vidprompt.reproduce.plan import plan_row
    from vidprompt.reproduce.steps import logs, run_chain
    from vidprompt.sweep.launch import Launcher
    from vidprompt.sweep.plan import Configurations

    row, configs = find_row(name), Configurations()
    chain = plan_row(row, overrides, configs)
    for log in logs(chain):
        logger.info(f"the stages write to {log}")
    run_chain(chain, configs, Launcher(1, again=again, command=command))
    found = table.reproduction(row, chain, overrides)
    table.write(found)
    return found
