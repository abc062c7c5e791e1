"""``python -m widemax``."""

from widemax.cli import main

main()
