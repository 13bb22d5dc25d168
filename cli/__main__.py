"""``python -m morphsym_cli``."""

from . import main

main()
