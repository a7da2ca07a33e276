#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Runs a program under the shim with a server of its own: it must end with status 0 and say nothing."""
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoint"))
from harness import check, main  # noqa: E402


def test(world, arguments):
    world.start_server()
    program = arguments.program.resolve()
    result = world.run([program], env=world.environment(LD_PRELOAD=str(world.shim)))
    check(result.returncode == 0 and not result.stdout, f"{program.name}: status {result.returncode}:\n{result.stdout}")


main(__doc__, test, lambda parser: parser.add_argument("--program", type=Path, required=True))
