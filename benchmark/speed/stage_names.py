"""How the nodes of a staged file are named: @STAGE@ and the rest."""

from __future__ import annotations

import re

OTHER = 'proposals and the rest'
STAGE = re.compile(r'@([^@]+)@')
