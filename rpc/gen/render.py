# SPDX-License-Identifier: MIT
# Writes the generated files: picks what each template sees. A file whose content is unchanged is left alone, so that
# ninja (restat) rebuilds only what changed.
from pathlib import Path

import jinja2

XDR = {"u32": "rpc::xdr_u32", "i32": "rpc::xdr_i32", "u64": "rpc::xdr_u64", "f32": "rpc::xdr_f32",
       "blob": "rpc::xdr_blob", "cstr": "rpc::xdr_text", "bulk": "rpc::xdr_bulk"}
CPP = {"u32": "uint32_t", "i32": "int32_t", "u64": "uint64_t", "f32": "float", "blob": "rpc::Blob",
       "cstr": "rpc::Blob", "bulk": "rpc::Bulk"}
ONCE = ["procedures.h", "handle_kinds.h", "messages.h", "messages.cpp", "calls.h", "custom.h", "stub_support.h",
        "stub_support.cpp", "symbols.h", "symbols.cpp", "result_names.h", "result_names.cpp", "driver_table.h",
        "driver_table.cpp", "dispatch.h", "dispatch.cpp", "exports.map", "coverage.md"]
PER_FAMILY = ["stubs", "serve"]


def declaration(type_, name):
    if "(*)" in type_:
        return type_.replace("(*)", f"(*{name})")
    return f"{type_}{'' if type_.endswith('*') else ' '}{name}"


def parameter_list(params, unused_skipped=False):
    marks = ("[[maybe_unused]] " if unused_skipped and p.mode == "skip" else "" for p in params)
    return ", ".join(mark + declaration(p.type, p.cpp) for mark, p in zip(marks, params))


def parameters_used(params, list_):
    """Only those that the refusals look at."""
    return ", ".join(declaration(p.type, p.cpp) for p in params if any(e.param is p for e in list_))


def argument_list(params):
    return ", ".join(p.cpp for p in params)


def count_text(tokens, params, prefix):
    """COUNT as a C++ expression over the parameters (client) or over args (server)."""
    by_name = {p.name: p for p in params}
    parts = []
    for token in tokens:
        if token in by_name and prefix == "args.":
            parts.append(f"uint64_t(args.{token})")
        elif token in by_name:
            parts.append(f"uint64_t({'*' if by_name[token].pointer else ''}{by_name[token].cpp})")
        else:
            parts.append(token)
    return " ".join(parts)


def c_text(text):
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def runs_of_numbers(fields):
    """[(True, [numbers that follow each other]) or (False, [one other field])]: how fields are encoded."""
    runs = []
    for field in fields:
        number = not field.opaque and field.type in ("u32", "i32", "u64", "f32")
        if number and runs and runs[-1][0]:
            runs[-1][1].append(field)
        else:
            runs.append((number, [field]))
    return runs


class Renderer:
    def __init__(self, functions, entries, handles, headers, symbols, versions, numbers, families):
        self.data = {
            "functions": functions, "entries": entries, "headers": headers, "symbols": symbols,
            "handles": sorted(handles.values(), key=lambda h: h.number), "versions": versions,
            "numbers": sorted((number, name) for name, number in numbers.items()), "families": families,
            "callers": sorted((f for f in functions if f.calls), key=lambda f: f.number),
            "by_symbol": {f.symbol: f for f in functions},
        }
        self.data["driver"] = self.driver_functions(functions, headers)
        self.environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"), trim_blocks=True, lstrip_blocks=True,
            keep_trailing_newline=True, undefined=jinja2.StrictUndefined)
        self.environment.filters.update(runs=runs_of_numbers, parameters=parameter_list, parameters_used=parameters_used, arguments=argument_list, c_text=c_text,
                                        table_cell=lambda text: text.replace("|", "\\|"))
        self.environment.globals.update(
            xdr=XDR, cpp=CPP, count_text=count_text)

    @staticmethod
    def driver_functions(functions, headers):
        """What a handler may call: all that cuda.h shows, and whatever else the client answers but for 32-bit addresses."""
        return sorted((f for f in functions if f.kind != "internal" and (f.calls or f.kind == "local" or f.symbol in headers.public)
                       and not any("CUdeviceptr_v1" in p.type for p in f.params)), key=lambda f: f.symbol)

    def write(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in ONCE:
            self.write_file(folder / name, f"{name}.j2")
        for family in self.data["families"]:
            members = [f for f in self.data["functions"] if f.family == family]
            for kind in PER_FAMILY:
                self.write_file(folder / f"{kind}_{family}.cpp", f"{kind}.cpp.j2", family=family, members=members)

    def write_file(self, path, template, **extra):
        text = self.environment.get_template(template).render(**self.data, **extra)
        if not path.exists() or path.read_text() != text:
            path.write_text(text)
