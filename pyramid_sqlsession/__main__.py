"""``python -m pyramid_sqlsession`` is the command ``pyramid_sqlsession``."""

import sys

from .cli.main import main

sys.exit(main())
