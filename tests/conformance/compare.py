#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Runs `conform` natively and under the shim and compares every answer, line by line within each case.

What may differ: an error of a call that is posted is told by the next call; a function that the description calls unsupported may answer NOT_SUPPORTED (the case ends there for the
comparison); where the native driver crashes or hangs anything but a success is right; and what known.txt lists with
its reason. On the software GPU a function that it has not is nothing to compare with.
"""
import argparse
import collections
import fnmatch
import re
import sys
from pathlib import Path
from types import SimpleNamespace

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "gpu"))
import runner  # noqa: E402

NOT_SUPPORTED = "801"
LINE = re.compile(r"(\S+) (?:(.*) -> (\d+(?: later)?)|(.*) = (.*)|(.*))$")


def description(folder):
    """Functions that are refused by name, and those that are posted: aliases of such too."""
    kinds = {}
    for path in folder.glob("*.spec"):
        for line in path.read_text().splitlines():
            words = line.split("#")[0].split()
            if len(words) >= 2 and words[0].startswith("cu"):
                kinds[words[0]] = words[2] if words[1] == "alias" and len(words) > 2 else words[1]

    def is_a(name, wanted):
        kind = kinds.get(name)
        return kind == wanted or kind in kinds and is_a(kind, wanted)

    return ({name for name in kinds if is_a(name, "unsupported")}, {name for name in kinds if is_a(name, "post")})


def cases_of(text):
    """Case -> its lines as (text, answer)."""
    found = collections.OrderedDict()
    for line in text.splitlines():
        match = LINE.match(line)
        if not match or line.startswith("cases: "):
            continue
        case, call, code, name, value, said = match.groups()
        entry = (call, code) if code is not None else (name, value) if name is not None else (said, "")
        found.setdefault(case, []).append((entry[0].strip(), entry[1]))
    return found


def died(lines):
    return bool(lines) and (lines[-1][0].startswith("ended by") or lines[-1][0].startswith("ended with"))


class Known:
    """Lines of known.txt: DRIVER | CASE | CALL OR VALUE | NATIVE -> SHIM | REASON, the middle three as globs."""

    def __init__(self, path, driver):
        self.entries, self.used = [], collections.Counter()
        for number, line in enumerate(path.read_text().splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            fields = [field.strip() for field in line.split(" | ")]
            if len(fields) != 5 or fields[0] not in ("any", "soft", "real") or " -> " not in fields[3] or not fields[4]:
                raise SystemExit(f"{path}:{number}: not DRIVER | CASE | TEXT | NATIVE -> SHIM | REASON")
            if fields[0] in ("any", driver):
                self.entries.append((fields[1], fields[2], *fields[3].split(" -> "), number))

    def covers(self, case, text, native, shim):
        for glob, call, a, b, number in self.entries:
            if (fnmatch.fnmatchcase(case, glob) and fnmatch.fnmatchcase(text.replace("[", "("), call.replace("[", "("))
                    and fnmatch.fnmatchcase(native, a) and fnmatch.fnmatchcase(shim, b)):
                self.used[number] += 1
                return True
        return False


def function_of(case, text):
    """The function of a line: of the call as written, or of a generated case's name."""
    match = re.match(r"\s*(cu[A-Z]\w*)\(", text) or re.match(r"\w+\.(cu[A-Z]\w*)\.", case + ".")
    return match[1] if match else ""


def compare(native, shimmed, refused, posted, known, soft):
    differences, counts = [], collections.Counter()
    for case, wanted in native.items():
        seen = shimmed.get(case, [])
        generated = "." in case
        stop = False
        for number, (text, answer) in enumerate(wanted):
            if text.startswith("ended by"):
                counts["native crash"] += 1
                if number < len(seen) and generated and seen[number][1] == "0":
                    differences.append(f"{case}: natively {text}, shim succeeds")
                stop = True
                break
            if number >= len(seen):
                differences.append(f"{case} {text}: native {answer}, shim says nothing more")
                stop = True
                break
            theirs, other = seen[number]
            function = function_of(case, text)
            if theirs != text:
                if not known.covers(case, text, answer, f"{theirs} {other}".strip()):
                    differences.append(f"{case} {text}: native {answer}, shim '{theirs}' {other}")
                    stop = True
                    break
                counts["known"] += 1
                continue
            if soft and answer == NOT_SUPPORTED and text.endswith((")", "")):
                counts["not in the software GPU"] += 1
                stop = True
                break
            if answer == other:
                counts["same"] += 1
            elif other == answer + " later" and function_base(function, posted):
                counts["told a call later"] += 1
            elif soft and generated and "0" not in (answer, other):
                # Which of several faults is named first is the real driver's to say, and compared there.
                counts["another error"] += 1
            elif other == NOT_SUPPORTED and function_base(function, refused):
                counts["refused by name"] += 1
                stop = True
                break
            elif known.covers(case, text, answer, other):
                counts["known"] += 1
            else:
                differences.append(f"{case} {text}: native {answer}, shim {other}")
        if not stop and len(seen) > len(wanted):
            differences.append(f"{case}: shim goes on with '{seen[len(wanted)][0]}' {seen[len(wanted)][1]}")
    return differences, counts


def function_base(function, names):
    """Sequences are written with plain names, which cuda.h turns into versions."""
    return function in names or any(re.fullmatch(re.escape(function) + r"_v\d+", name) for name in names)


def run_both(options):
    build = options.build.resolve()
    stage = runner.Stage(SimpleNamespace(build=build, driver=options.driver, seed=0, transport="ring", keep_runs=False,
                                         forbidden="/dev/nvidia"))
    case = runner.Case("conform", [build / "tests/conformance/conform", options.only], limit=800)
    try:
        if options.native and options.native.exists():
            native = runner.Run(0, 0.0, options.native.read_text())
        else:
            native = stage.run(case, shim=False)
            if options.native and native.status == 0:
                options.native.write_text(native.out)
        stage.start_server()
        return native, stage.run(case, shim=True), stage.server_log()
    finally:
        stage.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True, help="the build folder")
    parser.add_argument("--driver", default="soft", help="soft or real")
    parser.add_argument("--only", default="*", metavar="GLOB", help="only cases whose name matches")
    parser.add_argument("--native", type=Path, metavar="FILE", help="take the native answers from here if it is there, else write them")
    parser.add_argument("--shim", type=Path, metavar="FILE", help="with --native: compare two outputs of earlier runs, run nothing")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="put both outputs, the differences and the server's log here")
    parser.add_argument("--spec", type=Path, default=HERE.parents[1] / "rpc/spec")
    parser.add_argument("--known", type=Path, default=HERE / "known.txt")
    options = parser.parse_args()
    known = Known(options.known, options.driver)
    if options.shim:
        native, shimmed, log = runner.Run(0, 0.0, options.native.read_text()), runner.Run(0, 0.0, options.shim.read_text()), ""
    elif options.driver == "real" and not Path("/dev/nvidiactl").exists():
        print("SKIP: there is no NVIDIA driver here")
        return 77
    else:
        native, shimmed, log = run_both(options)
    if options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        for name, run in (("native", native), ("shim", shimmed)):
            (options.keep / f"{name}.out").write_text(run.out)
            (options.keep / f"{name}.err").write_text(runner.shorten(run.err, 200000))
        (options.keep / "server.log").write_text(runner.shorten(log, 200000))
    differences, counts = compare(cases_of(native.out), cases_of(shimmed.out), *description(options.spec), known,
                                  options.driver == "soft")
    for name, run in (("natively", native), ("under the shim", shimmed)):
        if run.status != 0:
            differences.append(f"conform {name}: {run.verdict}: {runner.last_line(run.err, run.out)}")
    differences += shimmed.gpu_files
    if not counts["same"]:
        differences.append("nothing was compared")
    print("\n".join(differences))
    if options.keep:
        (options.keep / "differences").write_text("".join(line + "\n" for line in differences))
    unused = [f"known.txt:{entry[4]}" for entry in known.entries if not known.used[entry[4]]]
    if unused and options.only == "*":
        print("not needed any more:", ", ".join(unused))
    print(f"native {native.seconds:.1f} s, shim {shimmed.seconds:.1f} s; {len(differences)} differences; "
          + ", ".join(f"{number} {what}" for what, number in sorted(counts.items())))
    return 1 if differences else 0


if __name__ == "__main__":
    sys.exit(main())
