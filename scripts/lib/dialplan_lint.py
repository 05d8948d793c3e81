"""asterisklint over the dialplan, taught what its last release (0.4.3) does not know of Asterisk 22.

    python dialplan_lint.py dialplans/extensions.conf
    python dialplan_lint.py --modules dialplans/extensions.conf     the modules it needs

Teaching beats ``ALINT_IGNORE=E_APP_MISSING``: a misspelt application is the very error that must be found.
"""

from __future__ import annotations

import os
import sys
from typing import Any

# Spaces around = are how every .conf file of ours is written.
os.environ.setdefault("ALINT_IGNORE", "W_WSH_VARSET")

from asterisklint.app.base import AppBase
from asterisklint.application import AppLoader
from asterisklint.func.base import FuncBase
from asterisklint.main import main
from asterisklint.varfun import FuncLoader, VarLoader

# name -> module that has it
APPS = {"MSet": "<builtin>", "HangupCauseClear": "func_hangupcause"}
FUNCTIONS = {"UUID": "func_uuid", "HANGUPCAUSE_KEYS": "func_hangupcause"}


def teach() -> None:
    """Register what is missing, and mend a crash on ``${NAME:${VARIABLE}:1}``."""
    apps, functions = AppLoader(), FuncLoader()
    for name, module in APPS.items():
        apps.register(type(name, (AppBase,), {"__module__": f"asterisklint.app.vall.{module}"})())
    for name, module in FUNCTIONS.items():
        functions.register(type(name, (FuncBase,), {"__module__": f"asterisklint.func.vall.{module}"})())
    split = VarLoader.split_variable_slice

    def split_variable_slice(data: Any, where: Any) -> Any:
        try:
            return split(data, where)
        except TypeError:
            # It compares the start with 0; a start that is a variable can only be judged when it runs.
            return tuple(data.split(":"))

    VarLoader.split_variable_slice = staticmethod(split_variable_slice)


if __name__ == "__main__":
    teach()
    command = "modules-show" if "--modules" in sys.argv else "dialplan-check"
    sys.exit(main([command, *(word for word in sys.argv[1:] if word != "--modules")], os.environ))
