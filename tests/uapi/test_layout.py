"""Both drivers' structs and request codes are those of the C headers (hardware/kernels.md)."""

from __future__ import annotations

import ctypes
import subprocess
from pathlib import Path

import pytest

from rocketnpu.uapi import drm, rknpu, rocket

REQUESTS = {
    drm.VERSION: 0xC0406400,
    drm.GEM_CLOSE: 0x40086409,
    rocket.CREATE_BO: 0xC0186440,
    rocket.SUBMIT: 0x40186441,
    rocket.PREP_BO: 0x40106442,
    rocket.FINI_BO: 0x40086443,
    rknpu.ACTION: 0xC0086440,
    rknpu.SUBMIT: 0xC0686441,
    rknpu.MEM_CREATE: 0xC0306442,
    rknpu.MEM_MAP: 0xC0106443,
    rknpu.MEM_DESTROY: 0xC0106444,
    rknpu.MEM_SYNC: 0xC0206445,
}

OFFSETS: dict[type[ctypes.Structure], tuple[int, dict[str, int]]] = {
    rocket.CreateBo: (24, {"size": 0, "handle": 4, "dma_address": 8, "offset": 16}),
    rocket.Submit: (24, {"jobs": 0, "job_count": 8, "job_struct_size": 12, "reserved": 16}),
    rocket.PrepBo: (16, {"handle": 0, "reserved": 4, "timeout_ns": 8}),
    rocket.FiniBo: (8, {"handle": 0, "reserved": 4}),
    rocket.Job: (
        40,
        {
            "tasks": 0,
            "in_bo_handles": 8,
            "out_bo_handles": 16,
            "task_count": 24,
            "task_struct_size": 28,
            "in_bo_handle_count": 32,
            "out_bo_handle_count": 36,
        },
    ),
    rocket.Task: (8, {"regcmd": 0, "regcmd_count": 4}),
    rknpu.Action: (8, {"flags": 0, "value": 4}),
    rknpu.MemCreate: (
        48,
        {
            "handle": 0,
            "flags": 4,
            "size": 8,
            "obj_addr": 16,
            "dma_addr": 24,
            "sram_size": 32,
            "iommu_domain_id": 40,
            "core_mask": 44,
        },
    ),
    rknpu.MemMap: (16, {"handle": 0, "reserved": 4, "offset": 8}),
    rknpu.MemDestroy: (16, {"handle": 0, "reserved": 4, "obj_addr": 8}),
    rknpu.MemSync: (32, {"flags": 0, "reserved": 4, "obj_addr": 8, "offset": 16, "size": 24}),
    rknpu.Submit: (
        104,
        {
            "flags": 0,
            "timeout": 4,
            "task_start": 8,
            "task_number": 12,
            "task_counter": 16,
            "priority": 20,
            "task_obj_addr": 24,
            "iommu_domain_id": 32,
            "reserved": 36,
            "task_base_addr": 40,
            "hw_elapse_time": 48,
            "core_mask": 56,
            "fence_fd": 60,
            "subcore_task": 64,
        },
    ),
    rknpu.Task: (
        40,
        {
            "flags": 0,
            "op_idx": 4,
            "enable_mask": 8,
            "int_mask": 12,
            "int_clear": 16,
            "int_status": 20,
            "regcfg_amount": 24,
            "regcfg_offset": 28,
            "regcmd_addr": 32,
        },
    ),
}

HEADER_NAMES: dict[type[ctypes.Structure], str] = {
    rocket.CreateBo: "drm_rocket_create_bo",
    rocket.Submit: "drm_rocket_submit",
    rocket.PrepBo: "drm_rocket_prep_bo",
    rocket.FiniBo: "drm_rocket_fini_bo",
    rocket.Job: "drm_rocket_job",
    rocket.Task: "drm_rocket_task",
}
"""Our structs, and their names in the installed header."""


@pytest.mark.parametrize(("code", "expected"), REQUESTS.items(), ids=[f"{code:#x}" for code in REQUESTS.values()])
def test_request_codes_are_the_documented_ones(code: int, expected: int) -> None:
    assert f"{code:#x}" == f"{expected:#x}"


@pytest.mark.parametrize(
    "struct", OFFSETS, ids=lambda struct: f"{struct.__module__.rpartition('.')[2]}.{struct.__name__}"
)
def test_structs_have_the_documented_sizes_and_offsets(struct: type[ctypes.Structure]) -> None:
    found = (ctypes.sizeof(struct), {field[0]: getattr(struct, field[0]).offset for field in struct._fields_})
    assert found == OFFSETS[struct]


def test_the_compiler_sees_the_installed_rocket_header_the_same_way(tmp_path: Path) -> None:
    if subprocess.run(
        ["cc", "-E", "-x", "c", "-"],
        input="#include <drm/rocket_accel.h>\n",
        capture_output=True,
        text=True,
        check=False,
    ).returncode:
        pytest.skip("drm/rocket_accel.h is not installed (linux-libc-dev of Linux 6.18 or later has it)")
    checks = [
        f'_Static_assert(sizeof(struct {name}) == {ctypes.sizeof(struct)}, "sizeof {name}");'
        for struct, name in HEADER_NAMES.items()
    ]
    checks += [
        f'_Static_assert(offsetof(struct {name}, {field[0]}) == {getattr(struct, field[0]).offset}, "{field[0]}");'
        for struct, name in HEADER_NAMES.items()
        for field in struct._fields_
    ]
    checks += [
        f'_Static_assert(DRM_IOCTL_ROCKET_{name} == {code:#x}u, "{name}");' for code, name in rocket.NAMES.items()
    ]
    source = tmp_path / "probe.c"
    source.write_text("#include <stddef.h>\n#include <drm/rocket_accel.h>\n" + "\n".join(checks) + "\n")
    compiled = subprocess.run(["cc", "-fsyntax-only", str(source)], capture_output=True, text=True, check=False)
    assert compiled.returncode == 0, compiled.stderr
