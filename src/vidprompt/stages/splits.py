"""Stage splits: manifest → one file a split of every protocol."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from vidprompt.data import splits
from vidprompt.data.manifest import read_manifest
from vidprompt.stages import paths

PROTOCOLS = ("supervised", "zero_shot", "base_to_novel", "few_shot", "reid")


def build(
    manifest: Any, config: Any, protocols: dict[str, Any]
) -> Iterator[tuple[str, splits.Split]]:
    """All splits of a dataset as (file stem, split), by the protocols' own parameters."""
    dataset, roles = config.dataset.name, config.dataset.roles
    rows = {role: manifest[manifest["source"] == source] for role, source in roles.items()}
    p = protocols
    if "recognition" in rows:
        seen = rows["recognition"]
        for s in p["supervised"].splits:
            yield f"supervised_split{s}", splits.supervised(seen, dataset, s)
        for seed in p["base_to_novel"].seeds:
            b = p["base_to_novel"]
            split = splits.base_to_novel(seen, dataset, b.split, b.shots, seed)
            yield split.run, split
        for shots in p["few_shot"].shots:
            for seed in p["few_shot"].seeds:
                split = splits.few_shot(seen, dataset, p["few_shot"].split, shots, seed)
                yield split.run, split
    if "zero_shot" in rows:
        name = f"{dataset}_{roles.zero_shot}"
        for s in p["zero_shot"].splits:
            split = splits.zero_shot(rows["zero_shot"], name, s, p["zero_shot"].trained_on)
            yield f"zero_shot_split{s}", split
    if "reid" in rows:
        yield "reid", splits.reid(rows["reid"], dataset, p["reid"].tracklet)


def run(config: Any) -> None:
    """Write every split file of the dataset."""
    from vidprompt.configuration import compose

    dataset = config.dataset.name
    manifest = read_manifest(paths.manifest(dataset))
    protocols = {name: compose([f"protocol={name}"]).protocol for name in PROTOCOLS}
    out = paths.splits(dataset)
    for stem, split in build(manifest, config, protocols):
        splits.write_split(split, out / f"{stem}.json")
        trained = len(split.train.videos) if split.train else 0
        tested = ", ".join(f"{name} {len(t.videos)}" for name, t in split.tests.items())
        print(f"{split.id}: train {trained}, {tested}")
