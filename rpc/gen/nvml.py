#!/usr/bin/python3
# SPDX-License-Identifier: MIT
# Generates both ends of NVML from rpc/spec/nvml alone: NVML's header is not at hand where this is built, so the
# description holds the prototypes too. See rpc/spec/nvml/README.md.
import argparse
import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

sys.dont_write_bytecode = True  # the source tree stays clean
sys.path.insert(0, str(Path(__file__).parent))

import jinja2  # noqa: E402
import procedures  # noqa: E402
from errors import Errors  # noqa: E402
from spec import lines_of  # noqa: E402

CLASSES = ["forward", "local", "denied", "unsupported"]
VALUES = {"u32": "uint32_t", "i32": "int32_t", "u64": "uint64_t"}
HANDLES = {"device": "Device", "unit": "Unit", "gpu-instance": "GpuInstance", "compute-instance": "ComputeInstance"}
MEMORY = re.compile(r"(version:)?(\d+)(?:\[(>?)(\w+)\])?(?:\{(.*)\})?")
MOST_PARAMETERS = 6  # what x86-64 passes in registers
LARGEST_ELEMENT = 65536
TEMPLATES = ["nvml_functions.h", "nvml_functions.cpp", "nvml_stubs.cpp", "nvml_exports.map", "nvml_coverage.md",
             "nvml_entries.h"]


@dataclass
class Parameter:
    name: str
    kind: str            # U32 I32 U64 Handle HandleOut Text Memory
    type: str            # C++ type in the stub
    handle: str = "None"
    element: int = 0     # Memory: bytes of an element
    count_name: str = ""
    count: int = -1      # index of the parameter that counts
    by_reference: bool = False    # that parameter is a pointer
    returned_count: bool = False  # the count comes back only, the memory's length is not known
    versioned: bool = False
    members: list = field(default_factory=list)  # (offset, kind)
    inner: tuple = (0, 0, 0)                     # offset of a pointer, bytes of its elements, offset of their count


@dataclass
class Function:
    place: tuple
    symbol: str
    family: str
    kind: str
    reason: str = ""
    always: bool = False
    slot: int = 0        # place in the undocumented table; 0: it is exported
    params: list = field(default_factory=list)
    number: int = 0


def parse_members(parameter, text):
    for part in text.split(","):
        if match := re.fullmatch(r"(\d+):([\w-]+)", part):
            offset, kind = int(match[1]), match[2]
            if kind != "pid" and kind not in HANDLES:
                raise ValueError(f"'{kind}' is no kind of member")
            width = 4 if kind == "pid" else 8
            parameter.members.append((offset, "Pid" if kind == "pid" else HANDLES[kind]))
        elif match := re.fullmatch(r"(\d+)->(\d+)\*(\d+)", part):
            parameter.inner = tuple(int(group) for group in match.groups())
            offset, width = parameter.inner[0], 8
        else:
            raise ValueError(f"'{part}' is neither OFFSET:KIND nor OFFSET->BYTES*COUNT_OFFSET")
        if offset + width > parameter.element:
            raise ValueError(f"'{part}' lies outside the {parameter.element} bytes of {parameter.name}")
    if len(parameter.members) > 2:
        raise ValueError(f"{parameter.name}: more than two members")
    if parameter.inner[1] and parameter.count_name:
        raise ValueError(f"{parameter.name}: an array of structs with pointers")


def parse_parameter(text):
    name, separator, kind = text.partition(":")
    if not separator or not re.fullmatch(r"[A-Za-z]\w*", name):
        raise ValueError(f"'{text}' is not NAME:TYPE")
    if kind in VALUES:
        return Parameter(name, kind.upper(), VALUES[kind])
    if kind == "text":
        return Parameter(name, "Text", "const char*")
    if kind in HANDLES:
        return Parameter(name, "Handle", "void*", HANDLES[kind])
    if match := re.fullmatch(r"([\w-]+)\*(?:\[(>?)(\w+)\])?", kind):
        if match[1] not in HANDLES:
            raise ValueError(f"'{match[1]}' is no handle")
        return Parameter(name, "HandleOut", "void*", HANDLES[match[1]], 8, match[3] or "",
                         returned_count=bool(match[2]))
    match = MEMORY.fullmatch(kind)
    if not match:
        raise ValueError(f"unknown type '{kind}' of {name}")
    parameter = Parameter(name, "Memory", "void*", element=int(match[2]), count_name=match[4] or "",
                          returned_count=bool(match[3]), versioned=bool(match[1]))
    if not 0 < parameter.element <= LARGEST_ELEMENT:
        raise ValueError(f"{name}: {parameter.element} bytes")
    if parameter.versioned and parameter.count_name:
        raise ValueError(f"{name}: an array of structs with versions")
    if match[5] is not None:
        parse_members(parameter, match[5])
    return parameter


def parse_function(place, family, tokens):
    words = [word for word, quoted in tokens if not quoted]
    if len(words) < 2 or words[1] not in CLASSES:
        raise ValueError(f"'{words[0]}' needs a class: {', '.join(CLASSES)}")
    function = Function(place, words[0], family, words[1])
    function.reason = next((word for word, quoted in tokens if quoted), "")
    rest = words[2:]
    if rest[:1] == ["always"]:
        function.always = True
        rest = rest[1:]
    elif rest and (match := re.fullmatch(r"slot=(\d+)", rest[0])):
        function.slot = int(match[1])
        rest = rest[1:]
    if (function.kind == "unsupported") != bool(function.reason):
        raise ValueError(f"{function.symbol}: a \"reason\" is for unsupported, and it needs one")
    if function.kind != "forward" and (rest or function.always or function.slot):
        raise ValueError(f"{function.symbol}: only 'forward' has parameters and options")
    function.params = [parse_parameter(word) for word in rest]
    if len(function.params) > MOST_PARAMETERS:
        raise ValueError(f"{function.symbol}: more than {MOST_PARAMETERS} parameters")
    names = [parameter.name for parameter in function.params]
    if len(set(names)) != len(names):
        raise ValueError(f"{function.symbol}: a parameter is named twice")
    for parameter in function.params:
        if not parameter.count_name:
            continue
        if parameter.count_name not in names:
            raise ValueError(f"{function.symbol}: no parameter '{parameter.count_name}'")
        parameter.count = names.index(parameter.count_name)
        counter = function.params[parameter.count]
        parameter.by_reference = counter.kind == "Memory" and counter.element == 4 and not counter.count_name
        if not parameter.by_reference and (counter.kind not in ("U32", "I32") or parameter.returned_count):
            raise ValueError(f"{function.symbol}: '{counter.name}' cannot count '{parameter.name}'")
    return function


def read_functions(folder, errors):
    functions = {}
    for path in sorted(folder.glob("*.spec")):
        for place, tokens in lines_of(path, errors):
            try:
                function = parse_function(place, path.stem, tokens)
            except ValueError as error:
                errors.add(place, str(error))
                continue
            if function.symbol in functions:
                errors.add(place, f"'{function.symbol}' is described twice")
            functions[function.symbol] = function
    return sorted(functions.values(), key=lambda function: function.symbol)


def stub_parameters(params):
    return ", ".join(f"{p.type} {p.name}" for p in params) or "void"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spec", required=True, type=Path, help="folder of the description")
    parser.add_argument("--out", type=Path, help="folder of the generated files")
    parser.add_argument("--append", action="store_true", help="give numbers to new procedures, then stop")
    options = parser.parse_args()
    errors = Errors()
    functions = read_functions(options.spec, errors)
    numbers = procedures.read_numbers(options.spec / "procedures.txt", errors)
    errors.stop_if_any()
    forwarded = [function for function in functions if function.kind == "forward"]
    if options.append:
        added = procedures.append_numbers(options.spec / "procedures.txt", [f.symbol for f in forwarded])
        print(f"{options.spec / 'procedures.txt'}: {len(added)} added")
        return
    for function in forwarded:
        function.number = numbers.get(function.symbol, 0)
        if not function.number:
            errors.add(function.place, f"'{function.symbol}' has no procedure number: run gen/nvml.py with --append")
    errors.stop_if_any()
    if not options.out:
        return
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), trim_blocks=True, lstrip_blocks=True,
        keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
    environment.filters.update(stub_parameters=stub_parameters, table_cell=lambda text: text.replace("|", "\\|"))
    options.out.mkdir(parents=True, exist_ok=True)
    by_number = sorted(forwarded, key=lambda function: function.number)
    exported = [function for function in functions if not function.slot]
    table = sorted((function for function in functions if function.slot), key=lambda function: function.slot)
    for name in TEMPLATES:
        text = environment.get_template(f"{name}.j2").render(functions=exported, table=table, forwarded=by_number, classes=CLASSES)
        path = options.out / name
        if not path.exists() or path.read_text() != text:
            path.write_text(text)


if __name__ == "__main__":
    main()
