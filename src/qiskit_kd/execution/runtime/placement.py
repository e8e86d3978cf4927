# SPDX-License-Identifier: Apache-2.0
"""Where on a device copies of a circuit fit: disjoint paths of qubits, judged by its calibration.

Every path of the wanted length is a candidate; a small integer programme picks disjoint ones, as
many as possible and then with as few errors as possible. Nothing is random.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from qiskit.circuit import Gate
from qiskit.transpiler import Target
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array

from qiskit_kd.errors import DeviceError

_GROWN = 60  # unfinished paths kept per starting qubit; dense couplings have millions
_OVER_A_QUBIT = 20  # candidates that hold a qubit; more make the programme slow, not better
_GAP = 1e-3  # to the optimum, relative; less than one tile
_NODES = 200  # of the search tree: a limit in seconds would not be reproducible

_Grown = tuple[float, tuple[int, ...]]


@dataclass(frozen=True)
class Tile:
    """Qubits for one copy of a circuit.

    Args:
        qubits: Physical qubits along the path; the circuit's first qubit is on the first.
        error: Faults to expect in one run: `-ln` of the probability that nothing errs, by the
            device's calibration.
    """

    qubits: tuple[int, ...]
    error: float


@dataclass(frozen=True)
class Uses:
    """How often a circuit uses each coupling, one-qubit gate and readout along a path."""

    coupling: tuple[float, ...]
    qubit: tuple[float, ...]
    readout: tuple[float, ...]

    @classmethod
    def once(cls, num_qubits: int) -> Uses:
        """Every part once."""
        ones = (1.0,) * num_qubits
        return cls(ones[1:], ones, ones)


@dataclass(frozen=True)
class Costs:
    """Faults to expect of each part of a device; what is out of order is infinite.

    Args:
        coupling: `(low, high)` pairs of qubits; None where any two can interact.
        qubit: `(num_qubits,)` of a one-qubit gate.
        readout: `(num_qubits,)` of a measurement.
    """

    coupling: Mapping[tuple[int, int], float] | None
    qubit: NDArray[np.float64]
    readout: NDArray[np.float64]


def paths(
    target: Target,
    num_qubits: int,
    *,
    tiles: int | Literal["auto"] = "auto",
    worst: float = 3.0,
    uses: Uses | None = None,
) -> list[Tile]:
    """Disjoint paths of a device's coupling map, the best first.

    Args:
        target: The device.
        num_qubits: Qubits of each path.
        tiles: How many; `"auto"` for as many as fit.
        worst: A path with more than `worst` times the error of the best one is left out.
        uses: How often a path's parts are used; None for once each.

    Raises:
        DeviceError: If fewer paths fit than are asked for, or none at all.

    References: the choice is a maximum weight set packing; Caprara et al., "Algorithms for the set
    covering problem", Ann. Oper. Res. 98 (2000) 353, section 1.
    """
    costs, uses = device_costs(target), uses or Uses.once(num_qubits)
    found = _candidates(costs, num_qubits, uses, set())
    if not found:
        raise DeviceError(
            "a circuit fits on working qubits of the device",
            got=f"{num_qubits} qubits in a row",
            expected=f"a path on the {target.num_qubits} qubits of the device",
            remedy="Use fewer qubits or a larger device.",
        )
    limit = worst * found[0].error
    if tiles == 1:
        return found[:1]
    found = [tile for tile in found if tile.error <= limit]
    chosen = _packed(found, None)
    # On dense devices candidates are a few of very many, and lie on one another.
    chosen += _beside(costs, num_qubits, uses, chosen, limit)
    chosen.sort(key=_rank)
    if tiles == "auto":
        return chosen
    if tiles > len(chosen):
        raise DeviceError(
            f"tiles fit on the device beside each other, none with over {worst:g} times the errors "
            "of the best",
            got=f"tiles: {tiles} of {num_qubits} qubits",
            expected=f"at most {len(chosen)}",
            remedy="Ask for fewer, or set tiles: auto.",
        )
    return sorted(_packed(found, tiles) or chosen[:tiles], key=_rank)


def left_out(
    target: Target, num_qubits: int, chosen: Sequence[Tile], *, uses: Uses | None = None
) -> list[Tile]:
    """Disjoint paths that would have fitted beside those chosen, the best first; see `paths`."""
    uses = uses or Uses.once(num_qubits)
    return _beside(device_costs(target), num_qubits, uses, chosen, math.inf)


def _beside(
    costs: Costs, num_qubits: int, uses: Uses, chosen: Sequence[Tile], limit: float
) -> list[Tile]:
    """Paths beside those chosen, one after the other the best of those within the limit."""
    used, found = {q for tile in chosen for q in tile.qubits}, []
    while more := _candidates(costs, num_qubits, uses, used)[:1]:
        if more[0].error > limit:
            break
        found += more
        used.update(more[0].qubits)
    return found


def _rank(tile: Tile) -> tuple[float, tuple[int, ...]]:
    return tile.error, tile.qubits


def device_costs(target: Target) -> Costs:
    """What the calibration says of every qubit and coupling.

    A part without calibration counts as out of order where others of its kind have one.
    """
    one, two = _gates(target, 1), _gates(target, 2)
    couplings: dict[tuple[int, int], float] = {}
    anywhere = not two
    for name in two:
        known = target[name]
        if known is None or None in known:
            anywhere = True
            continue
        for (a, b), cost in _known(known).items():
            pair = (min(a, b), max(a, b))
            # The same interaction stands under two names or directions: the better one is used.
            couplings[pair] = min(cost, couplings.get(pair, math.inf))
    qubit, readout = np.zeros(target.num_qubits), np.zeros(target.num_qubits)
    for name in one:
        for (q,), cost in _known(target[name]).items():
            qubit[q] = max(qubit[q], cost)
    if "measure" in target.operation_names:
        for (q,), cost in _known(target["measure"]).items():
            readout[q] = cost
    return Costs(None if anywhere else couplings, qubit, readout)


def _gates(target: Target, width: int) -> list[str]:
    """Names of the unitary gates on so many qubits that take time."""
    return [
        name
        for name in target.operation_names
        if isinstance(gate := target.operation_from_name(name), Gate)
        and gate.num_qubits == width
        and name not in ("rz", "id")
    ]


def _known(places: Mapping[Any, Any] | None) -> dict[tuple[int, ...], float]:
    """Places of a gate to `-ln(1 - error)`."""
    if places is None or None in places:
        return {}
    errors = {qubits: getattr(known, "error", None) for qubits, known in places.items()}
    missing = 0.0 if all(error is None for error in errors.values()) else 1.0
    return {
        qubits: _faults(missing if error is None else error) for qubits, error in errors.items()
    }


def _faults(error: float) -> float:
    return math.inf if error >= 1 else -math.log1p(-error)


def _candidates(costs: Costs, num_qubits: int, uses: Uses, used: set[int]) -> list[Tile]:
    """Every path of working qubits that are not used yet, the way round that errs less; best first.

    On dense devices only the best from each qubit; where any two qubits can interact, blocks.
    """
    free = [q for q in range(len(costs.qubit)) if q not in used]
    if costs.coupling is None:
        free = [q for q in free if math.isfinite(costs.qubit[q] + costs.readout[q])]
        ends = range(num_qubits, len(free) + 1, num_qubits)
        blocks = [tuple(free[end - num_qubits : end]) for end in ends]
        return sorted(
            (Tile(b, sum(_alone(costs, uses, q, k) for k, q in enumerate(b))) for b in blocks),
            key=_rank,
        )
    beside: dict[int, list[tuple[int, float]]] = {q: [] for q in free}
    for (a, b), cost in sorted(costs.coupling.items()):
        if math.isfinite(cost) and a in beside and b in beside:
            beside[a].append((b, cost))
            beside[b].append((a, cost))
    found: dict[tuple[int, ...], Tile] = {}
    for start in beside:
        grown: list[_Grown] = [(_alone(costs, uses, start, 0), (start,))]
        for k in range(1, num_qubits):
            longer = [
                (error + uses.coupling[k - 1] * cost + _alone(costs, uses, q, k), (*path, q))
                for error, path in grown
                for q, cost in beside[path[-1]]
                if q not in path
            ]
            grown = sorted(longer)[:_GROWN]
        for error, path in grown:
            other = found.get(path[::-1])
            if math.isfinite(error) and (other is None or error < other.error):
                found.pop(path[::-1], None)
                found[path] = Tile(path, error)
    return sorted(found.values(), key=_rank)


def _alone(costs: Costs, uses: Uses, qubit: int, place: int) -> float:
    """Faults of a qubit at a place of the path; infinite where it is out of order."""
    if math.isinf(costs.qubit[qubit]):
        return math.inf
    total = float(costs.qubit[qubit]) * uses.qubit[place]
    if uses.readout[place]:  # what is never read may be unreadable
        total += float(costs.readout[qubit]) * uses.readout[place]
    return total


def _packed(candidates: Sequence[Tile], count: int | None) -> list[Tile]:
    """Disjoint candidates: as many as possible, or `count`; empty if there are fewer."""
    greedy: list[Tile] = []
    taken: set[int] = set()
    for tile in candidates:
        if taken.isdisjoint(tile.qubits):
            greedy.append(tile)
            taken.update(tile.qubits)
    if len(greedy) == len(candidates):
        return greedy[:count]
    chosen = _optimal(_thinned(candidates), count)
    if count is None:
        return chosen if len(chosen) >= len(greedy) else greedy
    return chosen or (greedy[:count] if len(greedy) >= count else [])


def _thinned(candidates: Sequence[Tile]) -> list[Tile]:
    """Candidates that are among the best for one of their qubits; `candidates` are in order."""
    seen = Counter[int]()
    kept = []
    for tile in candidates:
        if any(seen[q] < _OVER_A_QUBIT for q in tile.qubits):
            kept.append(tile)
            seen.update(tile.qubits)
    return kept


def _optimal(candidates: Sequence[Tile], count: int | None) -> list[Tile]:
    """The packing with the least sum of errors among the largest ones; empty if none was found."""
    size = len(candidates)
    qubits = sorted({q for tile in candidates for q in tile.qubits})
    row = {q: k for k, q in enumerate(qubits)}
    entries = [(row[q], k) for k, tile in enumerate(candidates) for q in tile.qubits]
    rows, columns = np.array(entries, dtype=np.int32).T  # of which SciPy below 1.15 takes no other
    cover = csr_array((np.ones(len(entries)), (rows, columns)), shape=(len(qubits), size))
    errors = np.array([tile.error for tile in candidates])
    # One more tile outweighs any sum of errors.
    most = len(qubits) // len(candidates[0].qubits)
    gain = float(errors.max()) * (most + 1) + 1e-3 if count is None else 0.0
    limits: list[Any] = [LinearConstraint(cover, -np.inf, 1)]
    if count is not None:
        limits.append(LinearConstraint(np.ones((1, size)), count, count))
    solved = milp(
        errors - gain,
        constraints=limits,
        bounds=Bounds(0, 1),
        integrality=np.ones(size),
        options={"node_limit": _NODES, "mip_rel_gap": _GAP},
    )
    if solved.x is None:
        return []
    return [tile for tile, x in zip(candidates, solved.x, strict=True) if x > 0.5]
