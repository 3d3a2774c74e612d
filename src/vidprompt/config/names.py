"""Names of this package's methods and of the protocols, in the order of every table.

What a method is by its nature it says itself (`MethodConfig.trained`, `VideoCLIP.encodes_frames_apart`).
A method of ours is a class in models/methods, a line in models/factory.py and a name here; one of a plug-in
needs neither (config/plugins.py), and comes after these.
"""

from __future__ import annotations

FLOOR = "frozen_clip"  # what every method is compared with
FROZEN = "frozen"  # in place of a training run's name, of a method with nothing to train
METHODS = (
    FLOOR,
    "ez_clip",
    "vita_clip",
    "vifi_clip",
    "vl_prompting",
    "clip_lora",
    "tip_adapter",
    "tip_adapter_f",
)
PROTOCOLS = ("zero_shot", "base_to_novel", "few_shot", "supervised", "reid")
