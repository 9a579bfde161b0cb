"""How the Pt+CO reference set is made: structures, sampling, labels, export."""
