"""Runs a command and succeeds if its exit code is the expected one: `exits.py 70 mlc-opt ...` (lit's own shell has no `$?`)."""

import subprocess
import sys

expected, *command = sys.argv[1:]
found = subprocess.run(command, check=False).returncode
sys.exit(0 if found == int(expected) else f"exit code {found}, expected {expected}")
