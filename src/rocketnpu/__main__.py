"""`python -m rocketnpu` is the command `rocketnpu`."""

import sys

from rocketnpu.cli import main

sys.exit(main())
