#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""Writes a file's bytes, and a zero behind them, as a C++ header: embed.py FILE NAME HEADER"""
import sys
from pathlib import Path

data = Path(sys.argv[1]).read_bytes() + b"\0"
rows = (", ".join(str(byte) for byte in data[at:at + 32]) for at in range(0, len(data), 32))
Path(sys.argv[3]).write_text(f"#pragma once\n\nalignas(16) inline constexpr unsigned char {sys.argv[2]}[] = {{\n    "
                             + ",\n    ".join(rows) + "};\n")
