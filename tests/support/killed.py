"""Work that dies, as by SIGKILL, before any one of its steps on the disk."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

STEPS = ("replace", "rename", "link", "symlink", "unlink", "rmdir", "mkdir", "fsync")
KILLED = 9


def dies_before(step: int, work: Callable[[], object]) -> bool:
    """Do something in a child that ends, as by SIGKILL, before its n-th step; whether it did not get to the end."""
    child = os.fork()
    if child == 0:
        count = 0

        def counted(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **named: Any) -> Any:
                nonlocal count
                count += 1
                if count == step:
                    os._exit(KILLED)
                return real(*arguments, **named)

            return call

        code = 1
        try:
            for name in STEPS:
                setattr(os, name, counted(getattr(os, name)))
            work()
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    assert code in (0, KILLED)
    return code == KILLED
