"""A process for `gpu_parts.children`: sends two records, then does what its settings say."""

import os
import sys
import time

from gpu_parts.children import Reporter

reporter = Reporter()
print("this is no event")
for number in (1, 2):
    reporter.send(record={"number": number, "pid": os.getpid()})
if reporter.settings["then"] == "sleep":
    time.sleep(60)
if reporter.settings["then"] == "die":
    sys.exit("out of memory")
reporter.end()
