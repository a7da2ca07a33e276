#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# Runs ordinary.sh without and with the shim preloaded and compares output and exit status, byte for byte.
# Arguments: libcudashim.so, ordinary.sh.
import difflib
import os
import subprocess
import sys
import tempfile

shim, script = (os.path.abspath(path) for path in sys.argv[1:])


def run(preload):
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    if preload:
        environment["LD_PRELOAD"] = preload
    with tempfile.TemporaryDirectory() as folder:
        return subprocess.run(["/bin/bash", script], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)


bare, shimmed = run(None), run(shim)
if bare.returncode != 6 or bare.stdout.count("\n== ") != 7:
    print(bare.stdout, f"\n{script} itself ended with {bare.returncode}")
    sys.exit(1)
if (bare.stdout, bare.returncode) == (shimmed.stdout, shimmed.returncode):
    print(f"{len(bare.stdout.splitlines())} lines of output are the same")
    sys.exit(0)
print(f"exit status without the shim {bare.returncode}, with it {shimmed.returncode}")
print("\n".join(difflib.unified_diff(bare.stdout.splitlines(), shimmed.stdout.splitlines(), "without", "with",
                                     lineterm="")))
sys.exit(1)
