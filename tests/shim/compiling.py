#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""NVRTC finds the driver's compile cache: what was compiled before is not compiled again, also by another process, and is the same
as without the shim. The program is this file's second half."""
import ctypes
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "checkpoint"))
from harness import Skip, check, main  # noqa: E402

SOURCE = b"""extern "C" __global__ void scaled(float* out, const float* in, float by, int count) {
    for (int i = blockIdx.x * blockDim.x + threadIdx.x; i < count; i += gridDim.x * blockDim.x) out[i] = in[i] * by + out[i];
}"""


def library(toolkit):
    for path in sorted(Path(toolkit).glob("lib64/libnvrtc.so.*")):
        if path.suffix[1:].isdigit():
            return path
    raise Skip(f"no libnvrtc in {toolkit}/lib64")


def test(world, arguments):
    nvrtc, cache = library(arguments.toolkit), world.folder / "cache"
    files = lambda: sorted((path.name, path.stat().st_ino) for path in cache.glob("cricket/*"))  # noqa: E731

    def compiled(*options, **environment):
        done = subprocess.run([sys.executable, __file__, "compile", nvrtc, *options], capture_output=True, text=True, timeout=120,
                              env=world.environment(CUDA_CACHE_PATH=str(cache), **environment), cwd=world.folder)
        check(done.returncode == 0, f"{options}: status {done.returncode}: {done.stderr}")
        return done.stdout

    shim = {"LD_PRELOAD": str(world.shim)}
    plain = {options: compiled(*options) for options in ((), ("--fmad=false",), ("--use_fast_math",))}
    check(not files() and len(set(plain.values())) == 3, f"without the shim: {files()}, {plain}")
    server = world.start_server()
    check(compiled(**shim, CUDA_CACHE_DISABLE="1") == plain[()] and not files(), f"disabled, and there is {files()}")
    before = []
    for options, answer in plain.items():
        check(compiled(*options, **shim) == answer, f"{options}: compiled under the shim it differs")
        check(len(files()) > len(before), f"{options}: nothing was stored: {files()}")
        before = files()
    for options, answer in plain.items():
        check(compiled(*options, **shim) == answer, f"{options}: found again it differs")
    check(files() == before, f"compiled again: {before}, then {files()}")
    server.stop()


def compile_program(path, options):
    nvrtc, program, bytes_ = ctypes.CDLL(path), ctypes.c_void_p(), ctypes.c_size_t()

    def call(name, *values):
        status = getattr(nvrtc, name)(*values)
        if status:
            raise SystemExit(f"{name} answers {status}")
    call("nvrtcCreateProgram", ctypes.byref(program), SOURCE, b"scaled.cu", 0, None, None)
    words = (ctypes.c_char_p * (1 + len(options)))(b"--gpu-architecture=sm_90", *(option.encode() for option in options))
    call("nvrtcCompileProgram", program, len(words), words)
    call("nvrtcGetCUBINSize", program, ctypes.byref(bytes_))
    cubin = ctypes.create_string_buffer(bytes_.value)
    call("nvrtcGetCUBIN", program, cubin)
    print(cubin.raw.hex())


if sys.argv[1:2] == ["compile"]:
    compile_program(sys.argv[2], sys.argv[3:])
else:
    main(__doc__, test, lambda parser: parser.add_argument("--toolkit", default="/usr/local/cuda", help="a CUDA toolkit"))
