#!/usr/bin/env python3
"""No wide instruction outside the functions of wide targets, since the linker may give such a function to everyone.

narrow.py OBJDUMP PROGRAM
"""

import re
import subprocess
import sys

FUNCTION = re.compile(r"^[0-9a-f]+ <(.*)>:$")
WIDE = re.compile(r"%[yz]mm|\t(v[a-z0-9]+|andn|bextr|bls(i|r|msk)|bzhi|pdep|pext|rorx|sarx|shlx|shrx|mulx)\b")

objdump, program = sys.argv[1:]
text = subprocess.run([objdump, "-d", "--no-show-raw-insn", program], check=True, capture_output=True, text=True).stdout
function, wide, bad = "", 0, {}
for line in text.splitlines():
    begin = FUNCTION.match(line)
    if begin:
        function = begin[1]
    elif WIDE.search(line):
        if re.search(r"N_AVX[23]", function):
            wide += 1
        else:
            bad.setdefault(function, line.strip())
for function, line in bad.items():
    print(f"{function}: {line}")
print(f"{wide} wide instructions, and {len(bad)} functions that should have none")
sys.exit(1 if bad or wide == 0 else 0)
