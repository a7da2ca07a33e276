#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# What the shim brings into a process, read from the file: the libraries it needs, its name, what it exports, what runs
# when it is loaded. Arguments: libcudashim.so, CUDA's stub of libcuda.so.
import re
import subprocess
import sys

shim, stub = sys.argv[1:]
failures = []


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check(what, got, wanted):
    if got != wanted:
        failures.append(f"{what}: {got}, expected {wanted}")


def exports(path):
    return {line.split()[-1].split("@")[0] for line in output("nm", "-D", "--defined-only", path).splitlines()}


dynamic = output("readelf", "-dW", shim)
needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)) - {"ld-linux-x86-64.so.2"}
check("libraries needed", needed, {"libc.so.6"})
check("DT_SONAME", re.findall(r"\(SONAME\).*\[(.*)\]", dynamic), ["libcuda.so.1"])
check("search paths", re.findall(r"\((?:RPATH|RUNPATH)\).*", dynamic), [])
check("text relocations", "TEXTREL" in dynamic, False)
check("bound at start", "BIND_NOW" in dynamic or "NOW" in re.findall(r"\(FLAGS_1\).*", dynamic), False)

driver = {name for name in exports(stub) if name.startswith("cu")}
own = exports(shim)
check("driver symbols in the stub", len(driver) >= 637, True)
check("symbols missing", sorted(driver - own), [])
check("symbols beyond the driver's", own - driver, {"dlopen", "cricket_shim_version"})

# One constructor is the compiler's frame_dummy; a second one would be work in every process. Beside the compiler's
# destructor there is the goodbye to the server, one load where there is no session.
sizes = dict(re.findall(r"\((INIT_ARRAYSZ|PREINIT_ARRAYSZ|FINI_ARRAYSZ)\)\s+(\d+)", dynamic))
check("constructors and destructors", sizes, {"INIT_ARRAYSZ": "8", "FINI_ARRAYSZ": "16"})
check("compiled constructors", re.findall(r"_GLOBAL__sub_I_\S+", output("nm", shim)), [])

# Our own functions are bound without symbol look-ups; only a handful of data of libc may need one at start.
relocations = output("readelf", "-rW", shim)
eager = [line.split()[4] for line in relocations.splitlines()
         if "R_X86_64_GLOB_DAT" in line or "R_X86_64_64" in line]
check("symbols looked up at start", len(eager) < 64 and not [n for n in eager if n.startswith("cu")], True)

segments = output("readelf", "-lW", shim)
check("executable stack", bool(re.search(r"GNU_STACK.*RWE", segments)), False)
tls = re.search(r"^\s*TLS\s+\S+\s+\S+\s+\S+\s+\S+\s+(0x[0-9a-f]+)", segments, re.M)
check("static TLS of at most 2 KiB", int(tls[1], 16) <= 2048 if tls else True, True)

for failure in failures:
    print(failure)
sys.exit(1 if failures else 0)
