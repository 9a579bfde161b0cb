"""Why an ASE calculator is no expert."""

NO_CALCULATOR = (
    "an ASE calculator gives one energy of all atoms, and a mixture sums w_i E_i; without the "
    "energy of each atom and its gradient it cannot conserve energy"
)
