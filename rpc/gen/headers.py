# SPDX-License-Identifier: MIT
# Prototypes, struct layouts and typedefs of the installed CUDA headers, through libclang.
import subprocess
from dataclasses import dataclass, field

from clang import cindex

INTERNAL = "__CUDA_API_VERSION_INTERNAL"  # shows the suffixed and the old prototypes side by side


@dataclass
class Parameter:
    name: str
    type: object  # cindex.Type


@dataclass
class Prototype:
    name: str
    parameters: list = field(default_factory=list)

    def signature(self):
        return [p.type.get_canonical().spelling for p in self.parameters]


@dataclass
class Headers:
    prototypes: dict
    public: set     # functions that cuda.h shows without INTERNAL
    renamed: set    # names that cuda.h's macros turn into another one
    typedefs: dict  # PFN_... -> canonical parameter types
    results: list   # (name, value) of CUresult


def translate(headers, includes, defines):
    text = "".join(f"#include <{name}>\n" for name in headers)
    arguments = [f"-I{path}" for path in includes] + [f"-D{name}" for name in defines]
    unit = cindex.Index.create().parse(
        "headers.c", args=arguments, unsaved_files=[("headers.c", text)],
        options=cindex.TranslationUnit.PARSE_DETAILED_PROCESSING_RECORD)
    problems = [str(d) for d in unit.diagnostics if d.severity >= cindex.Diagnostic.Error]
    if problems:
        raise SystemExit("cannot read the CUDA headers:\n" + "\n".join(problems))
    return unit


def functions(unit):
    found = {}
    for cursor in unit.cursor.get_children():
        if cursor.kind == cindex.CursorKind.FUNCTION_DECL and cursor.spelling.startswith("cu"):
            found[cursor.spelling] = Prototype(cursor.spelling, [
                Parameter(a.spelling or f"argument{i}", a.type) for i, a in enumerate(cursor.get_arguments())])
    return found


def renamed_functions(unit):
    found = set()
    for cursor in unit.cursor.get_children():
        if cursor.kind == cindex.CursorKind.MACRO_DEFINITION and cursor.spelling.startswith("cu"):
            body = [token.spelling for token in cursor.get_tokens()][1:]
            if body and body != [cursor.spelling] and "(" not in body[:1] and cursor.spelling not in body:
                found.add(cursor.spelling)
    return found


def pointer_typedefs(unit):
    found = {}
    for cursor in unit.cursor.get_children():
        if cursor.kind == cindex.CursorKind.TYPEDEF_DECL and cursor.spelling.startswith("PFN_cu"):
            pointee = cursor.underlying_typedef_type.get_canonical().get_pointee()
            if pointee.kind == cindex.TypeKind.FUNCTIONPROTO:
                found[cursor.spelling] = [t.get_canonical().spelling for t in pointee.argument_types()]
    return found


def result_codes(unit):
    for cursor in unit.cursor.get_children():
        if cursor.kind == cindex.CursorKind.TYPEDEF_DECL and cursor.spelling == "CUresult":
            values = cursor.underlying_typedef_type.get_canonical().get_declaration().get_children()
            return [(v.spelling, v.enum_value) for v in values]
    return []


def read_headers(headers, includes):
    internal = translate(headers, includes, [INTERNAL])
    public = translate(headers, includes, [])
    read = Headers(functions(internal), set(functions(public)), renamed_functions(public),
                   pointer_typedefs(internal), result_codes(internal))
    read.units = (internal, public)  # libclang's types live as long as their unit
    return read


def exported_symbols(path):
    """Symbols of a shared library, or of a text file with one name a line (tests)."""
    if not str(path).endswith(".so"):
        return sorted(line.strip() for line in open(path) if line.strip())
    listing = subprocess.run(["nm", "-D", "--defined-only", path], check=True, capture_output=True, text=True)
    names = (line.split()[-1] for line in listing.stdout.splitlines() if line.split())
    return sorted(name for name in names if name.startswith("cu"))
