"""`python -m rocketnpu.hw.registers > docs/hardware/register-list.md`: the table as a page."""

from rocketnpu.hw.registers.page import register_page

print(register_page(), end="")
