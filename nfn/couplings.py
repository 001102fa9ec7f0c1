"""Combinatorics of equivariant linear maps: which means, diagonals and broadcasts there are.

An entry of a linear map from tensor B to tensor A has one index for every permuted axis of A and
of B, and commuting with all permutations means: the entry depends only on which of the indices
are equal. So the maps have a basis of set partitions of the axes of A and B into blocks of one
group each (axes of different groups never share an index). Cut such a partition at the border of
B and A: on the side of B it is a partition of the axes of B, some of its blocks leading to A; on
the side of A likewise; and a pairing of the leading blocks, group by group. `couplings` lists
both sides by the groups in between, so that one matrix product serves all pairs of tensors.
"""

import collections
import functools
import itertools
import math
from collections.abc import Iterator
from typing import NamedTuple

from nfn.weights import TensorSpec, WeightSpace

Blocks = tuple[tuple[int, ...], ...]


class View(NamedTuple):
    """One side of a coupling: a tensor through a partition of its permuted axes.

    Attributes:
        spec: The tensor.
        blocks: Places in `spec.permuted`, by first place; axes of a block share an index (they
            are on a diagonal).
        tied: Numbers of the blocks that carry the indices of the coupling, in its order. A read
            averages over the other blocks, a write is constant along them.
    """

    spec: TensorSpec
    blocks: Blocks
    tied: tuple[int, ...]

    @property
    def groups(self) -> tuple[str, ...]:
        """The groups of the tied blocks, in the order of the coupling."""
        return tuple(self.spec.permuted_groups[self.blocks[i][0]] for i in self.tied)

    @property
    def kept(self) -> tuple[int, ...]:
        """The tied blocks in the order of the tensor."""
        return tuple(sorted(self.tied))

    @property
    def name(self) -> str:
        """Path of the tensor and, on a diagonal, the axes that are equal: "h/kernel:0=1"."""
        equal = [block for block in self.blocks if len(block) > 1]
        places = ["=".join(str(self.spec.permuted[i]) for i in block) for block in equal]
        return ":".join([self.spec.path, *places])


class Coupling(NamedTuple):
    """Groups, all ways to read a tensor as an array over them, and all ways to write one.

    A linear equivariant map has one independent matrix per pair of a read and a write.
    """

    groups: tuple[str, ...]
    reads: tuple[View, ...]
    writes: tuple[View, ...]

    @property
    def name(self) -> str:
        """Key of the matrix in `LinearParams`."""
        return ",".join(self.groups) or "global"

    @property
    def num_reads(self) -> int:
        """Channels of all reads together, per channel of a weight."""
        return sum(view.spec.multiplicity for view in self.reads)


def partitions(groups: tuple[str, ...]) -> tuple[Blocks, ...]:
    """Returns all partitions of axes with these groups into blocks of one group, finest first."""
    if not groups:
        return ((),)
    *earlier, group = groups
    last, found = len(earlier), []
    for blocks in partitions(tuple(earlier)):
        found.append((*blocks, (last,)))  # the last axis has a block of its own, or joins one
        found += [
            (*blocks[:i], (*block, last), *blocks[i + 1 :])
            for i, block in enumerate(blocks)
            if groups[block[0]] == group
        ]
    return tuple(found)


@functools.cache
def couplings(space: WeightSpace) -> tuple[Coupling, ...]:
    """Returns every multiset of groups that some tensor carries, smaller ones first.

    Source: Maron et al. (2019), Theorem 1, for several groups; for MLPs Zhou et al. (2023a),
    Proposition 1.

    All orders of equal groups are on the side of the reads, so that no map is counted twice.
    """
    rank = {group: place for place, group in enumerate(space.group_sizes)}
    reads: dict[tuple[str, ...], list[View]] = collections.defaultdict(list)
    writes: dict[tuple[str, ...], list[View]] = collections.defaultdict(list)
    for view in itertools.chain.from_iterable(_views(spec) for spec in space.tensors):
        ranks = [rank[group] for group in view.groups]
        if ranks == sorted(ranks):
            reads[view.groups].append(view)
            if view.tied == tuple(i for _, i in sorted(zip(ranks, view.tied, strict=True))):
                writes[view.groups].append(view)
    return tuple(
        Coupling(groups, tuple(reads[groups]), tuple(writes[groups]))
        for groups in sorted(reads, key=lambda g: (len(g), [rank[group] for group in g]))
    )


def _views(spec: TensorSpec) -> Iterator[View]:
    """Yields a tensor through all partitions, with all choices of blocks in all orders."""
    for blocks in partitions(spec.permuted_groups):
        for size in range(len(blocks) + 1):
            for tied in itertools.permutations(range(len(blocks)), size):
                yield View(spec, blocks, tied)


def num_linear_parameters(space: WeightSpace, c_in: int = 1, c_out: int = 1) -> int:
    """Returns the number of matrix entries of `equivariant_linear`, a sum of Bell numbers.

    Source: Zhou et al. (2023a), Table 1, exactly: with m_A the multiplicity of tensor A and a_g(A)
    the number of its axes with group g, sum_{A,B} m_A m_B prod_g Bell(a_g(A) + a_g(B)) for every
    pair of channels. Bell(2) = 2; a kernel that carries a group twice has Bell(4) = 15 maps to
    itself. It is the dimension of the space of equivariant maps if no group has fewer neurons
    than axes in a pair of tensors: 2 where a group occurs once per tensor (a single neuron counts
    as fixed), 4 where it occurs twice. Smaller groups have fewer maps than parameters.
    """
    return c_in * c_out * sum(_num_partitions(a, b) for a in space.tensors for b in space.tensors)


def num_constants(space: WeightSpace, c_out: int = 1) -> int:
    """Returns the number of bias entries of `equivariant_linear`, or entries of `invariant_pool`.

    Both are invariant vectors: sum_A m_A prod_g Bell(a_g(A)) for every channel.
    """
    return c_out * sum(_num_partitions(spec) for spec in space.tensors)


def _num_partitions(*specs: TensorSpec) -> int:
    """Counts the partitions of all permuted axes of some tensors, for every fixed index."""
    groups = [group for spec in specs for group in spec.permuted_groups]
    return math.prod(_bell(groups.count(group)) for group in set(groups)) * math.prod(
        spec.multiplicity for spec in specs
    )


def _bell(size: int) -> int:
    """Returns the number of partitions of a set: the last element's block has k + 1 elements."""
    return (
        1 if size == 0 else sum(math.comb(size - 1, k) * _bell(size - 1 - k) for k in range(size))
    )
