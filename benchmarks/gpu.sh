#!/bin/bash
# `benchmarks/gpu.py` on a bare GPU machine without network; from the repository's root.
#   here:   pip download into .whl (in .git/info/exclude): open_clip_torch ftfy wcwidth hydra-core omegaconf
#           pydantic pydantic-core annotated-types typing-inspection, and a wheel made of antlr4-python3-runtime;
#           `dvc repro frames@demo`
#   there:  bash benchmarks/gpu.sh [PART …]
#           bring along: .whl cache/frames/demo cache/splits/demo cache/manifest/demo
SITE=${TMPDIR:-/tmp}/site
if ls .whl/*.whl >/dev/null 2>&1 && [ ! -d "$SITE" ]; then
  python3 -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade --target "$SITE" .whl/*.whl || exit
fi
export PYTHONPATH=$SITE:$PWD/src:$PWD:$PYTHONPATH PYTHONUNBUFFERED=1
mkdir -p data/demo/backbone
python3 - <<'PY' # the demo's backbone lies in the tree, in DVC's store
import json
import shutil
from pathlib import Path

store = Path(".dvcstore/files/md5")
for listed in store.glob("*/*.dir"):
    for file in json.loads(listed.read_text("utf-8")):
        if file["relpath"].startswith("backbone/"):
            shutil.copy(store / file["md5"][:2] / file["md5"][2:], Path("data/demo") / file["relpath"])
PY
exec python3 benchmarks/gpu.py "$@"
