"""Every kernel of the device step once, on small inputs: what compute-sanitizer watches.

Eager launches and no memory pool, so that each array ends where its allocation does.
"""

from __future__ import annotations

import torch

from tests.gpu.systems import layered, on_gpu, system, tensors
from tests.gpu.test_dynamics import bath, dynamics


def main() -> None:
    for name in ("pt", "ptco"):
        atoms, pair = system(name, 48)
        for precision in ("fp32", "bf16x3"):
            potential = on_gpu(atoms, pair, layered(atoms), precision=precision)
            potential.evaluate(*tensors(atoms))
    for thermostat in (None, bath(900.0)):
        run, _ = dynamics(48, 900.0, skin=0.05, thermostat=thermostat)
        run.mixture.capturable = False
        run.run(5)
    torch.cuda.synchronize()
    print("finished")


if __name__ == "__main__":
    main()
