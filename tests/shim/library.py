#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# What the shim and its NVML bring into a process, read from the files: the libraries they need, their names, what they
# export, what runs when they are loaded. Arguments: libcudashim.so, CUDA's stub of libcuda.so, libcricket-nvml.so.
import re
import subprocess
import sys

shim, stub, nvml = sys.argv[1:]
failures = []


def output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def check(what, got, wanted):
    if got != wanted:
        failures.append(f"{what}: {got}, expected {wanted}")


def exports(path):
    return {line.split()[-1].split("@")[0] for line in output("nm", "-D", "--defined-only", path).splitlines()}


def check_library(path, soname, finalizers):
    """What holds for each library that gets into applications."""
    dynamic = output("readelf", "-dW", path)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", dynamic)) - {"ld-linux-x86-64.so.2"}
    check(f"{soname}: libraries needed", needed, {"libc.so.6"})
    check(f"{soname}: DT_SONAME", re.findall(r"\(SONAME\).*\[(.*)\]", dynamic), [soname])
    check(f"{soname}: search paths", re.findall(r"\((?:RPATH|RUNPATH)\).*", dynamic), [])
    check(f"{soname}: text relocations", "TEXTREL" in dynamic, False)
    check(f"{soname}: bound at start", "BIND_NOW" in dynamic or "NOW" in re.findall(r"\(FLAGS_1\).*", dynamic), False)
    # One constructor is the compiler's frame_dummy; a second one would be work in every process.
    sizes = dict(re.findall(r"\((INIT_ARRAYSZ|PREINIT_ARRAYSZ|FINI_ARRAYSZ)\)\s+(\d+)", dynamic))
    check(f"{soname}: constructors and destructors", sizes,
          {"INIT_ARRAYSZ": "8", "FINI_ARRAYSZ": str(8 * finalizers)})
    check(f"{soname}: compiled constructors", re.findall(r"_GLOBAL__sub_I_\S+", output("nm", path)), [])
    # Our own functions are bound without symbol look-ups; only a handful of data of libc may need one at start.
    relocations = output("readelf", "-rW", path)
    eager = [line.split()[4] for line in relocations.splitlines()
             if "R_X86_64_GLOB_DAT" in line or "R_X86_64_64" in line]
    ours = [name for name in eager if name.startswith(("cu", "nvml"))]
    check(f"{soname}: symbols looked up at start", len(eager) < 64 and not ours, True)
    segments = output("readelf", "-lW", path)
    check(f"{soname}: executable stack", bool(re.search(r"GNU_STACK.*RWE", segments)), False)
    tls = re.search(r"^\s*TLS\s+\S+\s+\S+\s+\S+\s+\S+\s+(0x[0-9a-f]+)", segments, re.M)
    check(f"{soname}: static TLS of at most 2 KiB", int(tls[1], 16) <= 2048 if tls else True, True)


# Beside the compiler's destructor the shim has the goodbye to the server, one load where there is no session.
check_library(shim, "libcuda.so.1", 2)
check_library(nvml, "libnvidia-ml.so.1", 1)

driver = {name for name in exports(stub) if name.startswith("cu")}
own = exports(shim)
check("driver symbols in the stub", len(driver) >= 637, True)
check("symbols missing", sorted(driver - own), [])
nvml_functions = exports(nvml) - {"cricket_nvml_version"}
check("NVML's functions", len(nvml_functions) >= 404 and all(name.startswith("nvml") for name in nvml_functions), True)
check("symbols beyond the driver's and NVML's", own - driver, {"dlopen", "cricket_shim_version"} | nvml_functions)

for failure in failures:
    print(failure)
sys.exit(1 if failures else 0)
