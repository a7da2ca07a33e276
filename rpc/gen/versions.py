# SPDX-License-Identifier: MIT
# Which symbol cuGetProcAddress(name, version) means: cudaTypedefs.h has one PFN_name_vVERSION for each ABI that a name
# ever had, the library one symbol for each; in order they belong together, and their types must agree.
import re
from collections import defaultdict
from dataclasses import dataclass


@dataclass
class VersionedSymbol:
    name: str
    version: int
    per_thread: bool
    symbol: str


def split_symbol(symbol):
    base, revision, suffix = re.fullmatch(r"(cu\w+?)(_v\d+)?(_ptds|_ptsz)?", symbol).groups()
    return base, int(revision[2:]) if revision else 1, suffix or ""


def versioned_symbols(symbols, headers, overrides, place, errors):
    typedefs, exported = defaultdict(list), defaultdict(list)
    for name in headers.typedefs:
        if match := re.fullmatch(r"PFN_(cu\w+?)_v(\d+)(_ptds|_ptsz)?", name):
            typedefs[match[1], match[3] or ""].append((int(match[2]), name))
    for symbol in symbols:
        base, revision, suffix = split_symbol(symbol)
        exported[base, suffix].append((revision, symbol))
    said = {(rule.name, rule.suffix, rule.version): rule for rule in overrides}
    table = {}
    for key in sorted(exported):
        versions, candidates = sorted(typedefs[key]), sorted(exported[key])
        if len(versions) != len(candidates):
            unsaid = [name for version, name in versions if (*key, version) not in said]
            if unsaid or not versions:
                errors.add(place, f"{key[0]}{key[1]}: {len(versions)} versions in cudaTypedefs.h but {len(candidates)} "
                                  f"symbols ({', '.join(s for _, s in candidates)}): say which is which here")
            continue
        for (version, typedef), (_, symbol) in zip(versions, candidates):
            if (*key, version) not in said and headers.typedefs[typedef] != headers.prototypes[symbol].signature():
                errors.add(place, f"{typedef} takes other types than {symbol}: say here which symbol it means")
            table[key[0], version, key[1]] = symbol
    for rule in overrides:
        if rule.symbol not in symbols:
            errors.add(rule.place, f"'{rule.symbol}' is no symbol of libcuda")
        table[rule.name, rule.version, rule.suffix] = rule.symbol
    errors.stop_if_any()
    return [VersionedSymbol(name, version, bool(suffix), symbol)
            for (name, version, suffix), symbol in sorted(table.items())]
