# SPDX-License-Identifier: MIT
# Reads the description language (rpc/spec/README.md) into plain data. Knows its grammar, nothing about CUDA.
import re
from dataclasses import dataclass, field
from pathlib import Path

CLASSES = {"forward", "post", "local", "unsupported", "alias", "legacy", "internal"}
FLAGS = {"client", "server", "thread-default"}
WIRE_TYPES = {"u32", "i32", "u64", "f32", "blob", "cstr", "bulk"}
PLAIN_RULES = {"in", "out", "inout", "new", "del", "cstr", "out_name", "skip", "null", "opt", "address",
               "function_or_kernel", "plain", "loads", "unloaded", "given", "zero"}
SIZED_RULES = {"in", "out", "out_str", "given"}
COUNT = re.compile(r"[A-Za-z_]\w*|\d+|[-+*]")


@dataclass
class Rule:
    name: str
    count: list = None  # tokens of COUNT, None when the rule has no brackets


@dataclass
class Extra:
    name: str
    type: str


@dataclass
class Entry:
    place: tuple
    symbol: str
    family: str
    kind: str = ""
    target: str = ""   # alias: of which symbol
    reason: str = ""
    result: str = ""   # legacy: what the driver answers
    flags: set = field(default_factory=set)
    rules: dict = field(default_factory=dict)  # parameter -> [Rule]
    extra_args: list = field(default_factory=list)
    extra_res: list = field(default_factory=list)
    effect: str = ""   # "" (derived), "none" or "state"
    state_keys: list = field(default_factory=list)
    owner: str = ""
    on_stream: str = ""
    null: str = ""  # what is looked at before arguments: "context", or "handle" before NULL pointers


@dataclass
class Handle:
    place: tuple
    type: str
    kind: str
    number: int
    error: str = "CUDA_ERROR_INVALID_HANDLE"
    value: bool = False  # the application sees the driver's own value


@dataclass
class StructRule:
    place: tuple
    type: str
    fields: dict = field(default_factory=dict)  # field -> [Rule]


@dataclass
class VersionRule:
    place: tuple
    name: str
    version: int
    suffix: str
    symbol: str


def words(text):
    """Splits a line into (word, quoted) pairs; a '#' outside quotes begins a comment."""
    found, i = [], 0
    while i < len(text):
        if text[i].isspace():
            i += 1
        elif text[i] == "#":
            break
        elif text[i] == '"':
            end = text.find('"', i + 1)
            if end < 0:
                raise ValueError("a quoted text does not end on its line")
            found.append((text[i + 1:end], True))
            i = end + 1
        else:
            end = i
            while end < len(text) and not text[end].isspace() and text[end] != "#":
                end += 1
            found.append((text[i:end], False))
            i = end
    return found


def parse_count(text):
    tokens = COUNT.findall(text)
    operands, operators = tokens[0::2], tokens[1::2]
    if "".join(tokens) != text or len(tokens) % 2 == 0 or any(t in "+-*" for t in operands) or \
            any(t not in "+-*" for t in operators):
        raise ValueError(f"'{text}' is not a count: names and numbers joined by + - *")
    return tokens


def parse_rules(text):
    rules = []
    for part in text.split(","):
        match = re.fullmatch(r"(\w+)(?:\[([^\]]*)\])?", part)
        if not match:
            raise ValueError(f"'{part}' is not a rule")
        name, count = match.groups()
        if name not in (SIZED_RULES if count is not None else PLAIN_RULES):
            raise ValueError(f"unknown rule '{part}'")
        rules.append(Rule(name, parse_count(count) if count is not None else None))
    return rules


def parse_extra(text):
    match = re.fullmatch(r"(\w+):(\w+)", text)
    if not match or match[2] not in WIRE_TYPES:
        raise ValueError(f"'{text}' is not NAME:TYPE with a type of {', '.join(sorted(WIRE_TYPES))}")
    return Extra(match[1], match[2])


def parse_option(entry, word):
    if word in FLAGS:
        entry.flags.add(word)
    elif word.startswith("+"):
        entry.extra_args.append(parse_extra(word[1:]))
    elif word.startswith(">"):
        entry.extra_res.append(parse_extra(word[1:]))
    elif match := re.fullmatch(r"state\(([\w,]*)\)", word):
        entry.effect = "state"
        entry.state_keys = [key for key in match[1].split(",") if key]
    elif "=" in word:
        name, value = word.split("=", 1)
        if name == "effect":
            if value != "none":
                raise ValueError(f"'effect={value}': only effect=none can be written")
            entry.effect = "none"
        elif name == "owner":
            entry.owner = value
        elif name == "on-stream":
            entry.on_stream = value
        elif name == "null":
            if value not in ("context", "handle"):
                raise ValueError(f"'null={value}': what is looked at before NULL is 'context' or 'handle'")
            entry.null = value
        elif name in entry.rules:
            raise ValueError(f"parameter '{name}' has two rules")
        else:
            entry.rules[name] = parse_rules(value)
    else:
        raise ValueError(f"'{word}' is neither a flag nor a rule")


def parse_entry(place, family, tokens):
    symbol = tokens[0][0]
    entry = Entry(place, symbol, family)
    if len(tokens) < 2:
        raise ValueError(f"'{symbol}' has no class")
    entry.kind = tokens[1][0]
    if entry.kind not in CLASSES:
        raise ValueError(f"unknown class '{entry.kind}' of {symbol}")
    rest = tokens[2:]
    if entry.kind == "alias":
        if not rest or rest[0][1]:
            raise ValueError(f"{symbol}: alias of what?")
        entry.target = rest[0][0]
        rest = rest[1:]
    if entry.kind == "legacy":
        if not rest or not re.fullmatch(r"CUDA_(SUCCESS|ERROR_\w+)", rest[0][0]) or any("=" not in w for w, _ in rest[1:]):
            raise ValueError(f"{symbol}: legacy takes one CUresult, what the driver answers")
        entry.result = rest[0][0]
        rest = rest[1:]
    for word, quoted in rest:
        if quoted:
            entry.reason = word
        else:
            parse_option(entry, word)
    if entry.kind == "unsupported" and not entry.reason:
        raise ValueError(f"{symbol}: unsupported needs a \"reason\"")
    if "thread-default" in entry.flags and entry.kind != "alias":
        raise ValueError(f"{symbol}: thread-default is for aliases")
    return entry


def lines_of(path, errors):
    for number, text in enumerate(Path(path).read_text().splitlines(), 1):
        place = (str(path), number)
        try:
            tokens = words(text)
        except ValueError as error:
            errors.add(place, str(error))
            continue
        if tokens:
            yield place, tokens


def read_entries(paths, errors):
    entries = {}
    for path in paths:
        for place, tokens in lines_of(path, errors):
            try:
                entry = parse_entry(place, Path(path).stem, tokens)
            except ValueError as error:
                errors.add(place, str(error))
                # Known all the same, so that one mistake is not also reported as a missing entry.
                entries.setdefault(tokens[0][0], Entry(place, tokens[0][0], Path(path).stem, "broken"))
                continue
            if entry.symbol in entries:
                first = entries[entry.symbol].place
                errors.add(place, f"'{entry.symbol}' is described twice, first at {first[0]}:{first[1]}")
                continue
            entries[entry.symbol] = entry
    return entries


def read_handles(path, errors):
    handles = {}
    numbers = {}
    for place, tokens in lines_of(path, errors):
        parts = [word for word, _ in tokens]
        value = parts[-1:] == ["value"]
        parts = parts[:-1] if value else parts
        if len(parts) not in (3, 4) or not parts[0].isdigit():
            errors.add(place, "a handle is: NUMBER CUtype Kind [ERROR] [value]")
            continue
        handle = Handle(place, parts[1], parts[2], int(parts[0]), *parts[3:], value=value)
        if handle.type in handles or handle.number in numbers or handle.number == 0:
            errors.add(place, f"handle '{handle.type}' or its number {handle.number} is taken")
            continue
        handles[handle.type] = numbers[handle.number] = handle
    return handles


def read_structs(path, errors):
    structs = {}
    for place, tokens in lines_of(path, errors):
        name = tokens[0][0]
        if name in structs:
            errors.add(place, f"struct '{name}' is described twice")
            continue
        rule = StructRule(place, name)
        try:
            for word, _ in tokens[1:]:
                member, separator, value = word.partition("=")
                if not separator:
                    raise ValueError(f"'{word}' is not MEMBER=RULE")
                rule.fields[member] = parse_rules(value)
        except ValueError as error:
            errors.add(place, str(error))
        structs[name] = rule
    return structs


def read_versions(path, errors):
    found = []
    for place, tokens in lines_of(path, errors):
        match = re.fullmatch(r"(\w+)@(\d+)(_ptds|_ptsz)?", tokens[0][0])
        if not match or len(tokens) != 2:
            errors.add(place, "a version is: NAME@VERSION[_ptds|_ptsz] SYMBOL")
            continue
        found.append(VersionRule(place, match[1], int(match[2]), match[3] or "", tokens[1][0]))
    return found
