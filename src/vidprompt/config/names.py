"""Names of the methods and protocols, in the order of every table."""

from __future__ import annotations

FLOOR = "frozen_clip"  # nothing is trained: what every method is compared with
METHODS = (FLOOR, "ez_clip", "vita_clip", "vifi_clip")
PROTOCOLS = ("zero_shot", "base_to_novel", "few_shot", "supervised", "reid")
