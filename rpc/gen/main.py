#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# Generates both ends of the CUDA RPC from rpc/spec and the CUDA headers. See rpc/spec/README.md.
import argparse
import sys
from pathlib import Path

sys.dont_write_bytecode = True  # the source tree stays clean
sys.path.insert(0, str(Path(__file__).parent))

import procedures  # noqa: E402
import render  # noqa: E402
import spec  # noqa: E402
from errors import Errors  # noqa: E402
from headers import exported_symbols, read_headers  # noqa: E402
from model import Builder  # noqa: E402
from versions import versioned_symbols  # noqa: E402

TABLES = {"handles.spec", "snapshot.spec", "structs.spec", "versions.spec"}


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=Path, help="folder of the description")
    parser.add_argument("--symbols", required=True, help="stubs/libcuda.so, or a file with one name a line")
    parser.add_argument("--include", action="append", default=[], help="folder of the CUDA headers")
    parser.add_argument("--header", action="append", help="header with prototypes or PFN_ typedefs")
    parser.add_argument("--out", type=Path, help="folder of the generated files")
    parser.add_argument("--families", help="comma-separated; checked against the spec folder")
    parser.add_argument("--append", action="store_true", help="give numbers to new procedures, then stop")
    return parser.parse_args()


def table_path(folder, name, errors):
    path = folder / name
    if not path.exists():
        errors.add((str(path), 0), "missing")
        errors.stop_if_any()
    return path


def number_functions(functions, options, errors):
    path = options.spec / "procedures.txt"
    numbers = procedures.read_numbers(path, errors)
    errors.stop_if_any()
    callers = [function for function in functions if function.calls]
    if options.append:
        added = procedures.append_numbers(path, [function.symbol for function in callers])
        print(f"{path}: {len(added)} added")
        sys.exit(0)
    for function in callers:
        function.number = numbers.get(function.symbol, 0)
        if not function.number:
            errors.add(function.entry.place, f"'{function.symbol}' has no procedure number: run gen with --append")
    errors.stop_if_any()
    return numbers


def main():
    options = parse_arguments()
    errors = Errors()
    families = sorted(p for p in options.spec.glob("*.spec") if p.name not in TABLES)
    if options.families is not None and [p.stem for p in families] != sorted(options.families.split(",")):
        errors.add((str(options.spec), 0), "the families of the build differ from the *.spec files: "
                   f"{','.join(p.stem for p in families)}")
    entries = spec.read_entries(families, errors)
    handles = spec.read_handles(table_path(options.spec, "handles.spec", errors), errors)
    structs = spec.read_structs(table_path(options.spec, "structs.spec", errors), errors)
    overrides = spec.read_versions(table_path(options.spec, "versions.spec", errors), errors)
    headers = read_headers(options.header or ["cuda.h", "cudaProfiler.h", "cudaTypedefs.h", "cudaProfilerTypedefs.h"],
                           options.include)
    symbols = exported_symbols(options.symbols)
    builder = Builder(entries, handles, structs, headers, symbols, errors)
    builder.spec_dir = options.spec
    functions = builder.build()
    versions = versioned_symbols(symbols, headers, overrides, (str(options.spec / "versions.spec"), 0), errors)
    numbers = number_functions(functions, options, errors)
    if options.out:
        render.Renderer(functions, entries, handles, headers, symbols, versions, numbers,
                        [p.stem for p in families]).write(options.out)


if __name__ == "__main__":
    main()
