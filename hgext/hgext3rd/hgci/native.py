# native.py - the native part, when it is needed
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""What ``_native`` has. hg's demandimport puts off Python alone: a library would be
opened as soon as it is named, by each command of hg."""


def __getattr__(name):
    from . import _native

    return getattr(_native, name)
