"""Runs mlc-opt from a checkout: `tools/mlc-opt.py in.mlir --canonicalize`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mlc.cli.opt import main

main()
