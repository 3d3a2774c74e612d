"""Predictions and metrics have the same bytes whatever the processor's kernels and number of threads."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from threadpoolctl import threadpool_info

ROOT = Path(__file__).parents[2]
# kernels that processors of this family can run
KERNELS = {"x86_64": ("Haswell", "Nehalem"), "aarch64": ("ARMV8", "NEOVERSEN1")}


def _evaluate(folder: Path, **environment: str) -> tuple[dict[str, bytes], dict[str, Any]]:
    """The files that a process with this environment writes, and what it computes with."""
    known = {k: v for k, v in os.environ.items() if not k.startswith(("OPENBLAS_", "NPY_"))}
    done = subprocess.run(
        [sys.executable, "-m", "tests.metrics.evaluate_once", str(folder)],
        cwd=ROOT,
        env=known | {"PYTHONPATH": os.pathsep.join(sys.path)} | environment,
        check=True,
        capture_output=True,
        text=True,
    )
    files = {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
    return files, json.loads(done.stdout)


def test_kernels_threads_and_simd_change_no_byte(tmp_path: Path) -> None:
    blas = [info for info in threadpool_info() if info["user_api"] == "blas"]
    if (
        "openblas" not in {info["internal_api"] for info in blas}
        or platform.machine() not in KERNELS
    ):
        pytest.skip("numpy does not multiply with an OpenBLAS whose kernel can be chosen")
    first, second = KERNELS[platform.machine()]
    simd = np.show_config(mode="dicts")["SIMD Extensions"].get("found", [])
    expected, default = _evaluate(tmp_path / "default", OMP_NUM_THREADS="1")
    one, with_one = _evaluate(tmp_path / "one", OPENBLAS_CORETYPE=first, OMP_NUM_THREADS="3")
    two, with_two = _evaluate(
        tmp_path / "two",
        OPENBLAS_CORETYPE=second,
        OMP_NUM_THREADS="2",
        NPY_DISABLE_CPU_FEATURES=" ".join(simd),
    )
    assert with_one["kernels"] != with_two["kernels"]
    assert with_two["simd"] == []
    assert default["simd"] == simd
    assert set(expected) == {
        "softmax_sum.parquet",
        "softmax_sum.json",
        "mean_feature.parquet",
        "mean_feature.json",
        "reid.json",
        "similarity",
        "cosines",
        "softmax",
    }
    for files in (one, two):
        assert [name for name in expected if files[name] != expected[name]] == []
