"""Reads the text of a program that XLA has compiled: what it runs, what each part of it costs.

Only what XLA's GPU compiler writes is known here: fusions, copies, products, cuDNN's convolutions,
collectives and loops of a fixed length.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

Computation = Mapping[str, "Instruction"]

_COMPUTATION = re.compile(r"(ENTRY )?%([\w.-]+) \(.*\{$")
_INSTRUCTION = re.compile(r"\s+(?:ROOT )?%([\w.-]+) = (\(.*?\)|\S+) ([a-z][\w-]*)\((.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")

# They move nothing: names for memory, or the end of what a "start" has begun and counts.
_FREE = {"after-all", "bitcast", "constant", "get-tuple-element", "parameter", "tuple"}
_FREE |= {"all-gather-done", "all-reduce-done", "partition-id"}


@dataclass(frozen=True)
class Instruction:
    """One line of a computation.

    Attributes:
        name: unique in the module.
        shape: of its result, as text; of a tuple, those of all parts.
        opcode: such as "fusion".
        operands: names of instructions of the same computation.
        rest: what follows the opcode: operands and attributes.
    """

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str

    def attribute(self, pattern: str) -> str | None:
        """Returns the first group of a regular expression in the attributes; None without it."""
        found = re.search(pattern, self.rest)
        return found.group(1) if found else None

    @property
    def op_name(self) -> str:
        """The function of the source that it comes from; "" if it is XLA's own."""
        return self.attribute(r'op_name="([^"]*)"') or ""


@dataclass(frozen=True)
class Module:
    """A compiled program.

    Attributes:
        computations: all of them by name, those inside of fusions and loops included.
        entry: name of the one where it begins.
    """

    computations: Mapping[str, Computation]
    entry: str

    def find(self, *opcodes: str) -> list[Instruction]:
        """Returns the instructions with one of these opcodes, wherever they are."""
        inside = (each for lines in self.computations.values() for each in lines.values())
        return [each for each in inside if each.opcode in opcodes]

    def run(self, name: str | None = None, times: int = 1) -> Iterator[tuple[Cost, int]]:
        """Yields the cost of each instruction that runs, and how often it does.

        Args:
            name: of a computation; None: the entry.
            times: how often this computation runs.
        """
        computation = self.computations[name or self.entry]
        for each in computation.values():
            if each.opcode == "while":
                trips = each.attribute(r'"known_trip_count":\{"n":"(\d+)"')
                if trips is None:
                    raise ValueError(f"the loop {each.name} has no fixed length")
                yield from self.run(each.attribute(r"body=%([\w.-]+)"), times * int(trips))
            elif each.opcode not in _FREE:
                yield self._cost(each, computation), times

    def _cost(self, each: Instruction, computation: Computation) -> Cost:
        called = each.attribute(r"calls=%([\w.-]+)")
        inside = self.computations[called] if called else {}
        read = sum(
            _bytes_read(each, number, computation[name].shape, inside)
            for number, name in enumerate(each.operands)
        )
        products = [(dot, inside) for dot in inside.values() if dot.opcode == "dot"]
        if each.opcode in ("dot", "custom-call"):
            products.append((each, computation))
        flop = sum(_flop(*product) for product in products)
        factors = [lines[product.operands[0]].shape for product, lines in products]
        dtype = _ARRAY.findall(factors[0])[0][0] if factors else ""
        return Cost(read + bytes_of(each.shape), flop, dtype)


@dataclass(frozen=True)
class Cost:
    """What one run of an instruction costs.

    Attributes:
        bytes_moved: of its operands and results. Of an operand out of which it only gathers, those
            that it gathers.
        flop: of products and convolutions; nothing else is counted.
        dtype: of their first factor, such as "f32"; "" without any.
    """

    bytes_moved: int
    flop: int
    dtype: str


def read_module(text: str) -> Module:
    """Returns the module that `jax.stages.Compiled.as_text` has written.

    Raises:
        ValueError: the text has no entry computation.
    """
    computations: dict[str, dict[str, Instruction]] = {}
    lines: dict[str, Instruction] = {}
    entry = ""
    for line in text.splitlines():
        if begun := _COMPUTATION.match(line):
            lines = computations[begun.group(2)] = {}
            entry = begun.group(2) if begun.group(1) else entry
        elif found := _INSTRUCTION.match(line):
            name, shape, opcode, rest = found.groups()
            operands = re.findall(r"%([\w.-]+)", rest.partition(")")[0])
            lines[name] = Instruction(name, shape, opcode, tuple(operands), rest)
    if not entry:
        raise ValueError("this is not the text of a compiled program: it has no ENTRY")
    return Module(computations, entry)


def bytes_of(shape: str) -> int:
    """Returns the bytes of an array, "f32[2,3]{1,0}", or of all arrays of a tuple."""
    return sum(math.prod(sizes) * bits // 8 for bits, sizes in map(_bits, _ARRAY.findall(shape)))


def _bits(array: tuple[str, str]) -> tuple[int, list[int]]:
    dtype, sizes = array
    digits = re.search(r"\d+", dtype)
    return (int(digits.group()) if digits else 8), _integers(sizes)  # "pred" has none


def _sizes(shape: str) -> list[int]:
    """Returns the sizes of an array, or of the first one of a tuple."""
    return _integers(_ARRAY.findall(shape)[0][1])


def _integers(text: str) -> list[int]:
    return [int(number) for number in text.split(",") if number]


def _bytes_read(each: Instruction, number: int, shape: str, inside: Computation) -> int:
    """Returns the bytes that are read of an operand: all, or what is gathered out of it.

    Args:
        each: the instruction that reads it.
        number: which of its operands it is.
        shape: of the operand.
        inside: what a fusion computes; empty if `each` is none.
    """
    source, users = each.operands[number], [each]
    if inside:
        source = next(
            line.name
            for line in inside.values()
            if line.opcode == "parameter" and line.rest.startswith(f"{number})")
        )
        users = [line for line in inside.values() if source in line.operands]
    gathers = (
        line.opcode in ("gather", "dynamic-slice") and line.operands[0] == source for line in users
    )
    whole = bytes_of(shape)
    return min(whole, sum(bytes_of(line.shape) for line in users)) if all(gathers) else whole


def _flop(product: Instruction, lines: Computation) -> int:
    """Returns the multiplications and additions of a product; 0 of other custom calls."""
    shapes = [lines[name].shape for name in product.operands]
    target = product.attribute(r'custom_call_target="([^"]*)"') or ""
    if product.opcode == "dot" or "cublas" in target:
        contracted = product.attribute(r'lhs_contracting_dim\w+"?[=:][{\[]([\d,"]+)')
        if contracted is None:
            raise ValueError(f"{product.name} does not say what it sums over")
        axes = _integers(contracted.replace('"', ""))
        summed = math.prod(_sizes(shapes[0])[axis] for axis in axes)
        return 2 * math.prod(_sizes(product.shape)) * summed
    if "conv" not in target:
        return 0
    outputs, kernel = product.shape, shapes[1]
    if "BackwardInput" in target:
        outputs = shapes[0]
    elif "BackwardFilter" in target:
        outputs, kernel = shapes[1], product.shape
    layout = product.attribute(r"dim_labels=\w+_(\w+)->") or ""
    features = _sizes(kernel)[layout.index("o")]
    return 2 * math.prod(_sizes(outputs)) * math.prod(_sizes(kernel)) // features
