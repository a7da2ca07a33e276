#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The runner itself: cases that must fail do fail, with the right reason, and nothing that they started is left."""
import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
SHIMMED = "import os, sys, time\nshimmed = 'LD_PRELOAD' in os.environ\n"

# name: (header, body, verdict, words of the reason)
CASES = {
    "same": ("", "print('value', 1.5.hex())", "pass", ""),
    "differs": ("", "print('a 1')\nprint('b', 2 + shimmed)", "FAIL", "line 2: native 'b 2', shim 'b 3'"),
    "status": ("", "sys.exit(3 if shimmed else 0)", "FAIL", "status 3, natively status 0"),
    "aborts": ("", "if shimmed: os.abort()", "FAIL", "signal SIGABRT"),
    "natively": ("", "print('broken')\nsys.exit(1)", "FAIL", "natively status 1: broken"),
    "skipped": ("", "print('no such machine')\nsys.exit(77)", "skip", "no such machine"),
    "needs": ("# needs: no_such_module\n", "import support", "skip", "no_such_module"),
    "hangs": ("# limit: 2\n", "if shimmed: time.sleep(600)", "FAIL", "ended at its limit"),
    "holds": ("", "f = open(os.path.dirname(sys.argv[0]) + '/device/one') if shimmed else None\ntime.sleep(1)", "FAIL", "held the GPU"),
    "maps": ("", "import ctypes\nif shimmed:\n    f = open(os.path.dirname(sys.argv[0]) + '/device/one'); mmap = ctypes.CDLL(None).mmap\n"
                 "    mmap.argtypes = [ctypes.c_size_t] * 6; mmap(0, 4096, 1, 2, f.fileno(), 0); f.close()\ntime.sleep(1)", "FAIL", " maps "),
    "child_holds": ("", "import subprocess\nsubprocess.run(['tail', '-f', '--pid', str(os.getpid()), os.path.dirname(sys.argv[0]) + '/device/one'], timeout=None if not shimmed else 1)"
                        " if shimmed else None", "FAIL", "held the GPU"),
    "varies": ("", "print('took', time.monotonic_ns(), 'ns')\nprint('result 7')", "pass", "1 lines vary natively"),
    "varies_and_differs": ("", "print('took', time.monotonic_ns(), 'ns')\nprint('result', 7 + shimmed)", "FAIL", "result 8"),
    "leaves": ("", "import subprocess\nsubprocess.Popen(['sleep', '600.5'], start_new_session=True)\ntime.sleep(0.3)", "pass", ""),
    "variants": ("# variant one: 1 CASE_VALUE=a\n# variant two: 2 CASE_VALUE=b\n",
                 "print(sys.argv[1], os.environ['CASE_VALUE'])", "pass", ""),
    "errors": ("# errors\n", "print('text', int(shimmed), file=sys.stderr)", "FAIL", "text 1"),
    "refused": ("", "if shimmed: print('cricket[7] error: cuFoo is not supported: it cannot', file=sys.stderr)", "pass", "cuFoo"),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--build", type=Path, required=True)
    build = parser.parse_args().build
    problems = []
    with tempfile.TemporaryDirectory(prefix="cricket-runner-") as folder:
        folder = Path(folder)
        cases, kept, report = folder / "cases", folder / "kept", folder / "report.json"
        (cases / "support").mkdir(parents=True)
        (cases / "support/__init__.py").write_bytes((HERE / "cases/support/__init__.py").read_bytes())
        (cases / "device").mkdir()
        (cases / "device/one").write_text("not a device" * 1000)
        for name, (header, body, _, _) in CASES.items():
            (cases / f"{name}.py").write_text(f"# SPDX-License-Identifier: MIT\n{header}{SHIMMED}{body}\n")
        result = subprocess.run([sys.executable, HERE / "run.py", "--build", build, "--driver", "soft", "--cases", cases,
                                 "--python", sys.executable, "--keep", kept, "--json", report, "--jobs", "4",
                                 "--forbidden", cases / "device", "--time-limit", "20",
                                 "--only", "holds"], capture_output=True, text=True)
        if result.returncode != 1 or "FAIL holds" not in result.stdout:
            problems.append(f"--only holds:\n{result.stdout}{result.stderr}")
        result = subprocess.run([sys.executable, HERE / "run.py", "--build", build, "--driver", "soft", "--cases", cases,
                                 "--python", sys.executable, "--keep", kept, "--json", report, "--jobs", "4",
                                 "--forbidden", cases / "device"], capture_output=True, text=True)
        if result.returncode != 1:
            problems.append(f"status {result.returncode} although cases fail:\n{result.stdout}{result.stderr}")
        entries = {entry["case"]: entry for entry in json.loads(report.read_text())["results"]}
        for name, (_, _, verdict, words) in CASES.items():
            for one in (f"{name}:one", f"{name}:two") if name == "variants" else (name,):
                entry = entries.get(one)
                if not entry or entry["verdict"] != verdict or words not in entry["reason"]:
                    problems.append(f"{one}: wanted {verdict} '{words}', got {entry}")
                if verdict == "FAIL" and not (kept / name / "verdict").exists():
                    problems.append(f"{one}: nothing was kept")
        if not (kept / "server.log").exists():
            problems.append("the server's log was not kept")
        table = subprocess.run([sys.executable, HERE / "run.py", "--markdown", report], capture_output=True, text=True)
        if table.stdout.count("\n| ") != len(entries) + 1:
            problems.append(f"--markdown:\n{table.stdout}{table.stderr}")
    for entry in os.listdir("/proc"):
        try:
            if entry.isdigit() and b"sleep\x00600.5" in Path(f"/proc/{entry}/cmdline").read_bytes():
                problems.append(f"pid {entry}, started by a case, still runs")
        except (FileNotFoundError, ProcessLookupError):
            pass
    print("\n".join(problems) or f"{len(entries)} cases judged as they should be")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
