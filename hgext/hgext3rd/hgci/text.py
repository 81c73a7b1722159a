# text.py - text from elsewhere, as a terminal may have it
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.

from __future__ import annotations

from mercurial import encoding

# C0, DEL and C1: some terminals obey the latter too.
CONTROLS = dict.fromkeys([*range(0x20), *range(0x7F, 0xA0)], ' ')
CONTROLBYTES = bytes.maketrans(bytes(range(0x20)) + b'\x7f', b' ' * 33)


def local(text):
    """text in the local encoding, as it is"""
    return encoding.unitolocal(text)


def printable(text):
    """text in the local encoding, in one line, without anything to obey"""
    if isinstance(text, bytes):
        return text.translate(CONTROLBYTES)
    return encoding.unitolocal(text.translate(CONTROLS))


def weburl(url):
    """``url`` as text if it is one that a browser only goes to, else None: anybody may
    have written it"""
    if url and url.startswith(('https://', 'http://')):
        return url.translate(CONTROLS)
    return None


def link(url):
    """the same in the local encoding, else empty"""
    return local(weburl(url) or '')


def warn(repo, notes):
    """says what is wrong with the logs, each of it once"""
    # As long as the repository is open, by whatever filter it is seen.
    said = repo.unfiltered().__dict__.setdefault('_hgcisaid', set())
    for note in notes:
        if note not in said:
            said.add(note)
            repo.ui.warn(b'ci: %s\n' % printable(note))
