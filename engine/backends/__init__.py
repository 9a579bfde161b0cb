"""The same function of the same arguments on different hardware."""
