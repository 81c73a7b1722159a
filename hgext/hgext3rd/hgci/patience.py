# patience.py - waiting for a daemon that is busy or went away
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.

from __future__ import annotations

import time

from mercurial.i18n import _

from .text import printable

# How many seconds a reader waits for a daemon that is busy or went away, before it
# takes it to be gone: once, and at most before it asks again. A daemon that is
# followed may be restarted meanwhile, or its machine, or what is between.
PATIENCE = 120
FOLLOWING = 900
MAXRETRY = 60

# Who waits longer is told why.
TELL = 5


class Waiting:
    """the patience of one reader; with ``follow``, of who waits for an end anyway

    Calls ``tells`` before anything is written.
    """

    def __init__(self, ui, follow, tells=lambda: None):
        self._ui = ui
        self._tells = tells
        self._patience = FOLLOWING if follow else PATIENCE
        self._since = None
        self._told = False
        # Whether there was an answer at all.
        self.heard = False

    def over(self):
        """there was an answer"""
        self.heard = True
        self._since = None
        self._told = False

    def wait(self, seconds, why):
        """waits so long, or as long as patience allows; false where it is at its end"""
        now = time.monotonic()
        if self._since is None:
            self._since = now
        left = self._since + self._patience - now
        if left <= 0:
            return False
        seconds = min(max(seconds, 1), MAXRETRY, left)
        if not self._told and now + seconds - self._since >= TELL:
            self._tells()
            self._ui.warn(_(b'ci: waiting: %s\n') % printable(why))
            self._told = True
        time.sleep(seconds)
        return True
