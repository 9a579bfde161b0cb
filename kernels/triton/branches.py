"""Both experts at the same time: two branches of a step that meet again before forces are summed.

Each expert has memory of its own, and writes energies and gradients of its own rows, so that
neither waits for the other. A small system thus fills more of the chip than one expert's programs
would. In a captured graph the branches are its own; launched one by one they are streams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch


class Branches:
    """Where the launches of two experts go: one after the other without a GPU."""

    def __init__(self, device: torch.device, experts: Sequence[object]) -> None:
        """Have a second stream on a GPU if there are two experts, and not twice the same.

        Args:
            device: of the launches.
            experts: those that only launch kernels.
        """
        both = len(experts) == 2 and None not in experts and experts[0] is not experts[1]
        on_gpu = device.type == "cuda"
        self._side = torch.cuda.Stream(device) if both and on_gpu else None

    def run(self, first: Callable[[], None], second: Callable[[], None]) -> None:
        """Launch both behind everything that was launched; what is launched next waits for both."""
        if self._side is None:
            first()
            second()
            return
        current = torch.cuda.current_stream()
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            second()
        first()
        current.wait_stream(self._side)
