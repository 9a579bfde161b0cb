"""The text of one kernel while it is being written, and where its values lie."""

from __future__ import annotations

from collections.abc import Iterable

from duetto.kernels.triton.expert_packing import table_layout
from duetto.kernels.triton.expert_spec import COMPONENTS, KernelSpec, Slab

KINDS = ("whole", "forward", "backward")


class Writer:
    """Collects the lines of one kernel.

    Attributes:
        spec: structure of the expert.
        kind: one of KINDS.
    """

    def __init__(self, spec: KernelSpec, kind: str) -> None:
        assert kind in KINDS
        self.spec = spec
        self.kind = kind
        self.lines: list[str] = []
        self._layout = table_layout(spec)
        self._stash = stash_layout(spec)

    def __call__(self, *lines: str) -> None:
        """Append lines of the kernel's body."""
        self.lines.extend(f"    {line}" if line else "" for line in lines)

    def equation(self, text: str) -> None:
        """Begin a block and name what it computes."""
        self("", f"# {text}")

    def offset(self, name: str) -> str:
        """Name of the constant that tells where a matrix lies in the table."""
        assert name in self._layout, name
        return offset_constant(name)

    def weights(self, name: str) -> str:
        """Expression for a weight matrix in parts."""
        block = self._layout[name]
        place = f"{self.offset(name)}, {block.rows}, {block.cols}"
        return f"weight_tile(table, parts, {place}, PRECISION)"

    def first_weights(self, group: int) -> str:
        """Expression for K1 of the centre's type and a group of neighbour types in parts."""
        block = self._layout[f"K1_0_{group}"]
        offset = self.offset(f"K1_0_{group}")
        if self.spec.num_types > 1:
            # The groups of one centre type follow each other, then come those of the next.
            stride = self._layout["K1_1_0"].offset - self._layout["K1_0_0"].offset
            offset += f" + centre_type * {stride}"
        return f"weight_tile(table, parts, {offset}, {block.rows}, {block.cols}, PRECISION)"

    def floats(self, name: str) -> str:
        """Expression for a matrix as a float32 tile."""
        block = self._layout[name]
        return f"float_tile(table, {self.offset(name)}, {block.rows}, {block.cols})"

    def row(self, name: str, index: int = 0) -> str:
        """Expression for one row of a matrix as a vector."""
        block = self._layout[name]
        first = f"{self.offset(name)} + {index * block.cols}"
        return f"tl.load(table + {first} + tl.arange(0, {block.cols}))"

    def per_type(self, name: str) -> str:
        """Expression for the number that belongs to the centre's type."""
        suffix = " + centre_type" if self.spec.num_types > 1 else ""
        return f"tl.load(table + {self.offset(name)}{suffix})"

    def type_energy(self, name: str) -> str:
        """Expression for the float64 scale or shift of the centre's type."""
        first = {"scale": 0, "shift": self.spec.num_types}[name]
        suffix = " + centre_type" if self.spec.num_types > 1 else ""
        return f"tl.load(type_energies + {first}{suffix})"

    def per_pair(self, name: str) -> str:
        """Expression for the numbers that belong to the types of centre and neighbours."""
        if self.spec.num_types == 1:
            return f"tl.load(table + {self.offset(name)})"
        start = f"{self.offset(name)} + centre_type * {self.spec.num_types}"
        return f"tl.load(table + {start} + neighbour_type)"

    def component_tile(self, name: str, slab: Slab) -> str:
        """Address of a slab's tile of components × channels in the stash."""
        index = self._stash.components[name] * len(self.spec.slabs) + slab.index
        return f"stash + {index * COMPONENTS * self.spec.channels}"

    def component_row(self, name: str, component: int) -> str:
        """Arguments that tell where the rows of one component lm lie, see `load_component`."""
        slab = next(s for s in self.spec.slabs if s.first <= component < s.first + s.size)
        place = f"{component - slab.first}, {slab.size}, {self.spec.channels}"
        return f"{self.component_tile(name, slab)}, {place}"

    def edge_tile(self, name: str) -> str:
        """Address of a tile of edges × width in the stash."""
        base = self._stash.component_floats
        return f"stash + {base} + {self._stash.edges[name]} * E"

    def product(self, total: str, a: str, b: str, *, first: bool) -> None:
        """total = a · b, or total += a · b."""
        if first:
            self(f"{total} = dot({a}, {b}, PRECISION)")
        else:
            self(f"{total} = dot_add({a}, {b}, {total}, PRECISION)")

    def sum_of_products(self, total: str, factors: Iterable[tuple[str, str]]) -> None:
        """total = Σ a · b."""
        for index, (a, b) in enumerate(factors):
            self.product(total, a, b, first=index == 0)


def offset_constant(name: str) -> str:
    """Name, in the generated module, of the offset of a matrix in the table."""
    return f"AT_{name}"


class StashLayout:
    """What each program leaves in the stash: tiles of components, then tiles of edges.

    Attributes:
        components: index of each group of tiles, a (COMPONENTS, U) tile for each slab:
            environment_n, functional_n, cotangent_n, the gradient with respect to the latter, and
            pull_t_n, what of it reaches A_t.
        component_floats: numbers of all of them.
        edges: offset, in numbers per edge, of each (E, width) tile: weights_l, those of the edge's
            tensor of degree l, pre-activations z_n, which become their gradients on the way back,
            readout, the gradient of the readout's pre-activation, and scalars_n, the gradient of
            s_n.
        edge_width: numbers per edge.
    """

    def __init__(self, spec: KernelSpec) -> None:
        L = spec.num_layers
        names = [f"environment_{n}" for n in range(L)]
        for n in range(1, L):
            names += [f"functional_{n}", f"cotangent_{n}"]
            names += [f"pull_{t}_{n}" for t in range(n + 1)]
        self.components = {name: index for index, name in enumerate(names)}
        self.component_floats = len(names) * len(spec.slabs) * COMPONENTS * spec.channels
        widths = {f"weights_{degree}": spec.channels for degree in spec.degrees}
        widths |= {f"z_{n}": spec.hidden_widths[n] for n in range(1, L + 1)}
        widths["readout"] = spec.readout_width
        widths |= {f"scalars_{n}": spec.channels for n in range(1, L)}
        self.edges: dict[str, int] = {}
        self.edge_width = 0
        for name, width in widths.items():
            self.edges[name] = self.edge_width
            self.edge_width += width

    def floats_per_program(self, edges: int) -> int:
        """Float32 numbers that one program takes with tiles of `edges` rows."""
        return self.component_floats + edges * self.edge_width


def stash_layout(spec: KernelSpec) -> StashLayout:
    """Layout of the stash for an expert."""
    return StashLayout(spec)
