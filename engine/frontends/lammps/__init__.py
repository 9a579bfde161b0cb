"""The potential as a LAMMPS pair style, over MPI ranks.

LAMMPS decomposes the domain, communicates, balances, integrates and writes; Duetto computes the
experts. `types` names regions as atom types, `unified` is the potential behind LAMMPS's ML-IAP
interface, `callback` and `plugin/` are the pair style for a LAMMPS without that interface,
`library` and `build` find and extend the LAMMPS that is installed, `system`, `data_file` and `deck`
turn a run into LAMMPS's own files, and `check` compares.
"""
