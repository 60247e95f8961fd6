"""``python -m pyramid_sqlsession`` is the command ``pyramid_sqlsession``."""

import sys

from .scripts import main

sys.exit(main())
