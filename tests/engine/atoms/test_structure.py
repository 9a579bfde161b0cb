import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, fcc111
from ase.constraints import FixAtoms, FixBondLength

from duetto.atoms.labels import read_frames
from duetto.atoms.structure import check_atoms, read_structure
from duetto.errors import InputError


@pytest.fixture
def slab():
    slab = fcc111("Pt", (2, 2, 3), vacuum=6.0)
    slab.info.clear()
    return slab


@pytest.fixture
def write(tmp_path):
    def write(atoms, name="slab.xyz"):
        ase.io.write(tmp_path / name, atoms)
        return tmp_path / name

    return write


def refusal(function, *arguments, **options):
    with pytest.raises(InputError) as error:
        function(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_frames_and_repeats(slab, write):
    other = slab.copy()
    other.positions += 0.1
    path = write([slab, other])
    np.testing.assert_allclose(read_structure(path).positions, other.positions, atol=1e-7)
    np.testing.assert_allclose(read_structure(path, frame=0).positions, slab.positions, atol=1e-7)
    repeated = read_structure(path, frame=-2, repeat=(2, 3, 1), species=["Pt"])
    assert len(repeated) == 6 * len(slab)
    np.testing.assert_allclose(repeated.cell, slab.cell * [[2.0], [3.0], [1.0]], atol=1e-7)


def test_other_formats(slab, write):
    assert len(read_structure(write(slab, "slab.cif"))) == len(slab)
    assert len(read_structure(write(slab, "POSCAR"))) == len(slab)


def test_frame_of_a_format_without_frames(slab, write):
    path = write(slab, "POSCAR")
    assert len(read_structure(path, frame=0)) == len(read_structure(path)) == len(slab)
    for frame in (1, -2):
        assert "is out of range; the file has 1, allowed: 0 to 0" in refusal(
            read_structure, path, frame=frame
        )


@pytest.mark.parametrize("frame", [2, -3, 10**9, -(10**9)])
def test_frame_out_of_range(slab, write, frame):
    path = write([slab, slab])
    assert refusal(read_structure, path, frame=frame) == (
        f"{path}: frame {frame} is out of range; the file has 2, "
        "allowed: 0 to 1, or -2 to -1 from the end"
    )


def test_files_that_cannot_be_read(tmp_path, write, slab):
    assert refusal(read_structure, tmp_path / "none.xyz") == (
        f"{tmp_path / 'none.xyz'}: no such structure file"
    )
    assert "is a folder; name the structure file in it" in refusal(read_structure, tmp_path)
    (tmp_path / "empty.xyz").write_text("")
    assert refusal(read_structure, tmp_path / "empty.xyz").endswith("the file is empty")
    for name, content in {
        "words.txt": b"hello\nthere",
        "noise.xyz": bytes(range(256)) * 20,
        "short.xyz": b"5\n\nPt 0 0 0\n",
        "letters.xyz": b"1\n\nPt 0 zero 0\n",
        "unknown.xyz": b"1\n\nQq 0 0 0\n",
        "blank.xyz": b"\n\n\n",
        "POSCAR": b"Pt\n1.0\n1 0\n",
    }.items():
        (tmp_path / name).write_bytes(content)
        message = refusal(read_structure, tmp_path / name)
        assert message.startswith(str(tmp_path / name)), name
    whole = write(slab).read_bytes()
    (tmp_path / "cut.xyz").write_bytes(whole[: len(whole) // 2])
    assert "cut.xyz, frame -1: cannot be read" in refusal(read_structure, tmp_path / "cut.xyz")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"2\n\nPt 0 zero 0\nPt 0 0 3\n", "'zero' stands where a number belongs"),
        (b"hello\nthere\n", "'hello' stands where a whole number belongs, such as the number of"),
        (b"5\n\nPt 0 0 0\n", "it ends after 1 of 5 atoms"),
        (bytes(range(128, 256)), "it is no text"),
    ],
)
def test_what_is_wrong_is_said_of_the_file(tmp_path, content, words):
    """Not what a reader's converter met."""
    (tmp_path / "a.xyz").write_bytes(content)
    for read in (read_structure, read_frames):
        message = refusal(read, tmp_path / "a.xyz")
        assert message.startswith(str(tmp_path / "a.xyz"))
        assert words in message


def test_species_not_in_the_pair(slab, write):
    slab.symbols[5] = "Pd"
    path = write(slab)
    message = refusal(read_structure, path, species=["Pt", "C", "O"])
    assert message.startswith(f"{path}, frame -1: atom 5 (Pd) at (")
    assert "the pair file does not know" in message
    assert message.endswith("it knows Pt, C, O")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_positions_and_momenta_that_are_not_finite(slab, write, value):
    slab.positions[7, 1] = value
    path = write(slab)
    message = refusal(read_structure, path)
    assert message.startswith(f"{path}, frame -1: atom 7 (Pt) at (")
    assert "its position is not finite" in message
    slab.positions[7, 1] = 1.0
    slab.set_momenta(np.full((12, 3), [0.0, value, 0.0]))
    assert "atom 0 (Pt)" in refusal(check_atoms, slab)
    assert "its momentum is not finite" in refusal(check_atoms, slab)


def test_clashing_atoms(slab, write):
    slab.positions[9] = slab.positions[2] + [0.1, 0.0, 0.2]
    path = write(slab)
    message = refusal(read_structure, path)
    assert message.startswith(f"{path}, frame -1: atom 2 (Pt) at (")
    assert "and atom 9 (Pt) at (" in message
    assert "are 0.224 Å apart; closer than 0.3 Å is a mistake" in message


def test_clashes_across_the_boundary_and_with_images(slab):
    crossing = slab.copy()
    crossing.positions[1] = crossing.positions[0] + crossing.cell[0] - [0.05, 0.0, 0.0]
    assert "atom 0 (Pt)" in refusal(check_atoms, crossing)
    assert "are 0.050 Å apart" in refusal(check_atoms, crossing)
    crossing.pbc = False
    check_atoms(crossing)
    # Far outside the cell, where wrapping brings two atoms together.
    far = bulk("Pt", "fcc", a=3.92).repeat(2)
    far.positions[3] = far.positions[0] + 5 * far.cell[1] + [0.0, 0.1, 0.0]
    assert "atom 3 (Pt)" in refusal(check_atoms, far)


@pytest.mark.parametrize("distance", [1e5, 1e9, 1e12])
@pytest.mark.parametrize("pbc", [False, (True, False, False)])
def test_atoms_far_apart_are_isolated_atoms(distance, pbc):
    """However far apart on open axes; a search by bins counts bins and divides by zero."""
    atoms = Atoms("Pt2", positions=[[0, 0, 0], [0, distance, -distance]], cell=[9, 0, 0], pbc=pbc)
    check_atoms(atoms)
    atoms.positions[1] = [0, 0.1, 0]
    assert "0.100 Å apart" in refusal(check_atoms, atoms)


@pytest.mark.parametrize("cells", [1, 40_000, 10**9])
def test_clashes_are_found_any_number_of_cells_away(cells):
    atoms = bulk("Pt", "fcc", a=4.0).repeat(2)  # whole numbers: far images without rounding
    atoms.positions[3] += cells * atoms.cell[0] - cells * atoms.cell[2]
    check_atoms(atoms)
    atoms.positions[3] = atoms.positions[0] + cells * atoms.cell[1] + [0.0, 0.125, 0.0]
    assert "are 0.125 Å apart" in refusal(check_atoms, atoms)


def test_a_repeat_can_make_atoms_clash(write):
    atoms = Atoms("Pt2", positions=[[0, 0, 0], [3.9, 0, 0]], cell=[4, 4, 4], pbc=False)
    path = write(atoms)
    assert len(read_structure(path)) == 2
    message = refusal(read_structure, path, repeat=(2, 1, 1))
    assert "frame -1, repeated 2×1×1: atom 1 (Pt)" in message
    assert "0.100 Å apart" in message


@pytest.mark.parametrize(
    ("cell", "pbc", "message"),
    [
        (np.zeros((3, 3)), True, "direction a is periodic but has no cell vector"),
        (np.diag([9.0, 9.0, 0.0]), True, "direction c is periodic but has no cell vector"),
        ([[9, 0, 0], [0, 9, 0], [9, 9, 0]], True, "the cell is flat"),
        ([[9, 0, 0], [18, 0, 0], [0, 0, 0]], (True, True, False), "the cell is flat"),
        ([[9, 0, 0], [0, 9, 0], [5, 5, 1e-4]], True, "the cell is flat"),
        (np.diag([9.0, 9.0, 0.1]), True, "cell vector c is 0.1 Å long; allowed: 0.3 to 1e+06 Å"),
        (np.diag([9.0, 9.0, 1e12]), True, "cell vector c is 1e+12 Å long"),
        (np.diag([9.0, np.nan, 9.0]), True, "the cell is not finite"),
    ],
)
def test_cells_that_are_none(cell, pbc, message):
    atoms = Atoms("Pt", cell=cell, pbc=pbc)
    assert message in refusal(check_atoms, atoms, "file, frame 0")
    assert refusal(check_atoms, atoms, "file, frame 0").startswith("file, frame 0: ")


@pytest.mark.parametrize(
    ("cell", "pbc"),
    [
        (np.zeros((3, 3)), False),
        (np.diag([9.0, 9.0, 0.0]), (True, True, False)),
        (np.diag([0.0, 0.0, 2.0]), (False, False, True)),
        (bulk("Pt").cell, True),
        ([[9, 0, 0], [0, 9, 0], [40, 0, 9]], True),
    ],
)
def test_cells_that_are_fine(cell, pbc):
    check_atoms(Atoms("Pt", cell=cell, pbc=pbc))


def test_other_refusals(slab, write):
    assert refusal(check_atoms, Atoms(), "here") == "here: there are no atoms"
    fixed = slab.copy()
    fixed.set_constraint([FixAtoms([0]), FixBondLength(0, 1)])
    assert "constraints (FixBondLengths)" in refusal(check_atoms, fixed)
    massless = slab.copy()
    massless.set_masses([0.0] + [195.0] * 11)
    assert "atom 0 (Pt)" in refusal(check_atoms, massless)
    assert "has no mass" in refusal(check_atoms, massless)
    far = slab.copy()
    far.positions[4, 2] = 1e13
    assert "its position is beyond 1e+12 Å; are the units Å?" in refusal(check_atoms, far)
    wire = Atoms("Pt", cell=[0, 0, 3], pbc=(False, False, True))
    message = refusal(read_structure, write(wire, "wire.traj"), repeat=(2, 1, 1))
    assert "cannot repeat along a: no such cell vector" in message
