"""Write the demo data:  python -m tools.demo --root data/demo --seed 1

The backbone is trained apart (`python -m tools.demo.backbone`, a quarter of an hour on 2 cores). `dvc add
data/demo` then updates data.dvc: docs/demo-data.md.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from tools.demo.actions import ACTIONS, TRANSFER, write_actions
from tools.demo.people import write_people


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data/demo"))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for chosen in (ACTIONS, TRANSFER):
        write_actions(arguments.root, chosen, arguments.seed)
    write_people(arguments.root / "people", arguments.seed)


if __name__ == "__main__":
    main()
