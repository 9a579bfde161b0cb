"""Compile kernels that exchange numbers through the stash and print their code as JSON.

Run in a process of its own, without TRITON_INTERPRET: `python -m … "forward 64" "backward 16"`.
"""

from __future__ import annotations

import json
import sys

from duetto.kernels.triton.expert_offline import compile_kernel
from duetto.kernels.triton.expert_spec import kernel_spec
from duetto.kernels.triton.offline import compiling_for
from tests.kernels.triton.expert_cases import folded_expert

CAPABILITY = 90


def main() -> None:
    spec = kernel_spec(folded_expert(types=("Pt",), num_layers=2))
    code = {}
    for name in sys.argv[1:]:
        kind, tile = name.split()
        with compiling_for(CAPABILITY) as compiled:
            _, machine = compile_kernel(spec, kind, int(tile), "bf16x3", CAPABILITY)
        code[name] = compiled[0].files["ptx"].read_text(), machine
    print(json.dumps(code))


if __name__ == "__main__":
    main()
