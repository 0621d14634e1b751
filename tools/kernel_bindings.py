#!/usr/bin/env python3
"""Make what Cython sees of the kernels from csrc/kernels/kernel_list.h; the build runs it.

::

    tools/kernel_bindings.py kernel_list.h FOLDER

writes into FOLDER

- ``kernel_calls.h``: for each kernel a function ``fnn_call_<name>(table, single, ...)``, which takes elements as
  ``void *`` and calls the kernel of the table for float (`single`) or double;
- ``kernel_calls.pxi``: their declarations, for kernels.pxd;
- ``kernel_bindings.pxi``: a Python function for each, for kernels.pyx. It takes the kernel's arguments in their order:
  an array for each pointer, or None for NULL, and a matrix for a table of rows. Element types, contiguity, alignment
  and writability of the arrays are checked, their sizes are not. The kernels of WITHOUT_FUNCTION have none.

An argument of a type that is not known here is refused.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

NUMBERS = {"ptrdiff_t": "Py_ssize_t", "int": "int", "double": "double", "uint64_t": "uint64_t"}
# formats of the buffers whose elements may be of the type
FORMATS = {"int64_t": "lq", "int32_t": "i", "uint64_t": "LQ", "ptrdiff_t": "lq", "double": "d", "void": ""}
# kernels that have no Python function, for they take these types
WITHOUT_FUNCTION = {
    "hessian_pairs": {"fnn_block", "fnn_pairs"},
    "hessian_products": {"fnn_block", "fnn_products"},
    "update": {"fnn_numbers", "REAL *const"},
    "rule_code": {"char"},
    "lane_update": {"fnn_lane_step"},
}


class Argument(NamedTuple):
    """An argument of a kernel: its type without const, how many times it is a pointer, and whether it is only read."""

    name: str
    type: str
    pointers: int
    constant: bool


class Kernel(NamedTuple):
    result: str
    name: str
    arguments: tuple[Argument, ...]


def parse(text: str) -> list[Kernel]:
    """The kernels of a kernel_list.h."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", text, flags=re.S)
    kernels = []
    for match in re.finditer(r"KERNEL\(\s*(\w+),\s*(\w+),\s*\((.*?)\)\)", text, flags=re.S):
        arguments = []
        for declaration in match[3].split(","):
            words = declaration.split()
            name = words[-1].lstrip("*")
            kind = next(word for word in words if word not in ("const", "*") and "*" not in word)
            arguments.append(Argument(name, kind, declaration.count("*"), words[0] == "const"))
        kernels.append(Kernel(match[1], match[2], tuple(arguments)))
        check(kernels[-1])
    if len(kernels) != text.count("KERNEL("):
        raise SystemExit(f"kernel_bindings: {text.count('KERNEL(')} kernels, of which {len(kernels)} could be read")
    return kernels


def check(kernel: Kernel) -> None:
    """Refuse a kernel with an argument that no Python function could be made for."""
    for a in kernel.arguments:
        special = WITHOUT_FUNCTION.get(kernel.name, set())
        pointed = {*FORMATS, "REAL", "fnn_terms"} | special
        known = {
            0: a.type in NUMBERS,
            1: a.type in pointed,
            2: a.type == "REAL" and (a.constant or "REAL *const" in special),
        }
        if not known.get(a.pointers, False):
            written = f"{'const ' * a.constant}{a.type} {'*' * a.pointers}".rstrip()
            raise SystemExit(f"kernel_bindings: kernel {kernel.name}: argument {a.name} has unknown type {written}")


def c_type(argument: Argument, real: str) -> str:
    """The argument's C type with `real` for REAL."""
    kind = real if argument.type == "REAL" else argument.type
    constant = "const " if argument.constant else ""
    return {0: kind, 1: f"{constant}{kind} *", 2: f"{constant}{kind} *const *"}[argument.pointers]


def call_header(kernels: list[Kernel]) -> str:
    """kernel_calls.h."""
    lines = ["/* Made by tools/kernel_bindings.py. */", '#include "kernels/dispatch.h"', ""]
    for kernel in kernels:
        declared = ", ".join(f"{c_type(a, 'void')} {a.name}" for a in kernel.arguments)
        lines.append(
            f"static inline {kernel.result} fnn_call_{kernel.name}(const fnn_kernels *table, int single, {declared})"
        )
        calls = []
        for real, member in (("float", "f32"), ("double", "f64")):
            given = ", ".join(f"({c_type(a, real)}){a.name}" if a.pointers else a.name for a in kernel.arguments)
            calls.append(f"table->{member}.{kernel.name}({given});")
        give = "" if kernel.result == "void" else "return "
        lines += ["{", f"    if (single)\n        {give}{calls[0]}\n    else\n        {give}{calls[1]}", "}", ""]
    return "\n".join(lines)


def call_declarations(kernels: list[Kernel]) -> str:
    """kernel_calls.pxi."""
    lines = ["# Made by tools/kernel_bindings.py.", 'cdef extern from "kernel_calls.h" nogil:']
    for kernel in kernels:
        declared = ", ".join(f"{c_type(a, 'void')} {a.name}".replace("*const *", "**") for a in kernel.arguments)
        lines.append(f"    {kernel.result} fnn_call_{kernel.name}(const fnn_kernels *table, int single, {declared})")
    return "\n".join(lines) + "\n"


def binding(kernel: Kernel) -> list[str]:
    """The Python function of a kernel."""
    declared, body, given, tables = [], ["cdef char element = 0"], [], []
    for a in kernel.arguments:
        name = a.name
        if not a.pointers:
            declared.append(f"{NUMBERS[a.type]} {name}")
            given.append(name)
            continue
        declared.append(name)
        given.append(f"{name}_")
        if a.type == "fnn_terms":
            body += [f"cdef fnn_terms {name}_values = terms_of({name})", f"cdef fnn_terms *{name}_ = &{name}_values"]
        elif a.pointers == 2:
            tables.append(name)
        elif a.type == "REAL":
            body.append(f'cdef void *{name}_ = elements("{name}", {name}, &element, {int(not a.constant)})')
        else:
            formats, writable = FORMATS[a.type], int(not a.constant)
            body.append(f'cdef {a.type} *{name}_ = <{a.type} *>address("{name}", {name}, b"{formats}", {writable})')
    call = f"fnn_call_{kernel.name}(table, element == c'f', {', '.join(given)})"
    if kernel.result != "void":
        body.append(f"cdef {kernel.result} result")
        call = f"result = {call}"
    run = ["with nogil:", f"    {call}"]
    if tables:  # freed whatever is refused
        body += [f"cdef const void **{name}_ = NULL" for name in tables]
        run = [f'{name}_ = rows_of("{name}", {name}, &element)' for name in tables] + run
        run = ["try:", *(f"    {line}" for line in run), "finally:", *(f"    free({name}_)" for name in tables)]
    body += run
    if kernel.result != "void":
        body.append("return result")
    return [f"def {kernel.name}({', '.join(declared)}):", *(f"    {line}" for line in body), "", ""]


def bindings(kernels: list[Kernel]) -> str:
    """kernel_bindings.pxi."""
    lines = ["# Made by tools/kernel_bindings.py.", ""]
    for kernel in kernels:
        if kernel.name not in WITHOUT_FUNCTION:
            lines += binding(kernel)
    return "\n".join(lines)


def main(source: str, folder: str) -> None:
    kernels = parse(Path(source).read_text(encoding="utf-8"))
    files = {"kernel_calls.h": call_header, "kernel_calls.pxi": call_declarations, "kernel_bindings.pxi": bindings}
    for name, make in files.items():
        Path(folder, name).write_text(make(kernels), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
