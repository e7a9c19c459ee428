"""Reading, checking and comparing programs; nothing here changes one.

program = view(read_program(Path("model.rnpu")))
lint(program)                       # findings: empty for a legal program
compare(program, view(other))       # tasks in pairs, with the registers that differ
summary(program.tasks[0], Names(program.program))
"""

from rocketnpu.inspect.diff import FieldChange, RegisterChange, TaskPair, changes, compare
from rocketnpu.inspect.extents import Access, accesses
from rocketnpu.inspect.findings import Finding
from rocketnpu.inspect.lint import lint
from rocketnpu.inspect.names import Names
from rocketnpu.inspect.source import command_program, read_program
from rocketnpu.inspect.summary import name_of, operation, summary, tensors
from rocketnpu.inspect.view import Place, ProgramView, TaskView, view

__all__ = [
    "Access",
    "FieldChange",
    "Finding",
    "Names",
    "Place",
    "ProgramView",
    "RegisterChange",
    "TaskPair",
    "TaskView",
    "accesses",
    "changes",
    "command_program",
    "compare",
    "lint",
    "name_of",
    "operation",
    "read_program",
    "summary",
    "tensors",
    "view",
]
