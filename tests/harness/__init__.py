"""What the black-box tests share: the real programs, started in a room of their own.

- `programs`: where the programs are
- `patience`: waiting for what comes at its own time
- `people`: accounts that run hg, and their repositories
- `serving`: a repository behind a path, ssh, `hg serve` or WSGI
- `hgcid`: the daemon, its configuration and its API
- `account`: a daemon that is not root
- `smtp`: a mail server with STARTTLS and authentication
- `places`: folders in build/
- `leftovers`: processes and folders that should be gone

Nothing here stands in for a part of the product.
"""

from .hgcid import Daemon, Pool, Repo
from .patience import eventually
from .people import Clone, Hg
from .serving import Served
from .smtp import Smtp

__all__ = ["Clone", "Daemon", "Hg", "Pool", "Repo", "Served", "Smtp", "eventually"]
