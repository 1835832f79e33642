"""``python -m convexnn`` is the command ``convexnn``."""

import sys

from convexnn.cli import main

sys.exit(main())
