# SPDX-License-Identifier: MIT
# The real description against the installed CUDA: complete, and the functions a plain CUDA program needs are there.
import os
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

from project import GENERATOR, PYTHON

CUDA = Path(os.environ.get("CRICKET_CUDA_ROOT", "/usr/local/cuda"))
STUB = CUDA / "lib64" / "stubs" / "libcuda.so"
SPEC = GENERATOR.parents[1] / "spec"

# What the static CUDA 13 runtime of a vectorAdd calls.
VECTOR_ADD = """cuDeviceGetAttribute cuCtxGetCurrent cuMemAlloc_v2 cuLibraryGetGlobal cuMemcpyHtoD_v2 cuMemcpyDtoH_v2 cuInit
cuDeviceGet cuDeviceGetCount cuDeviceGetName cuDeviceTotalMem_v2 cuDriverGetVersion cuDeviceGetUuid_v2
cuDevicePrimaryCtxRetain cuDevicePrimaryCtxRelease_v2 cuCtxSetCurrent cuCtxGetDevice_v2 cuCtxSynchronize_v2
cuModuleGetLoadingMode cuLibraryLoadData cuLibraryUnload cuLibraryGetKernel cuMemFree_v2 cuMemFreeHost cuMemHostAlloc
cuPointerGetAttributes cuMemcpyHtoDAsync_v2 cuLaunchKernel cuEventCreate cuEventRecord cuStreamCreate
cuStreamSynchronize cuGetProcAddress_v2 cuGetExportTable""".split()


@unittest.skipUnless(STUB.exists(), f"no {STUB}")
class Real(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.TemporaryDirectory()
        cls.out = Path(cls.folder.name)
        cls.done = subprocess.run([PYTHON, GENERATOR, "--spec", SPEC, "--symbols", STUB, "--include", CUDA / "include",
                                   "--out", cls.out], capture_output=True, text=True)

    @classmethod
    def tearDownClass(cls):
        cls.folder.cleanup()

    def test_description_is_good(self):
        self.assertEqual(self.done.returncode, 0, self.done.stderr)

    def test_every_symbol_has_an_exported_function(self):
        listing = subprocess.run(["nm", "-D", "--defined-only", STUB], capture_output=True, text=True, check=True)
        symbols = {line.split()[-1] for line in listing.stdout.splitlines() if line.split()[-1].startswith("cu")}
        stubs = "".join(path.read_text() for path in self.out.glob("stubs_*.cpp"))
        defined = re.findall(r"CUresult CUDAAPI (cu\w+)\(", stubs)
        self.assertEqual(len(defined), len(set(defined)))
        self.assertEqual(set(defined), symbols)

    def test_vector_add_is_covered(self):
        table = dict(re.findall(r"^\| (cu\w+) \| (\w+)", (self.out / "coverage.md").read_text(), re.M))
        for symbol in VECTOR_ADD:
            self.assertIn(table[symbol], ("forward", "post", "local", "alias"), symbol)

    def test_versions_mean_what_the_runtime_expects(self):
        table = re.findall(r'\{"(\w+)", (\d+), (true|false), reinterpret_cast<void\*>\(&::(\w+)\)\}',
                           (self.out / "symbols.cpp").read_text())

        def ask(name, version, per_thread="false"):
            found = [row for row in table if row[0] == name and int(row[1]) <= version and row[2] == per_thread]
            return found[-1][3] if found else None

        self.assertEqual(ask("cuCtxGetDevice", 13000), "cuCtxGetDevice_v2")
        self.assertEqual(ask("cuCtxGetDevice", 12090), "cuCtxGetDevice")
        self.assertEqual(ask("cuMemAlloc", 3020), "cuMemAlloc_v2")
        self.assertEqual(ask("cuMemAlloc", 2000), "cuMemAlloc")
        self.assertEqual(ask("cuMemcpyHtoDAsync", 7000, "true"), "cuMemcpyHtoDAsync_v2_ptsz")
        self.assertEqual(ask("cuCtxCreate", 13000), "cuCtxCreate_v4")
        self.assertEqual(ask("cuGraphInstantiate", 12000), "cuGraphInstantiateWithFlags")
        self.assertEqual(ask("cuStreamGetCaptureInfo", 12030, "true"), "cuStreamGetCaptureInfo_v3_ptsz")
        self.assertIsNone(ask("cuLibraryLoadData", 11000))


if __name__ == "__main__":
    unittest.main()
