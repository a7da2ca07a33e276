# SPDX-License-Identifier: MIT
# Joins the description with the prototypes: one Function a symbol, with a mode for each parameter. Everything the
# templates need is decided here; the templates only write it down.
from dataclasses import dataclass, field

import ctypes_view as view

RESERVED = {"message", "reply", "call_flags", "began", "status", "line", "call", "args", "res", "traced_name"}
MODIFIERS = {"opt", "function_or_kernel", "plain", "loads", "unloaded", "given", "zero"}
EARLY = {"given", "zero"}
STRUCT_RULES = {"plain", "address", "null", "skip", "function_or_kernel"}


@dataclass
class Field:
    """A field of a message. type is a wire type or, for bytes that cross as they are, a C type."""
    name: str
    type: str
    opaque: bool = False


@dataclass
class Member:
    """A member of a struct that does not cross as plain bytes."""
    name: str
    action: str  # handle, null, skip
    kind: str = ""
    error: str = ""
    type: str = ""
    function_or_kernel: bool = False


@dataclass
class Param:
    name: str
    cpp: str
    type: str
    mode: str = "skip"
    optional: bool = False
    element: str = ""       # what a pointer points at, or the type itself
    const: bool = False     # the pointee is const
    wire: str = ""
    handle: object = None   # spec.Handle of a handle parameter or element
    count: list = None
    creates: bool = False
    consumes: bool = False
    function_or_kernel: bool = False
    loads: str = ""         # what is loaded before the call: library, kernel's library, or the kernel on device `dev`
    unloaded: bool = False
    members: list = field(default_factory=list)
    counted_by_output: str = ""  # inout parameter that says how many elements of an out array count
    pointer: bool = False
    string: bool = False    # shown as text in a trace
    trace_out: bool = False


@dataclass
class Effect:
    kind: str
    object: str = ""
    owner: str = ""
    keys: list = field(default_factory=list)
    of_context: bool = False
    kind_of_value: str = ""  # the object is a value of the driver's, of this kind


@dataclass
class Early:
    """What is refused before it matters whether CUDA was initialized."""
    param: object
    refused: str  # C++, true when it is
    error: str


@dataclass
class Function:
    entry: object
    symbol: str
    ident: str            # name for code that also sees cuda.h's renaming macros
    params: list = field(default_factory=list)
    args: list = field(default_factory=list)
    res: list = field(default_factory=list)
    aliases: list = field(default_factory=list)
    effect: object = None
    number: int = 0
    reserved: list = field(default_factory=list)  # Early: must be zero
    early: list = field(default_factory=list)     # Early: must not be zero or NULL

    def steps(self, null):
        """What a symbol asks before it does anything, in the driver's order."""
        def refusals(name, list_):
            used = [p.cpp for p in self.params if any(e.param is p for e in list_)]
            return [f"{name}_{self.symbol}({', '.join(used)})"] if list_ else []

        return refusals("reserved", self.reserved) + (["need_context()"] if null == "context" else []) + \
            refusals("early", self.early)

    @property
    def kind(self): return self.entry.kind
    @property
    def family(self): return self.entry.family
    @property
    def calls(self): return self.kind in ("forward", "post", "internal")
    @property
    def custom_client(self): return self.kind == "local" or "client" in self.entry.flags
    @property
    def custom_server(self): return "server" in self.entry.flags
    @property
    def thread_default(self): return any(a.thread_default for a in self.aliases)


@dataclass
class Alias:
    symbol: str
    thread_default: bool
    null: str = ""


class Builder:
    def __init__(self, entries, handles, structs, headers, symbols, errors):
        self.entries, self.handles, self.structs = entries, handles, structs
        self.headers, self.symbols, self.errors = headers, symbols, errors
        self.functions = {}

    def build(self):
        self.check_symbols()
        self.errors.stop_if_any()
        for entry in self.entries.values():
            if entry.kind != "alias":
                self.functions[entry.symbol] = self.function(entry)
        for entry in self.entries.values():
            if entry.kind == "alias":
                self.alias(entry)
        self.errors.stop_if_any()
        return list(self.functions.values())

    def check_symbols(self):
        exported = set(self.symbols)
        spec_place = (str(self.spec_dir), 0)
        for name in self.symbols:
            if name not in self.entries:
                self.errors.add(spec_place, f"symbol '{name}' has no entry")
            elif name not in self.headers.prototypes:
                self.errors.add(self.entries[name].place, f"'{name}' has no prototype in the headers")
        for entry in self.entries.values():
            if entry.kind == "internal":
                if entry.symbol in exported:
                    self.errors.add(entry.place, f"'{entry.symbol}' is a symbol of libcuda, not internal")
            elif entry.symbol not in exported:
                self.errors.add(entry.place, f"'{entry.symbol}' is no symbol of libcuda")

    def alias(self, entry):
        target = self.functions.get(entry.target)
        if not target or target.kind == "internal":
            self.errors.add(entry.place, f"'{entry.symbol}' is an alias of '{entry.target}', which has no entry of its own")
            return
        own, other = (self.headers.prototypes[n].signature() for n in (entry.symbol, entry.target))
        if own != other:
            self.errors.add(entry.place, f"'{entry.symbol}' takes other types than '{entry.target}': no alias")
        if entry.rules or entry.extra_args or entry.extra_res or entry.effect:
            self.errors.add(entry.place, f"'{entry.symbol}' is an alias: what it needs is said of '{entry.target}'")
        if entry.null not in ("", "context"):
            self.errors.add(entry.place, f"{entry.symbol}: an alias has only null=context of its own")
        target.aliases.append(Alias(entry.symbol, "thread-default" in entry.flags, entry.null))

    def function(self, entry):
        ident = entry.symbol + ("_v1" if entry.symbol in self.headers.renamed else "")
        function = Function(entry, entry.symbol, ident)
        prototype = self.headers.prototypes.get(entry.symbol)
        parameters = prototype.parameters if prototype else []
        names = {p.name for p in parameters}
        for name in entry.rules:
            if name not in names:
                self.errors.add(entry.place, f"{entry.symbol} has no parameter '{name}'")
        for parameter in parameters:
            function.params.append(self.param(function, parameter))
        if function.calls:
            self.add_fields(function)
            self.check_counts(function)
            self.check_custom(function)
            self.add_effect(function)
            self.check_on_stream(function)
            self.check_null(function)
        self.add_early(function)
        return function

    def add_early(self, function):
        """In the order of the line: where several are missing the driver names one of them."""
        entry, by_name = function.entry, {param.name: param for param in function.params}
        for name, rules in entry.rules.items():
            for rule in rules:
                if rule.name not in EARLY:
                    if not function.calls:
                        self.errors.add(entry.place, f"{entry.symbol} sends nothing: rule '{rule.name}' is for calls that do")
                    continue
                param = by_name.get(name)
                if function.kind == "internal" or not param:
                    self.errors.add(entry.place, f"{entry.symbol}: '{rule.name}' says nothing of '{name}' here")
                    continue
                is_value = not param.pointer and not param.wire and not param.handle and "(*)" not in param.type
                what = f"{param.cpp}.type" if is_value else param.cpp
                error = rule.count[0] if rule.count else param.handle.error \
                    if param.handle and not param.pointer and rule.name == "given" else "CUDA_ERROR_INVALID_VALUE"
                if not error.startswith("CUDA_ERROR_"):
                    self.errors.add(entry.place, f"{entry.symbol}: given[{error}] is no error")
                if rule.name == "zero":
                    function.reserved.append(Early(param, what, error))
                else:
                    function.early.append(Early(param, f"!{what}", error))

    def param(self, function, parameter):
        type_ = parameter.type
        param = Param(parameter.name, parameter.name, type_.spelling)
        if param.cpp in RESERVED:
            param.cpp += "_"
        param.pointer = view.is_pointer(type_) and not view.handle_of(type_, self.handles)
        pointee = type_.get_canonical().get_pointee() if param.pointer else None
        source = self.pointee(type_) if param.pointer else type_
        param.element = view.spelling(source)
        param.handle = view.handle_of(source, self.handles)
        param.wire = view.wire_of(source) or ""
        param.const = bool(pointee and pointee.is_const_qualified())
        param.string = bool(param.pointer and param.const and view.is_char(source))
        if function.kind in ("forward", "post"):
            self.decide(function, param, type_, source)
        else:
            param.trace_out = param.pointer and not param.const and \
                bool(param.wire or param.handle or self.points_at_string(source))
        return param

    @staticmethod
    def pointee(type_):
        for _ in range(8):  # through typedefs of pointers
            if type_.get_pointee().spelling:
                return type_.get_pointee()
            type_ = type_.get_declaration().underlying_typedef_type
        return type_

    @staticmethod
    def points_at_string(source):
        return view.is_pointer(source) and view.is_char(source.get_canonical().get_pointee())

    def decide(self, function, param, type_, source):
        entry = function.entry
        rules = entry.rules.get(param.name, [])
        names = [rule.name for rule in rules]
        main = [rule for rule in rules if rule.name not in MODIFIERS]
        param.optional = "opt" in names
        param.function_or_kernel = "function_or_kernel" in names

        def fail(text):
            self.errors.add(entry.place, f"{entry.symbol}: {text}")

        param.unloaded = "unloaded" in names
        if param.unloaded and not param.function_or_kernel:
            fail(f"parameter '{param.name}' is not loaded in any case")
        if "loads" in names:
            kind = param.handle.type if param.handle else ""
            on_device = any(p.name == "dev" for p in self.headers.prototypes[entry.symbol].parameters)
            param.loads = {"CUlibrary": "library", "CUkernel": "kernel_on" if on_device else "library_of"}.get(kind, "")
            if not param.loads:
                fail(f"parameter '{param.name}' is no library and no kernel: it loads nothing")
        if len(main) > 1:
            fail(f"parameter '{param.name}' has the rules {' and '.join(rule.name for rule in main)}: one is enough")
            return
        if param.function_or_kernel and (not param.handle or param.handle.type != "CUfunction"):
            fail(f"parameter '{param.name}' is no CUfunction")
        rule = main[0] if main else None
        name = rule.name if rule else ""
        param.count = rule.count if rule else None
        if not param.pointer:
            self.decide_value(param, type_, name, fail)
        else:
            self.decide_pointer(function, param, type_, source, name, fail)
        if param.handle and param.handle.value and param.mode not in ("handle", "out_handle"):
            fail(f"parameter '{param.name}': {param.handle.type} crosses alone, in or out")
        if param.optional and not param.pointer:
            fail(f"parameter '{param.name}' is no pointer: it cannot be NULL")
        if param.optional and param.mode in ("cstr", "in_array", "in_handles", "address", "skip", "null"):
            if param.mode in ("address", "skip", "null"):
                fail(f"parameter '{param.name}': opt says nothing here")
        if param.mode in ("value", "in_value", "out_value", "inout_value") and not param.wire and \
                view.is_record(source) and "plain" not in names:
            param.members = self.struct_members(source, param, fail)
        if param.mode in ("in_array", "out_array") and view.is_record(source) and "plain" not in names:
            hidden = view.hidden_pointers(source, self.handles)
            if hidden:
                fail(f"parameter '{param.name}': elements {param.element} hold a pointer or handle ({hidden[0]}); "
                     "say plain or make it custom")

    def decide_value(self, param, type_, name, fail):
        if name == "skip":
            param.mode = "skip"
        elif name == "null" and param.type:
            param.mode = "null"
            if not view.is_function_pointer(type_):
                fail(f"parameter '{param.name}' is no pointer: it cannot be null")
        elif param.handle:
            param.mode = "handle"
            param.consumes = name == "del"
            if name not in ("", "in", "del"):
                fail(f"rule {name} does not fit the handle '{param.name}'")
        elif name not in ("", "in"):
            fail(f"rule {name} does not fit '{param.name}', which is no pointer")
        elif param.wire or (view.is_record(type_) and view.is_complete(type_)):
            param.mode = "value"
        else:
            fail(f"parameter '{param.name}' of type {param.type} needs a rule")

    def decide_pointer(self, function, param, type_, source, name, fail):
        whole = bool(param.wire or (view.is_record(source) and view.is_complete(source)))
        param.creates = name == "new"
        if name == "":
            if param.string:
                param.mode = "cstr"
            elif view.is_char(source) or view.is_function_pointer(type_):
                fail(f"parameter '{param.name}' of type {param.type} needs a rule")
            elif param.handle and not param.const:
                param.mode, param.creates = "out_handle", True
            elif whole and not param.handle and (not param.const or view.is_record(source)):
                param.mode = "in_value" if param.const else "out_value"
            else:
                fail(f"parameter '{param.name}' of type {param.type} needs a rule")
            return
        if name in ("skip", "null", "cstr", "out_str", "out_name", "address"):
            param.mode = name
            if name == "cstr" and not param.string:
                fail(f"parameter '{param.name}' is no const char*")
            if name == "out_str" and (not view.is_char(source) or param.const):
                fail(f"parameter '{param.name}' is no char*")
            if name == "out_name" and not self.points_at_string(source):
                fail(f"parameter '{param.name}' is no const char**")
            return
        if name == "del":
            fail(f"rule del does not fit the pointer '{param.name}'")
            return
        if param.const and name in ("out", "inout", "new"):
            fail(f"parameter '{param.name}' points at const: it cannot be {name}")
            return
        if param.count is not None:
            if view.is_void(source):
                param.element = "std::byte"
            elif not whole and not param.handle:
                fail(f"parameter '{param.name}' of type {param.type} is no array of values")
                return
            param.mode = name + ("_handles" if param.handle else "_array")
        elif param.handle and name in ("out", "new"):
            param.mode = "out_handle"
        elif whole and not param.handle and name in ("in", "out", "inout"):
            param.mode = name + "_value"
        else:
            fail(f"rule {name} does not fit '{param.name}' of type {param.type}")

    def struct_members(self, source, param, fail):
        """How the members of a struct cross that are not plain bytes."""
        rule = next((self.structs[n] for n in view.typedef_chain(source) if n in self.structs), None)
        hidden = view.hidden_pointers(source, self.handles)
        if not hidden:
            return []
        if not rule:
            fail(f"parameter '{param.name}': {param.element} holds a pointer or handle ({hidden[0]}) and has no rule "
                 "in structs.spec")
            return []
        found = []
        known = {member.spelling: member for member in view.members(source)}
        for name in rule.fields:
            if name not in known:
                self.errors.add(rule.place, f"{rule.type} has no member '{name}'")
        for name, member in known.items():
            rules = {r.name: r for r in rule.fields.get(name, [])}
            if not rules.keys() <= STRUCT_RULES:
                self.errors.add(rule.place, f"{rule.type}.{name}: a member can be {', '.join(sorted(STRUCT_RULES))}")
                continue
            built = self.member(rule, name, member.type, rules)
            if built:
                found.append(built)
        return found

    def member(self, rule, name, type_, rules):
        handle = view.handle_of(type_, self.handles)
        if "plain" in rules or "address" in rules:
            return None
        if "null" in rules or "skip" in rules:
            return Member(name, "null" if "null" in rules else "skip", type=type_.spelling)
        if handle:
            return Member(name, "handle", handle.kind, handle.error, type_.spelling,
                          function_or_kernel="function_or_kernel" in rules)
        if view.hidden_pointers(type_, self.handles):
            self.errors.add(rule.place, f"{rule.type}.{name} holds a pointer or handle and has no rule")
        return None

    def add_fields(self, function):
        args, res = function.args, function.res

        def whole(param):
            return Field(param.name, param.wire or param.element, not param.wire)

        for param in function.params:
            if param.optional and param.mode not in ("cstr", "in_array", "in_handles"):
                args.append(Field(f"has_{param.name}", "u32"))
            if param.mode in ("value", "in_value", "inout_value"):
                args.append(whole(param))
            elif param.mode in ("handle", "address"):
                args.append(Field(param.name, "u64"))
            elif param.mode in ("in_array", "in_handles"):
                args.append(Field(param.name, "blob"))
            elif param.mode == "cstr":
                args.append(Field(param.name, "cstr"))
            if param.mode in ("out_value", "inout_value"):
                res.append(whole(param))
            elif param.mode == "out_handle":
                res.append(Field(param.name, "u64"))
            elif param.mode in ("out_array", "out_handles", "out_str", "out_name"):
                res.append(Field(param.name, "blob"))
        args += [Field(extra.name, extra.type) for extra in function.entry.extra_args]
        res += [Field(extra.name, extra.type) for extra in function.entry.extra_res]
        for fields in (args, [Field("status", "i32")] + res):
            seen = set()
            for item in fields:
                if item.name in seen:
                    self.errors.add(function.entry.place, f"{function.symbol}: two fields are named '{item.name}'")
                seen.add(item.name)

    def check_counts(self, function):
        by_name = {param.name: param for param in function.params}
        for param in function.params:
            for token in param.count or []:
                if token.isdigit() or token in "+-*":
                    continue
                counted = by_name.get(token)
                if not counted:
                    self.errors.add(function.entry.place, f"{function.symbol} has no parameter '{token}'")
                elif not counted.wire or counted.mode not in ("value", "inout_value"):
                    self.errors.add(function.entry.place, f"{function.symbol}: '{token}' is no count that crosses")
                elif counted.mode == "inout_value":
                    param.counted_by_output = token

    def check_custom(self, function):
        entry = function.entry

        def fail(text):
            self.errors.add(entry.place, f"{entry.symbol}: {text}")

        if entry.kind == "internal":
            if not entry.extra_args and not entry.extra_res:
                fail("an internal procedure needs fields")
            entry.flags |= {"client", "server"}
            return
        if (entry.extra_args or entry.extra_res) and not function.custom_client:
            fail("fields of its own need a hand-written client")
        for param in function.params:
            if param.mode == "null" and function.custom_client and param.pointer is False:
                continue
            if entry.kind == "post" and not function.custom_client and \
                    (param.mode.startswith("out") or param.mode == "inout_value"):
                fail(f"a posted call brings nothing back: '{param.name}' cannot be {param.mode.split('_')[0]}")

    def add_effect(self, function):
        entry = function.entry
        created = [p for p in function.params if p.creates]
        consumed = [p for p in function.params if p.consumes]
        handles = [p for p in function.params if p.mode == "handle"]

        def fail(text):
            self.errors.add(entry.place, f"{entry.symbol}: {text}")

        by_name = {p.name: p for p in function.params}
        if entry.owner and entry.owner != "none" and \
                (entry.owner not in by_name or by_name[entry.owner].mode != "handle"):
            fail(f"owner '{entry.owner}' is no handle that crosses")
            return
        if entry.effect == "none" or not (created or consumed or entry.effect == "state"):
            return
        if len(created) > 1 or (created and consumed):
            fail("more than one object made or gone: the journal needs a hand-written server and effect=none")
            return
        owner = "" if entry.owner == "none" else entry.owner or (handles[0].name if handles else "")
        if created:
            function.effect = Effect("Create", created[0].name, owner)
        elif consumed:
            function.effect = Effect("Destroy", consumed[0].name)
        else:
            for key in entry.state_keys:
                if key not in by_name or by_name[key].mode not in ("value", "handle", "address") or \
                        (by_name[key].mode == "value" and not by_name[key].wire):
                    fail(f"state key '{key}' is no number that crosses")
                    return
            if len(entry.state_keys) > 2:
                fail("a state has at most two keys")
                return
            function.effect = Effect("State", owner, keys=entry.state_keys)
        changed = (created or consumed or [None])[0]
        if changed and changed.handle.value:
            function.effect.kind_of_value = changed.handle.kind
        anchor = function.effect.owner if created else function.effect.object
        function.effect.of_context = function.effect.kind != "Destroy" and not anchor and entry.owner != "none"

    def check_null(self, function):
        entry = function.entry
        if not entry.null:
            return
        if entry.null == "handle" and (entry.kind not in ("forward", "post") or "client" in entry.flags):
            self.errors.add(entry.place, f"{function.symbol}: null=handle is for stubs that are generated")
        elif entry.null == "handle" and not any(p.mode == "handle" for p in function.params):
            self.errors.add(entry.place, f"{function.symbol}: null=handle, but it takes no handle")

    def check_on_stream(self, function):
        other = function.entry.on_stream
        if not other:
            return
        prototype = self.headers.prototypes.get(other)
        own = self.headers.prototypes[function.symbol].signature()
        if not prototype or prototype.signature()[:-1] != own or \
                not (handle := view.handle_of(prototype.parameters[-1].type, self.handles)) or handle.type != "CUstream":
            self.errors.add(function.entry.place,
                            f"{function.symbol}: '{other}' is not the same call with a stream behind its parameters")
