#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""cuda-samples (or any folder of built programs) natively and under the shim, with the same output.

--samples names a folder with one folder a program, NAME/NAME, which holds the data it reads and is its working directory;
an optional test_args.json beside them (cuda-samples' own) has arguments: {"NAME": {"args": [...]}, or "runs": [{"args"}],
or "skip", or "min_gpus"}. A program that fails natively, or says that it waived itself, is skipped with that reason.
The text is compared after masks.py took out what varies from run to run. Nothing here builds anything.
"""
import argparse
import fnmatch
import json
import sys
from pathlib import Path

import masks
import runner


def count_gpus():
    return len(list(Path("/dev").glob("nvidia[0-9]*")))


def read_cases(options):
    folder = options.samples.resolve()
    known = folder / "test_args.json"
    wishes = json.loads(known.read_text()) if known.exists() else {}
    cases, left_out = [], []
    for place in sorted(folder.iterdir()):
        program = place / place.name
        if not program.is_file():
            continue
        wish = wishes.get(place.name, {})
        if wish.get("skip"):
            left_out.append(f"{place.name}: needs graphics")
        elif wish.get("min_gpus", 1) > count_gpus() and options.driver == "real":
            left_out.append(f"{place.name}: needs {wish['min_gpus']} GPUs")
        else:
            runs = wish.get("runs") or [wish]
            for number, run in enumerate(runs):
                name = place.name + (f":{number}" if len(runs) > 1 else "")
                cases.append(runner.Case(name, [program, *masks.ARGUMENTS.get(place.name, []), *run.get("args", [])], folder=place,
                                         limit=options.time_limit or 120, exclusive=place.name in masks.EXCLUSIVE,
                                         masks=masks.masks_of(place.name)))
    return cases, left_out


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runner.add_options(parser)
    parser.add_argument("--samples", type=Path, help="folder of built programs")
    options = runner.finish_options(parser.parse_args())
    if options.markdown:
        runner.markdown(options.markdown)
        return 0
    if not options.samples or not options.samples.is_dir():
        parser.error("--samples: no such folder")
    options.native_must_pass = True
    cases, left_out = read_cases(options)
    if options.only:
        cases = [case for case in cases if any(fnmatch.fnmatch(case.name, glob) for glob in options.only)]
    print(f"{len(cases)} runs; left out: {'; '.join(left_out) or 'none'}")
    if not cases:
        return 1
    if options.driver == "real" and not Path("/dev/nvidiactl").exists():
        print("SKIP: there is no NVIDIA driver here")
        return 77
    return runner.run_all(cases, options, {})


if __name__ == "__main__":
    sys.exit(main())
