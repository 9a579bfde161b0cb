"""Forces in fixed point against the plain-torch sum, bit for bit."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from duetto.kernels.triton import flags as flag
from duetto.kernels.triton import reference
from duetto.kernels.triton.scatter import combine_atoms, fixed_point_forces

A, C = 5, 6
CENTRE_ATOMS = torch.tensor([0, 1, 2, 2, 3, 4], dtype=torch.int32)
WEIGHTS = torch.tensor([1.0, 1.0, 0.3, 0.7, 1.0, 1.0], dtype=torch.float64)
COUNTS = [3, 0, 2, 5, 1, 40]
GAPS = [2, 1, 0, 3, 1, 4]


class Case:
    """Random edges of six centres, one without any, with unused slots between them."""

    def __init__(self, device: str, dtype: torch.dtype, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        rows = np.stack([COUNTS, GAPS], axis=1).ravel()
        self.rowptr = torch.tensor(np.concatenate([[0], rows.cumsum()]), dtype=torch.int64)
        capacity = int(self.rowptr[-1]) + 7
        self.used = torch.cat(
            [torch.arange(self.rowptr[2 * c], self.rowptr[2 * c + 1]) for c in range(C)]
        )
        self.centre = torch.repeat_interleave(torch.arange(C), torch.tensor(COUNTS))
        # What lies in unused slots must not be read: it is not a number.
        self.gradients = torch.full((3, capacity), torch.nan, dtype=dtype)
        self.vectors = torch.full((3, capacity), torch.nan, dtype=dtype)
        scales = 10.0 ** torch.randint(-9, 2, (3, len(self.used)), generator=generator)
        self.gradients[:, self.used] = (
            torch.randn(3, len(self.used), generator=generator) * scales
        ).to(dtype)
        self.vectors[:, self.used] = torch.randn(
            3, len(self.used), generator=generator, dtype=dtype
        )
        self.neighbors = torch.randint(0, A, (capacity,), generator=generator, dtype=torch.int32)
        self.device = device

    def arguments(self, wanted: bool = True) -> tuple[torch.Tensor, ...]:
        flags = torch.zeros(flag.N_FLAGS, dtype=torch.int32)
        virials_wanted = torch.tensor([wanted], dtype=torch.int32)
        tensors = (
            self.gradients, self.vectors, self.rowptr, self.neighbors, CENTRE_ATOMS, WEIGHTS, flags,
            virials_wanted,
        )  # fmt: skip
        return tuple(x.to(self.device) for x in tensors)

    def launch(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        arguments = self.arguments()
        forces, virials = fixed_point_forces(*arguments, A)
        return forces.cpu(), virials.cpu(), arguments[-2].cpu()

    def expected(self) -> torch.Tensor:
        return reference.gather_forces(
            self.gradients[:, self.used].T,
            self.centre,
            self.neighbors[self.used],
            CENTRE_ATOMS,
            WEIGHTS,
            A,
        )


def test_virials_that_nobody_wants_are_no_numbers(device: str) -> None:
    """They are not computed: vectors are not read, and forces are what they are with them."""
    case = Case(device, torch.float32)
    forces, _, _ = case.launch()
    gradients, vectors, *rest = case.arguments(wanted=False)
    alone, virials = fixed_point_forces(gradients, torch.full_like(vectors, torch.nan), *rest, A)
    assert torch.equal(alone.cpu(), forces)
    assert virials.isnan().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equals_reference(dtype: torch.dtype, device: str) -> None:
    case = Case(device, dtype)
    forces, virials, flags = case.launch()
    assert not flags.any()
    assert torch.equal(forces, case.expected())
    assert forces.sum(dim=0).tolist() == [0, 0, 0]
    xx, yy, zz, yz, xz, xy = virials.sum(dim=0)
    got = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz]).reshape(3, 3)
    gradients, vectors = case.gradients[:, case.used].T, case.vectors[:, case.used].T
    expected = reference.virial(gradients, vectors, WEIGHTS[case.centre])
    # Some fifty float64 products of a few eV.
    torch.testing.assert_close(got, expected, rtol=0, atol=1e-13 * float(expected.abs().max()))


def test_forces_are_the_gradients_to_half_a_unit_each(device: str) -> None:
    case = Case(device, torch.float64)
    forces = case.launch()[0].double() * 2.0**-40
    weighted = case.gradients[:, case.used].T * WEIGHTS[case.centre][:, None]
    exact = torch.zeros(A, 3, dtype=torch.float64)
    exact.index_add_(0, CENTRE_ATOMS[case.centre].long(), weighted)
    exact.index_add_(0, case.neighbors[case.used].long(), -weighted)
    n_terms = 2 * len(case.used)
    tolerance = n_terms * 2.0**-41 + 1e-15 * float(weighted.abs().sum())
    torch.testing.assert_close(forces, exact, rtol=0, atol=tolerance)


def test_order_does_not_matter(device: str) -> None:
    """The same edges in another order inside each centre give the same integers."""
    case = Case(device, torch.float32)
    before = case.launch()[0]
    for c in range(C):
        row = torch.arange(int(case.rowptr[2 * c]), int(case.rowptr[2 * c + 1]))
        for x in (case.gradients, case.vectors, case.neighbors):
            x[..., row] = x[..., row.flip(0)]
    assert torch.equal(case.launch()[0], before)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1024.0, -1e30])
@pytest.mark.parametrize("axis", [0, 2])
def test_range_is_flagged(value: float, axis: int, device: str) -> None:
    case = Case(device, torch.float32)
    case.gradients[axis, case.used[-1]] = value
    _, _, flags = case.launch()
    assert flags.nonzero().flatten().tolist() == [flag.FORCE_RANGE.value]
    with pytest.raises(ValueError, match="range"):
        case.expected()


def test_largest_gradients_do_not_wrap_around(device: str) -> None:
    case = Case(device, torch.float32)
    case.gradients[:, case.used] = 1023.99
    forces, _, flags = case.launch()
    assert not flags.any()
    assert torch.equal(forces, case.expected())


def test_combine(device: str) -> None:
    """Blend atoms sum two centres; forces leave fixed point exactly."""
    energies = torch.full((2 * C,), torch.nan, dtype=torch.float64, device=device)
    energies[::2] = torch.tensor([1.0, 2.0, 10.0, 20.0, 4.0, 5.0])
    centres = torch.tensor([[0, -1], [1, -1], [2, 3], [-1, 4], [-1, 5]], dtype=torch.int32)
    fixed = torch.arange(3 * A).reshape(A, 3) * 2**37 - 2**39
    forces = torch.full((A, 3), torch.nan, dtype=torch.float64, device=device)
    atoms = torch.full((A,), torch.nan, dtype=torch.float64, device=device)
    combine_atoms[(1,)](
        fixed.to(device),
        energies,
        WEIGHTS.to(device),
        centres.to(device),
        forces,
        atoms,
        A,
        BLOCK=8,
    )
    assert torch.equal(forces.cpu(), fixed.double() / 2.0**40)
    assert atoms.tolist() == [1.0, 2.0, 0.3 * 10.0 + 0.7 * 20.0, 4.0, 5.0]


def test_operator_is_registered_right(device: str) -> None:
    """Torch's own checks: schema, mutation, and the fake implementation's shapes and types."""
    arguments = Case(device, torch.float32).arguments()
    arguments[0].nan_to_num_()
    arguments[1].nan_to_num_()
    torch.library.opcheck(fixed_point_forces, (*arguments, A))


def test_differentiating_is_refused(device: str) -> None:
    arguments = Case(device, torch.float64).arguments()
    gradients = arguments[0].nan_to_num().requires_grad_()
    _, virials = fixed_point_forces(gradients, arguments[1].nan_to_num(), *arguments[2:], A)
    with pytest.raises(RuntimeError, match="no autograd formula"):
        virials.sum().backward()


@pytest.mark.parametrize(
    ("position", "change", "message"),
    [
        (0, lambda x: x[:, :-1], "must be"),
        (0, lambda x: x.T.contiguous().T, "contiguous"),
        (2, lambda x: x[:-1], "row bounds"),
        (3, lambda x: x[:-1], "must be"),
        (5, lambda x: x[:-1], "weights"),
    ],
)
def test_wrong_shapes_are_refused(
    position: int, change: Callable[[torch.Tensor], torch.Tensor], message: str, device: str
) -> None:
    arguments = list(Case(device, torch.float32).arguments())
    arguments[position] = change(arguments[position])
    with pytest.raises(ValueError, match=message):
        fixed_point_forces(*arguments, A)


def test_centres_before_the_first_are_left_out(device: str) -> None:
    """Neither their gradients nor their rows are read; the others' sums are what they are alone."""
    case, first = Case(device, torch.float32), 2
    gradients, vectors, rowptr, *rest = case.arguments()
    weights = rest[2].clone()
    weights[:first] = 0.0
    alone, virials = fixed_point_forces(
        gradients, vectors, rowptr, rest[0], rest[1], weights, *rest[3:], A
    )
    begin = int(rowptr[2 * first])
    gradients[:, :begin], vectors[:, :begin] = torch.nan, torch.nan
    rowptr[: 2 * first], rest[2][:first] = -1, torch.nan
    found, some = fixed_point_forces(gradients, vectors, rowptr, *rest, A, first)
    assert torch.equal(found, alone)
    assert torch.equal(some[first:], virials[first:])
    assert not rest[3].any()
