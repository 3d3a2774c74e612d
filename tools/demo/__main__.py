"""Write the demo data, packed:  python -m tools.demo --root data/demo --seed 1

The stage unpack gives its readers the official layouts. The backbone is trained apart (`python -m
tools.demo.backbone`, a quarter of an hour on 2 cores). `dvc add data/demo` then updates data.dvc:
docs/demo-data.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from tools.demo.actions import ACTIONS, TRANSFER, write_actions
from tools.demo.pack import pack
from tools.demo.people import write_people


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("data/demo"))
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for chosen in (ACTIONS, TRANSFER):
            write_actions(folder, chosen, arguments.seed)
        write_people(folder / "people", arguments.seed)
        pack(folder, arguments.root)


if __name__ == "__main__":
    main()
