"""Embedded-atom experts: LAMMPS's setfl files, and the kind `eam`."""
