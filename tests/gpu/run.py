#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Real software under the shim: each case of cases/ natively and shimmed, with the same output.

A case is a Python file that prints what must be the same. Comment lines at its top say how it is run:
  # needs: torch, triton        modules that must be there, or the case is skipped with that reason
  # limit: 60                   seconds for one run (default 120)
  # exclusive                   not beside other cases
  # errors                      standard error is compared too
  # alone                       starts server and shim itself; judged by its exit status
  # may refuse: cuFoo, cuBar    functions that the shim may refuse by name
  # mask: PATTERN -> TEXT       what legitimately varies
  # variant NAME: ARG... [A=B]  the case NAME of this file, with arguments and environment; may be repeated
Exit status 77 of a case is a skip, and its last line the reason.
"""
import argparse
import fnmatch
import os
import re
import subprocess
import sys
from pathlib import Path

import runner

HERE = Path(__file__).resolve().parent
PACKAGES = ["torch", "triton", "transformers", "jax", "cupy-cuda13x", "numba", "numba-cuda", "cuda-bindings",
            "cuda-core", "onnxruntime", "onnxruntime-gpu", "nvidia-ml-py"]
ASK_VERSIONS = f"""
import importlib.metadata as m, sys
print('python', sys.version.split()[0])
for name in {PACKAGES!r}:
    try: print(name, m.version(name))
    except m.PackageNotFoundError: pass
"""
ASSIGNMENT = re.compile(r"([A-Z][A-Z0-9_]*)=(.*)")


def header(path):
    """The directives at the top of a case, as [(key, value)]."""
    found = []
    for line in path.read_text().splitlines():
        if not line.startswith("#"):
            break
        match = re.match(r"# (needs|limit|exclusive|errors|alone|may refuse|mask|variant ([\w-]+)):?(?: (.*))?$", line)
        if match:
            key = "variant" if match[1].startswith("variant") else match[1]
            found.append((key, (match[2], match[3] or "") if key == "variant" else (match[3] or "").strip()))
    return found


def read_cases(folder, python, options):
    cases, needs = [], {}
    for path in sorted(folder.glob("*.py")):
        if path.name == "common.py":
            continue
        base = {"limit": 120.0}
        masks, variants, need = [], [], []
        for key, value in header(path):
            if key == "limit":
                base["limit"] = float(value)
            elif key in ("exclusive", "alone"):
                base[key] = True
            elif key == "errors":
                base["errors_too"] = True
            elif key == "needs":
                need += [word.strip() for word in value.split(",")]
            elif key == "may refuse":
                base["allowed"] = tuple(word.strip() for word in value.split(","))
            elif key == "mask":
                pattern, text = value.split(" -> ")
                masks.append((re.compile(pattern, re.M), text))
            elif key == "variant":
                variants.append(value)
        if options.time_limit:
            base["limit"] = options.time_limit
        for variant, words in variants or [(None, "")]:
            name = path.stem + (f":{variant}" if variant else "")
            arguments, env = [], {"CASE_NEEDS": ",".join(need)}
            for word in words.split():
                match = ASSIGNMENT.fullmatch(word)
                if match:
                    env[match[1]] = match[2]
                else:
                    arguments.append(word)
            if base.get("alone"):
                arguments += ["--build", options.build, "--driver", options.driver, "--python", python]
            cases.append(runner.Case(name, [python, path, *arguments], env=env, masks=masks, **base))
            needs[name] = need
    return cases


def versions(python):
    answer = subprocess.run([python, "-c", ASK_VERSIONS], capture_output=True, text=True)
    found = dict(line.split(None, 1) for line in answer.stdout.splitlines())
    try:
        smi = subprocess.run(["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"],
                             capture_output=True, text=True, timeout=60)
        if smi.returncode == 0:
            found["GPU"], found["driver"] = [word.strip() for word in smi.stdout.splitlines()[0].split(",")]
    except (OSError, subprocess.TimeoutExpired):
        pass
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    runner.add_options(parser)
    parser.add_argument("--cases", type=Path, default=HERE / "cases", help="the folder of cases")
    parser.add_argument("--python", default="python3", help="the interpreter of the cases")
    parser.add_argument("--list", action="store_true", help="print the cases and end")
    options = runner.finish_options(parser.parse_args())
    if options.markdown:
        runner.markdown(options.markdown)
        return 0
    options.native_must_pass = False
    cases = read_cases(options.cases, options.python, options)
    if options.only:
        cases = [case for case in cases if any(fnmatch.fnmatch(case.name, glob) for glob in options.only)]
    if options.list:
        print("\n".join(case.name for case in cases))
        return 0
    if not cases:
        print("no case has such a name")
        return 1
    if options.driver == "real" and not Path("/dev/nvidiactl").exists():
        print("SKIP: there is no NVIDIA driver here")
        return 77
    return runner.run_all(cases, options, versions(options.python))


if __name__ == "__main__":
    os.environ.setdefault("CRICKET_TEST_PATIENCE", "120")
    sys.exit(main())
