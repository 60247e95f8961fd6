"""Turn the output of "stats --json" into metrics for node_exporter's textfile collector."""

import json
import sys

figures = json.load(sys.stdin)
for state in ("signed_in", "anonymous", "replaced", "expired", "purgeable"):
    print(f'sqlsession_sessions{{state="{state}"}} {figures[state]}')
print(f"sqlsession_data_bytes {figures['bytes']}")
print(f"sqlsession_data_bytes_mean {figures['mean']}")
