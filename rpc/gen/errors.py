# SPDX-License-Identifier: MIT
# What is wrong with a description is collected and shown all at once, each with its place, as compilers do.
import sys


class Errors:
    def __init__(self):
        self.items = []

    def add(self, place, message):
        self.items.append((place, message))

    def stop_if_any(self):
        if not self.items:
            return
        for (path, line), message in self.items:
            print(f"{path}:{line}: {message}", file=sys.stderr)
        print(f"{len(self.items)} error(s) in the description", file=sys.stderr)
        sys.exit(1)
