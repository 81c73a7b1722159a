# webstyle.py - server side: the state of changesets on the pages of hgweb
#
# This software may be used and distributed according to the terms of the
# GNU General Public License version 2 or any later version.
"""What hgweb shows of CI, wherever it shows changesets.

The templates stay hg's: where a repository has anything to do with CI, a few of them
get a few words more as they are loaded, at places that all styles have which know
hg's own tags. A style without these places is left alone; it may use ``{ci_state}``,
``{ci_jobs}`` and ``{ci_url}`` as it likes.
"""

from __future__ import annotations

import re

from . import show

# The state as one of hg's tags: within the link that some styles make of them, and,
# where there is none, as a link itself.
STATE = (
    b'{if(ci_state, \' <span class="citag ci-{ci_state|escape}"'
    b' title="CI: {ci_state|escape}">{ci_state|escape}</span>\')}'
)
HREF = b'href="{url|urlescape}ci/{node|short}{sessionvars%urlparameter}"'
TAG = (
    b'{if(ci_state, \' <a class="citag ci-{ci_state|escape}" title="CI"'
    b" %s>{ci_state|escape}</a>')}"
) % HREF

PARTS = {b'cistate': STATE, b'citag': TAG, b'cilink': b'<a %s>ci</a>' % HREF}

# What is added where: pattern, replacement.
ENTRIES = [
    (re.compile(rb'\{alltags\}(?=\s*</a>)'), rb'{alltags}{cistate}'),
    (re.compile(rb'\{alltags\}(?!\s*</a>|\{cistate\})'), rb'{alltags}{citag}'),
    (
        re.compile(rb'(">changeset</a>)(?= \||<br)'),
        rb"\1{if(ci_state, ' | {cilink}')}",
    ),
]
# The menu on the page of a changeset: jobs that have not ended have no state here.
MENU = [
    (
        re.compile(rb'(<li><a [^<>]*raw-rev/[^<>]*>raw</a></li>)'),
        rb'\1<li>{cilink}</li>',
    ),
    (re.compile(rb'(?<!<li>)(<a [^<>]*raw-rev/[^<>]*>raw</a>)'), rb'\1 | {cilink}'),
]
HTML = {
    b'shortlogentry': ENTRIES,
    b'changelogentry': ENTRIES,
    b'graphentry': ENTRIES,
    b'changeset': [*ENTRIES, *MENU],
    b'header': [
        (
            re.compile(rb'(?s)(<head>(?!.*</head>).*)\Z'),
            rb'\1<link rel="stylesheet" type="text/css"'
            rb' href="{url|urlescape}cicss" />\n',
        )
    ],
}
FIRST = re.compile(rb'"node": \{node\|json\},')
JSON = [
    (
        FIRST,
        b'"node": {node|json},\n  "ci_state": {if(ci_state, ci_state|json, "null")},',
    )
]
# By the type of what a style makes.
CHANGES = {
    b'text/html': HTML,
    b'application/xhtml+xml': HTML,
    b'application/json': dict.fromkeys(
        [b'changelistentry', b'graphentry', b'changeset'], JSON
    ),
}


def change(tmpl):
    """lets the templates of a style show what is known of CI"""
    tmpl.defaults.update(
        {
            b'ci_state': show.showstate,
            b'ci_jobs': show.showjobs,
            b'ci_url': show.showurl,
        }
    )
    kind = tmpl.render(b'mimetype', {}).split(b';')[0].strip()
    changes = CHANGES.get(kind, {})
    if changes is HTML and b'alltags' not in tmpl:
        return
    tmpl.cache.update(PARTS)
    for name, places in changes.items():
        if name not in tmpl:
            continue
        # Brings the text of the file, where it is in one.
        tmpl.load(name)
        text = tmpl.cache[name]
        if b'{ci_' in text:
            # The style shows it in its own way.
            continue
        for pattern, replacement in places:
            text = pattern.sub(replacement, text, count=1)
        tmpl.cache[name] = text
