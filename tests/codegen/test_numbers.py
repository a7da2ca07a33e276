# SPDX-License-Identifier: MIT
# Procedure numbers are append-only: what changes, moves or disappears is found; what is new must be asked for.
import unittest

from project import Project


class Numbers(Project):
    def setUp(self):
        super().setUp()
        self.file = self.spec / "procedures.txt"
        self.numbers()

    def changed(self, line, edit):
        lines = self.file.read_text().splitlines()
        edit(lines)
        self.file.write_text("\n".join(lines) + "\n")
        self.fails("procedures.txt", line, "append-only")

    def test_numbers_begin_behind_the_sessions_own(self):
        self.assertEqual([line.split()[:2] for line in self.file.read_text().splitlines()],
                         [["16", "cuMake"], ["17", "cuOther"]])

    def test_missing_number(self):
        self.write(cuDeep="cuDeep forward deep=skip")
        self.fails("one.spec", self.line_of("cuDeep"), "has no procedure number")

    def test_append_keeps_the_old_lines(self):
        before = self.file.read_text()
        self.write(cuDeep="cuDeep forward deep=skip")
        self.succeeds("--append")
        self.assertTrue(self.file.read_text().startswith(before))
        self.assertIn("18 cuDeep ", self.file.read_text())
        self.succeeds()
        self.assertIn("cuDeep = 18,", self.output("procedures.h"))

    def test_append_of_nothing_changes_nothing(self):
        before = self.file.read_text()
        self.succeeds("--append")
        self.assertEqual(self.file.read_text(), before)

    def test_changed_number(self):
        self.changed(1, lambda lines: lines.__setitem__(0, lines[0].replace("16", "19")))

    def test_renamed(self):
        self.changed(2, lambda lines: lines.__setitem__(1, lines[1].replace("cuOther", "cuMoved")))

    def test_reordered(self):
        self.changed(1, lambda lines: lines.reverse())

    def test_first_line_removed(self):
        self.changed(1, lambda lines: lines.pop(0))

    def test_checksum_changed(self):
        self.changed(2, lambda lines: lines.__setitem__(1, lines[1][:-1] + ("0" if lines[1][-1] != "0" else "1")))

    def test_no_number_at_all(self):
        self.file.write_text("16 cuMake\n")
        self.fails("procedures.txt", 1, "NUMBER NAME CHECKSUM")

    def test_number_of_a_procedure_that_is_gone_stays_taken(self):
        self.write(cuMake='cuMake unsupported "gone"')
        self.succeeds()
        self.assertNotIn("cuMake = 16", self.output("procedures.h"))
        self.assertIn("cuOther = 17,", self.output("procedures.h"))
        self.assertIn('{"cuMake", nullptr, 0, nullptr, 0, nullptr,', self.output("dispatch.cpp"))
        self.assertIn('case 16: return "cuMake";', self.output("messages.cpp"))


if __name__ == "__main__":
    unittest.main()
