"""What every paper shares: the contract, the one training loop, runs, tables and data."""

import signal
import sys

# The program `lab` (or `python -m common.lab.cli`) starts here: until `common.devices.interrupts`
# takes over, Ctrl-C ends it as the system does, without a traceback out of half an import.
PROGRAM = "".join(sys.argv[:1]).rpartition("/")[2] in ("lab", "-m")
if PROGRAM and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)
