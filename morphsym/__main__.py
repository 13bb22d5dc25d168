"""``python -m morphsym``: the command line, also in a plain checkout."""

import importlib.util
import sys
from pathlib import Path


def _command_line() -> None:
    if importlib.util.find_spec("morphsym_cli") is None:  # a plain checkout: the folder is called cli/
        folder = Path(__file__).resolve().parent.parent / "cli"
        spec = importlib.util.spec_from_file_location(
            "morphsym_cli", folder / "__init__.py", submodule_search_locations=[str(folder)]
        )
        if spec is None or spec.loader is None or not folder.is_dir():
            sys.exit("morphsym: the package morphsym_cli is missing; reinstall morphsym")
        module = importlib.util.module_from_spec(spec)
        sys.modules["morphsym_cli"] = module
        spec.loader.exec_module(module)
    from morphsym_cli import main

    main()


_command_line()
