"""Linear experts: atomic-cluster-expansion site energies, fitted by least squares."""
