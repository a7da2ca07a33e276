# SPDX-License-Identifier: MIT
# spec/procedures.txt: procedure numbers, append-only. Each line carries a checksum over itself and all lines before
# it, so a line that was changed, moved or removed is found by the build and not by a peer of another age.
import hashlib
from pathlib import Path

FIRST = 16


def checksum(previous, number, name):
    return hashlib.sha256(f"{previous} {number} {name}".encode()).hexdigest()[:12]


def read_numbers(path, errors):
    """Name -> number. A number whose procedure is gone stays taken."""
    numbers, previous, expected = {}, "", FIRST
    if not Path(path).exists():
        return numbers
    for line_number, text in enumerate(Path(path).read_text().splitlines(), 1):
        place = (str(path), line_number)
        if not text.strip() or text.startswith("#"):
            continue
        parts = text.split()
        if len(parts) != 3 or not parts[0].isdigit():
            errors.add(place, "a procedure is: NUMBER NAME CHECKSUM (written by gen --append)")
            return numbers
        number, name, sum_read = int(parts[0]), parts[1], parts[2]
        previous = checksum(previous, number, name)
        if number != expected or sum_read != previous or name in numbers:
            errors.add(place, f"procedure numbers are append-only: '{name}' or a line before it was changed, moved or removed")
            return numbers
        numbers[name] = number
        expected += 1
    return numbers


def append_numbers(path, names):
    """Adds lines for the names that have none. Returns the names added."""
    lines = Path(path).read_text().splitlines() if Path(path).exists() else []
    entries = [line.split() for line in lines if line.strip() and not line.startswith("#")]
    known = {entry[1] for entry in entries}
    previous = entries[-1][2] if entries else ""
    number = FIRST + len(entries)
    added = [name for name in names if name not in known]
    for name in added:
        previous = checksum(previous, number, name)
        lines.append(f"{number} {name} {previous}")
        number += 1
    if added:
        Path(path).write_text("\n".join(lines) + "\n")
    return added
