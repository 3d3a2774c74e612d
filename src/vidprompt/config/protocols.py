"""The parameters of every protocol that a dataset takes part in."""

from __future__ import annotations

from dataclasses import dataclass

from vidprompt.config.compose import params_folder, read_yaml
from vidprompt.config.names import PROTOCOLS
from vidprompt.config.schema import (
    BaseToNovelConfig,
    Config,
    FewShotConfig,
    ProtocolConfig,
    ReidConfig,
    SupervisedConfig,
    ZeroShotConfig,
    protocol_config,
)
from vidprompt.system.errors import UserError
from vidprompt.system.suggestions import suggestion


@dataclass(frozen=True)
class Protocols:
    """A dataset's protocols; None where it takes no part."""

    zero_shot: ZeroShotConfig | None = None
    base_to_novel: BaseToNovelConfig | None = None
    few_shot: FewShotConfig | None = None
    supervised: SupervisedConfig | None = None
    reid: ReidConfig | None = None

    def present(self) -> dict[str, ProtocolConfig]:
        """Name → parameters of those it takes part in."""
        every = ((name, getattr(self, name)) for name in PROTOCOLS)
        return {name: one for name, one in every if one is not None}


def protocols_of(config: Config) -> Protocols:
    """Each protocol's parameters: `config.protocol` as it is, others from params/protocol with the
    dataset's own numbers. A dataset leaves a protocol out by `protocols: {NAME: null}`.

    Raises UserError for an unknown protocol or key in `dataset.protocols`.
    """
    own = config.dataset.protocols
    if unknown := sorted(set(own) - set(PROTOCOLS)):
        raise UserError(
            f"dataset.protocols: unknown {unknown[0]!r}: {suggestion(unknown[0], PROTOCOLS)}"
        )
    found: dict[str, ProtocolConfig] = {}
    for name in PROTOCOLS:
        if name == config.protocol.name:
            if own.get(name, {}) is not None:
                found[name] = config.protocol
        elif (numbers := own.get(name, {})) is not None:
            usual = read_yaml(params_folder() / "protocol" / f"{name}.yaml")
            for key in numbers:
                if key not in usual:
                    where = f"dataset.protocols.{name}"
                    raise UserError(f"{where}: unknown {key!r}: {suggestion(key, sorted(usual))}")
            found[name] = protocol_config({**usual, **numbers}, f"dataset.protocols.{name}")
    return Protocols(**found)  # type: ignore[arg-type]
