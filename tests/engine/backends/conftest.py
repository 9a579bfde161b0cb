"""Where the kernels run: on the GPU if there is one, else in Triton's interpreter on the CPU."""

import os

import torch

# Read when a kernel is declared, so it must be set before any module with kernels is imported.
if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
