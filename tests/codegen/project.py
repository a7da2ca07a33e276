# SPDX-License-Identifier: MIT
# A description in a temporary folder, and the generator run on it as the build would: by its command line only.
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

GENERATOR = Path(os.environ.get("CRICKET_GENERATOR", Path(__file__).parents[2] / "rpc" / "gen" / "main.py"))
PYTHON = "/usr/bin/python3"

HEADER = """#pragma once
#include <stddef.h>
typedef enum cudaError_enum { CUDA_SUCCESS = 0, CUDA_ERROR_INVALID_VALUE = 1 } CUresult;
typedef struct CUevent_st* CUevent;
typedef struct CUfunc_st* CUfunction;
typedef struct CUkern_st* CUkernel;
typedef struct CUstream_st* CUstream;
typedef struct CUunknown_st* CUunknown;
typedef struct { int a; void* hidden; } CUdeep;
typedef struct { CUevent event; int b; } CUwithHandle;
typedef struct { int c; struct { CUdeep inner[2]; } nested; } CUdeeper;
typedef struct { int d; } CUplain;
typedef void (*CUcallback)(void*);
CUresult cuMake(CUevent* event, unsigned int flags);
CUresult cuMake_ptsz(CUevent* event, unsigned int flags);
CUresult cuOther(CUevent event, int value, const unsigned int* list, size_t count);
CUresult cuDeep(const CUdeep* deep);
CUresult cuDeeper(CUdeeper* deeper);
CUresult cuWithHandle(CUwithHandle value);
CUresult cuVoid(void* data, CUcallback callback);
"""
TYPEDEFS = """
#include <cuda.h>
typedef CUresult (*PFN_cuMake_v2000)(CUevent* event, unsigned int flags);
typedef CUresult (*PFN_cuMake_v7000_ptsz)(CUevent* event, unsigned int flags);
typedef CUresult (*PFN_cuOther_v2000)(CUevent event, int value, const unsigned int* list, size_t count);
typedef CUresult (*PFN_cuDeep_v2000)(const CUdeep* deep);
typedef CUresult (*PFN_cuDeeper_v2000)(CUdeeper* deeper);
typedef CUresult (*PFN_cuWithHandle_v2000)(CUwithHandle value);
typedef CUresult (*PFN_cuVoid_v2000)(void* data, CUcallback callback);
"""
HANDLES = "1 CUevent Event\n2 CUfunction Function\n3 CUkernel Kernel\n4 CUstream Stream\n"
# Line by line, so that tests can say on which line something is wrong.
LINES = {
    "cuMake": "cuMake forward",
    "cuMake_ptsz": "cuMake_ptsz alias cuMake thread-default",
    "cuOther": "cuOther forward list=in[count]",
    "cuDeep": 'cuDeep unsupported "no"',
    "cuDeeper": 'cuDeeper unsupported "no"',
    "cuWithHandle": 'cuWithHandle unsupported "no"',
    "cuVoid": 'cuVoid unsupported "no"',
}


class Project(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.root = Path(self._folder.name)
        self.spec = self.root / "spec"
        self.spec.mkdir()
        (self.root / "cuda.h").write_text(HEADER)
        (self.root / "cudaTypedefs.h").write_text(TYPEDEFS)
        (self.root / "symbols.txt").write_text("\n".join(LINES) + "\n")
        (self.spec / "handles.spec").write_text(HANDLES)
        (self.spec / "structs.spec").write_text("")
        (self.spec / "versions.spec").write_text("")
        self.lines = dict(LINES)
        self.write()

    def tearDown(self):
        self._folder.cleanup()

    def write(self, **changed):
        """Writes one.spec; a changed line of None is left out. Lines that are new come last."""
        self.lines.update(changed)
        kept = [line for line in self.lines.values() if line is not None]
        (self.spec / "one.spec").write_text("# one line a symbol\n" + "\n".join(kept) + "\n")

    def line_of(self, symbol):
        for number, text in enumerate((self.spec / "one.spec").read_text().splitlines(), 1):
            if text.split()[0] == symbol:
                return number
        return 0

    def generate(self, *options, out="out"):
        command = [PYTHON, GENERATOR, "--spec", self.spec, "--symbols", self.root / "symbols.txt", "--include",
                   self.root, "--header", "cuda.h", "--header", "cudaTypedefs.h", "--out", self.root / out, *options]
        return subprocess.run(command, capture_output=True, text=True)

    def numbers(self):
        self.succeeds("--append")

    def succeeds(self, *options, **more):
        done = self.generate(*options, **more)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def fails(self, file, line, text, *options):
        """The run fails, and one of its messages is 'file:line: ...text...'."""
        done = self.generate(*options)
        self.assertNotEqual(done.returncode, 0, "a bad description was accepted")
        wanted = f"{self.spec / file if file else self.spec}:{line}: "
        matching = [m for m in done.stderr.splitlines() if m.startswith(wanted) and text in m]
        self.assertTrue(matching, f"no message '{wanted}...{text}' in:\n{done.stderr}")
        self.assertNotIn("Traceback", done.stderr)
        self.assertFalse((self.root / "out").exists(), "something was written all the same")
        return done

    def output(self, name, out="out"):
        return (self.root / out / name).read_text()
