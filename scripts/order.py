#!/usr/bin/env python3
"""In which order functions stand in the program: those of its start, then the others that were used, the often
used first. What is used then fills few pages, and only those are held in memory.

    scripts/order.py START ALL > ORDER      each made by `llvm-profdata show --all-functions --counts`

ORDER is for lld's `--symbol-ordering-file`.
"""

import re
import sys


def used(dump):
    """The functions that ran, the often used first."""
    functions = {}
    name = None
    for line in open(dump):
        if match := re.fullmatch(r"  (\S.*):\n", line):
            # What only one unit sees stands behind its name.
            name = match[1].rpartition(";")[2]
        elif match := re.fullmatch(r"    Block counts: \[(.*)\]\n", line):
            most = max((int(count) for count in match[1].split(",") if count), default=0)
            functions[name] = max(most, functions.get(name, 0))
    return sorted((name for name, most in functions.items() if most), key=lambda name: -functions[name])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    start, load = map(used, sys.argv[1:])
    for name in dict.fromkeys(start + load):
        print(name)


if __name__ == "__main__":
    main()
