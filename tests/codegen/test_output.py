# SPDX-License-Identifier: MIT
# What a good description turns into. That it works is roundtrip_test's matter; here is what it must look like.
import os
import unittest

from project import LINES, Project


class Output(Project):
    def setUp(self):
        super().setUp()
        self.numbers()

    def files(self, out):
        return {path.name: path.read_bytes() for path in (self.root / out).iterdir()}

    def test_same_description_same_output(self):
        self.succeeds(out="first")
        self.succeeds(out="second")
        self.assertEqual(self.files("first"), self.files("second"))

    def test_unchanged_files_are_left_alone(self):
        self.succeeds()
        old = 1_000_000_000
        for path in (self.root / "out").iterdir():
            os.utime(path, (old, old))
        self.write(cuVoid='cuVoid unsupported "another reason"')
        self.succeeds()
        touched = {p.name for p in (self.root / "out").iterdir() if p.stat().st_mtime != old}
        self.assertEqual(touched, {"stubs_one.cpp", "coverage.md"})

    def test_every_symbol_is_exported_and_nothing_else(self):
        self.succeeds()
        exported = [line.strip(" ;") for line in self.output("exports.map").splitlines() if line.startswith("    cu")]
        self.assertEqual(sorted(exported), sorted(LINES))
        self.assertIn("local:\n    *;", self.output("exports.map"))
        for symbol in LINES:
            self.assertIn(f"CUresult CUDAAPI {symbol}(", self.output("stubs_one.cpp"))

    def test_messages(self):
        self.succeeds()
        self.assertIn("struct cuOther_args {\n    uint64_t event;\n    int32_t value;\n    rpc::Blob list;\n"
                      "    uint64_t count;\n};\nstruct cuOther_res {\n    int32_t status;\n};", self.output("messages.h"))

    def test_coverage_names_class_and_reason(self):
        self.write(cuDeep='cuDeep unsupported "deep | dark"', cuOther="cuOther forward server list=in[count]")
        self.succeeds()
        table = self.output("coverage.md")
        self.assertIn("| forward | 2 |", table)
        self.assertIn("| unsupported | 4 |", table)
        self.assertIn("| cuDeep | unsupported |  | deep \\| dark |", table)
        self.assertIn("| cuOther | forward | server |  |", table)
        self.assertIn("| cuMake_ptsz | alias of cuMake |", table)

    def test_what_must_be_given_is_asked_of_refused_functions_too(self):
        self.write(cuOther='cuOther unsupported list=given "no"')
        self.succeeds()
        stubs = self.output("stubs_one.cpp")
        self.assertIn("early_cuOther(const unsigned int *list) {\n    if (!list) return CUDA_ERROR_INVALID_VALUE;", stubs)
        self.assertIn("CUresult status = early_cuOther(list);\n    if (status == CUDA_SUCCESS) [[likely]] status = unsupported(", stubs)

    def test_hand_written_functions_are_declared_only(self):
        self.write(cuMake="cuMake forward client", cuOther="cuOther forward server list=in[count]", cuVoid="cuVoid local")
        self.succeeds()
        custom = self.output("custom.h")
        self.assertIn("CUresult impl_cuMake(uint32_t call_flags, CUevent *event, unsigned int flags);", custom)
        self.assertIn("CUresult impl_cuVoid(void *data, CUcallback callback);", custom)
        self.assertNotIn("impl_cuOther", custom)
        self.assertIn("void serve_cuOther(", self.output("dispatch.h"))
        self.assertNotIn("void serve_cuOther(", self.output("serve_one.cpp"))
        self.assertIn("void serve_cuMake(", self.output("serve_one.cpp"))

    def test_names_that_the_headers_rename(self):
        text = (self.root / "cuda.h").read_text()
        header = text.replace("CUresult cuMake(", "#ifndef __CUDA_API_VERSION_INTERNAL\n#define cuMake cuMake_v2\n"
                              "#endif\nCUresult cuMake(")
        (self.root / "cuda.h").write_text(header)
        self.succeeds()
        self.assertIn("cuMake_v1 = 16,", self.output("procedures.h"))


if __name__ == "__main__":
    unittest.main()
