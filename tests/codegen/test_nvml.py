# SPDX-License-Identifier: MIT
# The generator of NVML: mistakes end with their file and line, and the whole description is what NVML exports.
import re
import subprocess
import tempfile
import unittest
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATOR = ROOT / "rpc" / "gen" / "nvml.py"
PYTHON = "/usr/bin/python3"


class Nvml(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.spec, self.out = Path(folder.name) / "spec", Path(folder.name) / "out"
        self.spec.mkdir()

    def generate(self, *lines, append=True):
        (self.spec / "one.spec").write_text("# a family\n" + "".join(line + "\n" for line in lines))
        command = [PYTHON, "-B", GENERATOR, "--spec", self.spec]
        if append:
            subprocess.run([*command, "--append"], capture_output=True)
        return subprocess.run([*command, "--out", self.out], capture_output=True, text=True)

    def refused(self, line, text):
        done = self.generate(line, append=False)
        self.assertEqual(done.returncode, 1, line)
        self.assertRegex(done.stderr, re.escape(f"{self.spec}/one.spec:2: ") + ".*" + re.escape(text))
        self.assertFalse(self.out.exists(), "something was written")

    def test_mistakes(self):
        self.refused("nvmlA sideways", "needs a class")
        self.refused("nvmlA unsupported", "needs one")
        self.refused('nvmlA denied "why"', "is for unsupported")
        self.refused("nvmlA denied device:device", "only 'forward' has parameters")
        self.refused("nvmlA denied slot=3", "only 'forward' has parameters")
        self.refused("nvmlA forward device", "is not NAME:TYPE")
        self.refused("nvmlA forward a:u33", "unknown type 'u33'")
        self.refused("nvmlA forward a:widget*", "is no handle")
        self.refused("nvmlA forward a:0", "0 bytes")
        self.refused("nvmlA forward a:4[n]", "no parameter 'n'")
        self.refused("nvmlA forward a:4[n] n:u64", "cannot count")
        self.refused("nvmlA forward a:4[>n] n:u32", "cannot count")
        self.refused("nvmlA forward a:version:8[n] n:u32", "array of structs with versions")
        self.refused("nvmlA forward a:8{8:pid}", "lies outside")
        self.refused("nvmlA forward a:8{0:name}", "no kind of member")
        self.refused("nvmlA forward a:16{8->4*0}[n]", "unknown type")
        self.refused("nvmlA forward a:16[n]{8->4*0} n:4", "structs with pointers")
        self.refused("nvmlA forward a:u32 a:u32", "named twice")
        self.refused("nvmlA forward " + " ".join(f"{name}:u32" for name in "abcdefg"), "more than 6")

    def test_numbers(self):
        self.assertIn("no procedure number", self.generate("nvmlA forward a:u32", append=False).stderr)
        self.assertEqual(self.generate("nvmlB forward a:u32", "nvmlA forward").returncode, 0)
        self.assertEqual(self.generate("nvmlA forward a:u32", "nvmlB forward", "nvmlC forward").returncode, 0)
        numbers = re.findall(r"(nvml\w+) = (\d+)", (self.out / "nvml_functions.h").read_text())
        self.assertEqual(numbers, [("nvmlA", "16"), ("nvmlB", "17"), ("nvmlC", "18")])

    def test_the_description(self):
        done = subprocess.run([PYTHON, "-B", GENERATOR, "--spec", ROOT / "rpc/spec/nvml", "--out", self.out],
                              capture_output=True, text=True)
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        coverage = (self.out / "nvml_coverage.md").read_text()
        counts = dict(re.findall(r"\| (forward|local|denied|unsupported) \| (\d+) \|", coverage))
        self.assertEqual(sum(map(int, counts.values())), 404)  # what libnvidia-ml.so.580.159.04 exports
        self.assertLessEqual(int(counts["unsupported"]), 15)


if __name__ == "__main__":
    unittest.main()
