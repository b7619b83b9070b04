"""Starts the producer where this folder, or a zip of it, is what Python runs."""

import sys

from financial_producer import main

sys.exit(main())
