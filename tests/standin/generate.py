#!/usr/bin/python3
"""Generate the stand-in: an EL7-shaped, signed RPM repository made of Debian packages.

See README.md beside this file; `generate.py --help` lists the options.
"""
import sys
from pathlib import Path

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).resolve().parent))

from standin.cli import main  # noqa: E402  (the path must be set first)

if __name__ == "__main__":
    sys.exit(main())
