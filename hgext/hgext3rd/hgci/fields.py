# fields.py - client side: what templates and formats see of jobs and logs
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""Programs get a time as a number, templates as a date that they can format."""

from __future__ import annotations

from mercurial import pycompat, templateutil
from mercurial.utils import cborutil

from .text import link, local


class Seconds(float):
    """seconds, since 1970 or of a duration"""

    def __reduce__(self):
        return float, (float(self),)


def encoded(seconds):
    return cborutil.streamencodebytestring(b'%.3f' % seconds)


# Mercurial's CBOR knows no fractions: there they are text.
cborutil.STREAM_ENCODERS[Seconds] = encoded


class Moment(templateutil.date):
    """a time as templates see it; where it is not formatted, the number"""

    def __init__(self, seconds):
        super().__init__((seconds, 0))
        self._seconds = seconds

    def show(self, context, mapping):
        return pycompat.bytestr(self._seconds)


class Jobs(templateutil.mappinglist):
    """a list of jobs for templates"""

    def itermaps(self, context):
        for job in self._mappings:
            started = job[b'started']
            yield job if started is None else {**job, b'started': Moment(started)}

    def tovalue(self, context, mapping):
        return templateutil.mappinglist(self._mappings).tovalue(context, mapping)


class Log(templateutil.wrappedbytes):
    """the bytes of a log; as a value, which is what `json` takes, valid UTF-8"""

    def tovalue(self, context, mapping):
        return utf8(self._value)


def utf8(log):
    """a log as UTF-8, with U+FFFD for what is none"""
    return log.decode('utf-8', 'replace').encode('utf-8')


def ofjob(job):
    """the fields of a job, but for its tests"""
    items = {
        name.encode('ascii'): local(value) if isinstance(value, str) else value
        for name, value in job.items()
        if name != 'tests'
    }
    for name in (b'duration', b'started'):
        if items[name] is not None:
            items[name] = Seconds(items[name])
    items[b'url'] = link(job['url']) or None
    # Said only where there is something to say.
    for name in (b'signal', b'why'):
        if items[name] is None:
            del items[name]
    if not items[b'allow-failure']:
        del items[b'allow-failure']
    return items
