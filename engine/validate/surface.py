"""A molecule on a surface: adsorption by site, and its way from one site to another."""

from __future__ import annotations

from typing import Any

import ase.build
import numpy as np
from ase import Atoms
from ase.constraints import FixedLine
from ase.geometry import find_mic
from ase.mep import NEB
from ase.optimize import FIRE

from duetto.errors import InputError, RunStopped
from duetto.validate.case import Case
from duetto.validate.checks import require_both
from duetto.validate.config import SurfaceConfig
from duetto.validate.subject import Array

LARGEST_FORCE = 0.001
"""eV/Å: energies err by F²/2k, with F² of some tens of atoms at most so many times (0.001 eV/Å)², k
some eV/Å² at least: 0.01 meV, the digit that differences of adsorption energies are shown to."""

LARGEST_FORCE_ON_PATH, FORCE_WANTED_ON_PATH = 0.02, 0.005
"""eV/Å, of images: what there has to be, and what is gone on to as long as there are steps. What is
left of the barrier's digits is computed, `resolution_mev`."""

MOST_PATH_STEPS, MOST_FURTHER_STEPS = 1000, 1000
SPRING = 1.0  # eV/Å², between images

WHO = ("hf", "mixture")

LATTICES = {
    "fcc": ((0, 0, 0), (0, 0.5, 0.5), (0.5, 0, 0.5), (0.5, 0.5, 0)),
    "bcc": ((0, 0, 0), (0.5, 0.5, 0.5)),
}
"""Sites of one conventional cell; facets begin with these names."""

SAME_SITE = 0.05
"""Of the cell's length: sites are half of it apart and more."""


def measure(case: Case) -> dict[str, Any]:
    """Full HF and the mixture on the same sites and the same way.

    The molecule keeps its place across the surface while all else comes to rest, so that every
    site has a number, be it a minimum or not. The molecule alone is computed by HF both times.

    Returns:
        Nothing where there is no `surface`. `adsorption_energy_ev`: by site `hf`, `mixture`, E(slab
        and molecule) − E(slab) − E(molecule), and `difference_mev`; `adsorption_length_angstrom`:
        by site of both the shortest distance to the slab and the bonds of the molecule;
        `diffusion_barrier_ev`: by a climbing-image NEB (Henkelman et al. 2000), of both, with the
        energies of the images, `difference_mev` and `resolution_mev`, what its forces leave open.

    Raises:
        RunStopped: atoms or images do not come to rest.
    """
    settings = case.config.surface
    if settings is None:
        return {}
    molecule = _molecule_energy(case, settings)
    rows: dict[str, Any] = {}
    lengths: dict[str, Any] = {}
    relaxed: dict[tuple[str, str], tuple[Atoms, Array]] = {}
    clean: dict[bytes, float] = {}
    for site in settings.sites:
        start = on_site(case, settings, site)
        n_slab = len(start) - _size(settings)
        for who in WHO:
            weights = weights_on(case, settings, start, who)
            key = weights[:n_slab].tobytes()
            if key not in clean:
                bare = start[:n_slab]
                clean[key] = case.subject.relaxed(bare, weights[:n_slab], LARGEST_FORCE)[1]
            held = _held(start, n_slab)
            rest, energy = case.subject.relaxed(held, weights, LARGEST_FORCE)
            relaxed[site, who] = rest, weights
            rows.setdefault(site, {})[who] = energy - clean[key] - molecule
            lengths.setdefault(site, {})[who] = _lengths(rest, n_slab)
        rows[site]["difference_mev"] = 1e3 * (rows[site]["mixture"] - rows[site]["hf"])
    found = {"adsorption_energy_ev": rows, "adsorption_length_angstrom": lengths}
    return found | _barrier(case, settings, relaxed)


def check(case: Case) -> None:
    """Build all that will be asked for, before anything is computed.

    Raises:
        InputError: there is no such surface, molecule or site, it is none of the crystal's, an
            expert does not know a species, or the regions cannot be resolved on it or leave one of
            the two empty.
    """
    settings = case.config.surface
    if settings is None:
        return
    for site in settings.sites:
        atoms = on_site(case, settings, site)
        unknown = sorted(set(atoms.symbols) - set(case.subject.pair.experts["hf"].species))
        if unknown:
            raise InputError(f"surface.molecule: {unknown[0]} is unknown to hf of the pair")
        for who in WHO:
            weights = weights_on(case, settings, atoms, who)
            if who == "mixture":
                key = "regions" if settings.regions is None else "surface.regions"
                require_both(weights, key, f"surface {settings.facet} with {settings.molecule}")
            case.subject.potential(atoms, weights)


def on_site(case: Case, settings: SurfaceConfig, site: str) -> Atoms:
    """The slab with the molecule above a site, before anything relaxes.

    Raises:
        InputError: there is no such surface, molecule or site, or it is none of the crystal's.
    """
    species = set(case.crystal.symbols)
    if len(species) > 1:
        raise InputError("surface: the crystal has several elements; allowed: one")
    _require_own(settings.facet, case)
    builder = getattr(ase.build, settings.facet)
    length = case.found.get("lattice_constant_angstrom", {}).get("hf")
    length = case.crystal.cell.lengths()[0] if length is None else length
    slab = builder(species.pop(), settings.repeat, a=length, vacuum=settings.vacuum_A)
    molecule = _molecule(settings)
    bond = list(molecule.symbols).index(settings.binding)
    sites = slab.info["adsorbate_info"]["sites"]
    if site not in sites:
        raise InputError(
            f"surface.sites: {settings.facet} has no site {site}; allowed: {', '.join(sites)}"
        )
    ase.build.add_adsorbate(slab, molecule, settings.sites[site], site, mol_index=bond)
    slab.info.clear()  # what ASE knows of the slab does not survive a cut
    return slab


def weights_on(case: Case, settings: SurfaceConfig, atoms: Atoms, who: str) -> Array:
    """HF weights (A,): the partition's, or all of it.

    Raises:
        InputError: the regions cannot be resolved on these atoms.
    """
    if who == "hf":
        return np.ones(len(atoms))
    regions = case.config.regions if settings.regions is None else settings.regions
    try:
        return np.asarray(regions.weights(atoms))
    except InputError as error:
        raise InputError(f"surface {settings.facet} with {settings.molecule}: {error}") from error


def _require_own(facet: str, case: Case) -> None:
    """Refuse a facet of another lattice than the crystal's: ASE would build it all the same."""
    lattice = lattice_of(case.crystal)
    if facet.startswith(lattice or "?"):
        return
    allowed = [f"{lattice}{plane}" for plane in ("100", "110", "111")] if lattice else []
    raise InputError(
        f"surface.facet: {facet} is no surface of the crystal, {case.config.crystal}, which is "
        f"{lattice or 'neither fcc nor bcc'}; allowed: {', '.join(allowed) or 'surface=null'}"
    )


def lattice_of(crystal: Atoms) -> str | None:
    """Of one conventional cell "fcc" or "bcc", None if it is neither."""
    fractions = crystal.get_scaled_positions()
    for name, sites in LATTICES.items():
        if len(sites) == len(crystal):
            apart = fractions[:, None] - fractions[0] - np.array(sites)
            apart = np.abs(apart - np.rint(apart)).max(axis=2)  # atoms by sites
            if (apart.min(axis=0) < SAME_SITE).all():
                return name
    return None


def _molecule(settings: SurfaceConfig) -> Atoms:
    try:
        molecule = ase.build.molecule(settings.molecule)
    except KeyError as error:
        raise InputError(
            f"surface.molecule: ASE knows no molecule {settings.molecule}; allowed: those of "
            "ase.collections.g2, such as CO"
        ) from error
    if settings.binding not in molecule.symbols:
        raise InputError(f"surface.binding: {settings.molecule} has no {settings.binding}")
    # The atom that binds points down.
    middle = molecule.positions.mean(axis=0)
    bond = molecule.positions[list(molecule.symbols).index(settings.binding)]
    if len(molecule) > 1:
        molecule.rotate(middle - bond, "z", center=bond)
    return molecule


def _size(settings: SurfaceConfig) -> int:
    return len(_molecule(settings))


def _molecule_energy(case: Case, settings: SurfaceConfig) -> float:
    molecule = _molecule(settings)
    molecule.center(vacuum=settings.vacuum_A)
    return case.subject.relaxed(molecule, np.ones(len(molecule)), LARGEST_FORCE)[1]


def _held(atoms: Atoms, n_slab: int) -> Atoms:
    """The molecule's atoms move only up and down."""
    held = atoms.copy()
    held.set_constraint(FixedLine(range(n_slab, len(atoms)), [0, 0, 1]))
    return held


def _lengths(atoms: Atoms, n_slab: int) -> dict[str, float]:
    """Shortest distance of the molecule to the slab, and of its atoms, by their symbols, Å."""
    symbols, every = atoms.get_chemical_symbols(), atoms.get_all_distances(mic=True)
    found: dict[str, float] = {}
    for i in range(n_slab, len(atoms)):
        for j in range(i):
            name = f"{symbols[j]}-{symbols[i]}"
            found[name] = min(found.get(name, np.inf), float(every[i, j]))
    # Only what is a bond or the contact with the slab: a molecule's far atom is neither.
    contact = min((v, k) for k, v in found.items() if k.split("-")[0] in symbols[:n_slab])
    inner = {k: v for k, v in found.items() if k.split("-")[0] not in symbols[:n_slab]}
    return {contact[1]: contact[0], **inner}


def _barrier(
    case: Case, settings: SurfaceConfig, relaxed: dict[tuple[str, str], tuple[Atoms, Array]]
) -> dict[str, Any]:
    if settings.path is None:
        return {}
    barriers: dict[str, Any] = {
        "path": list(settings.path),
        "images": {},
        "resolution_mev": {},
    }
    for who in WHO:
        (first, weights), (last, _) = (relaxed[site, who] for site in settings.path)
        images = path_images(case, (first, last), weights, settings.images, who)
        energies = np.array([image.get_potential_energy() for image in images])
        barriers["images"][who] = (energies - energies[0]).tolist()
        barriers[who] = float(energies.max() - energies[0])
        barriers["resolution_mev"][who] = 1e3 * _resolution(images, energies)
    barriers["difference_mev"] = 1e3 * (barriers["mixture"] - barriers["hf"])
    return {"diffusion_barrier_ev": barriers}


def path_images(
    case: Case, ends: tuple[Atoms, Atoms], weights: Array, number: int, who: str
) -> list[Atoms]:
    """The path of least energy between the ends, number + 2 images with their calculators.

    Raises:
        RunStopped: the images do not come to rest.
    """
    images = [ends[0].copy() for _ in range(number + 1)] + [ends[1].copy()]
    for image in images:
        image.set_constraint()
        image.calc = case.subject.calculator(image, weights)
    NEB(images, method="improvedtangent").interpolate(mic=True)
    # An image climbs only once there is a path: of a straight line it would climb anywhere.
    for climb, part in ((False, 5.0), (True, 1.0)):
        band = NEB(images, k=SPRING, climb=climb, method="improvedtangent")
        optimizer = FIRE(band, logfile=None)
        if not optimizer.run(fmax=part * LARGEST_FORCE_ON_PATH, steps=MOST_PATH_STEPS):
            raise RunStopped(
                f"surface.path: forces above {part * LARGEST_FORCE_ON_PATH:g} eV/Å after "
                f"{MOST_PATH_STEPS} steps of the images "
                f"({who}, {'climbing' if climb else 'not climbing yet'})"
            )
        reached = [image.positions.copy() for image in images]
        if not optimizer.run(fmax=part * FORCE_WANTED_ON_PATH, steps=MOST_FURTHER_STEPS):
            for image, positions in zip(images, reached, strict=True):
                image.positions = positions  # bands of few images may swing for ever
    return images


def _resolution(images: list[Atoms], energies: Array) -> float:
    """What the forces left at the saddle may still change of the barrier, eV.

    F²/2k of a quadratic saddle, F all that is left on its atoms and k the curvature of the energy
    along the path, the softest direction there is: from the saddle's image and the two beside it.
    The first image's is less, its forces being smaller and its stiffness the same.
    """
    top = int(energies[1:-1].argmax()) + 1
    back, on = (
        float(np.linalg.norm(find_mic(b.positions - a.positions, a.cell, a.pbc)[0]))
        for a, b in zip(images[top - 1 : top + 1], images[top : top + 2], strict=True)
    )
    slopes = (energies[top] - energies[top - 1]) / back, (energies[top + 1] - energies[top]) / on
    curvature = abs(slopes[1] - slopes[0]) / ((back + on) / 2)
    return float((images[top].get_forces() ** 2).sum() / (2 * curvature))
