"""``python -m nni_darts_ext`` is ``nni-darts-ext``."""

import sys

from .cli import main

sys.exit(main())
