"""Triton kernels of the device step: neighbour list, experts, forces, dynamics.

Nothing here imports Triton before one of its modules is imported, so the package can be inspected
where Triton is not installed. Words shared by all of them:

centre      one (expert, atom) pair. Centres of the high-fidelity expert come first, then those of
            the low-fidelity one; an atom in a blend layer is a centre of both.
candidates  neighbours of a centre within cutoff + skin, found when the list is rebuilt.
edges       candidates within the true cutoff of the centre's expert, selected every step.
key         expert · K + bucket: which of the K sizes of edge tile a centre needs.

Letters: A atoms, C centres, E edge slots, T types, K buckets.
"""
