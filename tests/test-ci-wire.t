States over hg's own wire: what a clone sees of its server.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > [hgci]
  > exchange = no
  > [ui]
  > ssh = "$PYTHON" "$RUNTESTDIR/dummyssh"
  > [phases]
  > publish = no
  > EOF
  $ results() { "$PYTHON" "$TESTDIR/results-log.py" "$@"; }
  $ node() { hg -R "$TESTTMP/server" log --hidden -r "$1" -T '{node}'; }
  $ get() { "$PYTHON" "$RUNTESTDIR/get-with-headers.py" $LOCALIP:$HGPORT "$@"; }

  $ wait_for() {
  >     for _ in `seq 600`; do "$@" 2> /dev/null && return; sleep 0.1; done
  >     echo "in vain: $*"
  > }

  $ hg init server
  $ cd server
  $ for n in 0 1 2 3; do echo $n > f$n; hg commit -qAm "change $n"; done
  $ cd ..
  $ results server/.hg `node 0` 10 passed build=passed
  $ results server/.hg `node 1` 11 failed build=passed test:3.9=failed
  $ results server/.hg `node 2` 12 - build=passed
  $ serve() {
  >     hg serve -R server -p $HGPORT -d --pid-file=hg.pid -E errors.log "$@"
  >     cat hg.pid >> $DAEMON_PIDS
  > }
  $ serve
  $ hg clone -q http://localhost:$HGPORT/ http
  $ hg clone -q ssh://user@dummy/server ssh
  $ hg clone -q server path

The daemon is not there: the server's results log is what is shown, and stderr says so once

  $ for clone in http ssh path; do hg -R $clone ci-status 0:1 -T '{rev} {state} {source}\n'; done
  ci: showing the results log alone: no daemon serves the repository
  0 passed log
  1 failed log
  ci: showing the results log alone: no daemon serves the repository
  0 passed log
  1 failed log
  ci: showing the results log alone: no daemon serves the repository
  0 passed log
  1 failed log
  [1]
  $ for clone in http ssh path; do hg -R $clone ci-status --live 0; echo $?; done
  abort: what is queued and running is not known: no daemon serves the repository
  (without --live, what the results log has is shown)
  255
  abort: what is queued and running is not known: no daemon serves the repository
  (without --live, what the results log has is shown)
  255
  abort: what is queued and running is not known: no daemon serves the repository
  (without --live, what the results log has is shown)
  255

A daemon that is named but does not answer

  $ cat >> server/.hg/hgrc <<EOF
  > [hgci]
  > socket = $TESTTMP/s
  > EOF
  $ hg -R ssh ci-status -q 0
  ci: showing the results log alone: $TESTTMP/s: not reachable: * (glob)
  build
  $ hg -R server ci-status -q 0 --live
  abort: what is queued and running is not known: $TESTTMP/s: not reachable: * (glob)
  (without --live, what the results log has is shown)
  [255]

With the daemon: what runs is seen. Of what has ended the log is believed

  $ mkdir daemon
  $ cat > daemon/status.json <<EOF
  > [{"node": "`node 1`", "state": "running", "build": 11, "push": 9, "source": "live", "jobs": []},
  >  {"node": "`node 2`", "state": "running", "build": 12, "push": 9, "source": "live",
  >   "jobs": [{"name": "build", "state": "passed", "attempt": 1, "exit": 0},
  >            {"name": "test", "state": "running", "attempt": 2, "duration": 71.5, "pool": "here"},
  >            {"name": "docs", "state": "waiting", "attempt": 0, "why": "needs test"}]},
  >  {"node": "`node 3`", "state": "running", "build": 13, "push": 9, "source": "live",
  >   "jobs": [{"name": "test", "state": "queued", "attempt": 0}]}]
  > EOF
  $ "$PYTHON" "$TESTDIR/ci-answers.py" "$TESTTMP/s" "$TESTTMP/daemon" > answers.log 2>&1 &
  $ echo $! >> $DAEMON_PIDS
  $ wait_for test -S s
  $ killdaemons.py hg.pid && serve
  $ for clone in server http ssh path; do
  >     hg -R $clone ci-status all\(\) --live -T '{rev} {state} {source} {jobs % "{name}={state} "}\n'
  > done
  0 passed log build=passed 
  1 failed log build=passed test:3.9=failed 
  2 running live build=passed test=running docs=waiting 
  3 running live test=queued 
  0 passed log build=passed 
  1 failed log build=passed test:3.9=failed 
  2 running live build=passed test=running docs=waiting 
  3 running live test=queued 
  0 passed log build=passed 
  1 failed log build=passed test:3.9=failed 
  2 running live build=passed test=running docs=waiting 
  3 running live test=queued 
  0 passed log build=passed 
  1 failed log build=passed test:3.9=failed 
  2 running live build=passed test=running docs=waiting 
  3 running live test=queued 
  [2]
  $ hg -R ssh ci-status 2
  [0-9a-f]{12} passed build (re)
  [0-9a-f]{12} running test \(1m11s, attempt 2\) (re)
  [0-9a-f]{12} waiting docs \(needs test\) (re)
  [2]

A share asks where its source asks

  $ hg --config extensions.share= share -qU server shared
  $ hg -R shared ci-status -q 3 --live
  test
  [2]

What the server shows to nobody it says nothing of, also when a clone has it

  $ hg -R server phase --force --secret 3
  ci: daemon not reachable, push recorded; it will be built later
  $ for clone in http ssh path; do hg -R $clone ci-status 3 --live; done
  no CI known for * (glob)
  no CI known for * (glob)
  no CI known for * (glob)
  [3]
  $ hg -R ssh ci-log -r 3 test
  abort: no log of test of *: unknown changeset * (glob)
  [255]
  $ hg -R server phase --draft 3
  ci: daemon not reachable, push recorded; it will be built later

More changesets than one call may ask about

  $ hg init many
  $ cd many
  $ hg debugbuilddag -q '+450'
  $ results .hg `hg log -r 0 -T '{node}'` 1 passed one=passed
  $ results .hg `hg log -r 449 -T '{node}'` 2 passed two=passed
  $ cd ..
  $ hg clone -q ssh://user@dummy/many far
  $ hg -R far ci-status 'all()' -T '{rev} {state}\n' 2> said
  0 passed
  449 passed
  [3]
  $ cat said
  ci: showing the results log alone: no daemon serves the repository

Nonsense on the wire is refused in a line

  $ get '?cmd=hgci-status&nodes=zz' content-type
  200 Script output follows
  content-type: application/hg-error
  
  hgci-status: bad arguments (no-eol)
  $ get '?cmd=hgci-log&node=zz&job=x' content-type
  200 Script output follows
  content-type: application/mercurial-0.1
  
  {"attempt": 0, "next": 0, "done": true, "error": "hgci-log: bad arguments"}
  $ get "?cmd=hgci-log&node=`node 0`&job=x&offset=-1" content-type
  200 Script output follows
  content-type: application/mercurial-0.1
  
  {"attempt": 0, "next": 0, "done": true, "error": "hgci-log: bad arguments"}

A server without hgci, and one that is not there

  $ killdaemons.py hg.pid && serve --config extensions.hgci=!
  $ hg -R http ci-status 0
  ci: showing the results log alone: http://localhost:$HGPORT/ knows nothing of CI
  no CI known for * (glob)
  [3]
  $ hg -R http ci-status 0 --live
  abort: what is queued and running is not known: http://localhost:$HGPORT/ knows nothing of CI
  (without --live, what the results log has is shown)
  [255]
  $ killdaemons.py hg.pid
  $ hg -R http ci-status 0
  ci: showing the results log alone: http://localhost:$HGPORT/: Connection refused
  no CI known for * (glob)
  [3]
  $ mv server gone
  $ hg -R path ci-status 0
  ci: showing the results log alone: $TESTTMP/server: repository $TESTTMP/server not found
  no CI known for * (glob)
  [3]
  $ hg -R ssh ci-status 0 2>&1 | tail -2
  ci: showing the results log alone: ssh://user@dummy/server: * (glob)
  no CI known for * (glob)
  $ cat errors.log

Whatever a server does, it is told in a line

  $ "$PYTHON" "$TESTDIR/ci-rubbish.py" $HGPORT1 > rubbish.log 2>&1 &
  $ echo $! >> $DAEMON_PIDS
  $ wait_for grep -q ready rubbish.log
  $ for kind in close rubbish missing page odd-text odd-short; do
  >     hg -R http ci-status 0 --config paths.default=http://localhost:$HGPORT1/$kind
  >     hg -R http ci-log -r 0 x --config paths.default=http://localhost:$HGPORT1/$kind
  > done
  ci: showing the results log alone: http://localhost:$HGPORT1/close: bad HTTP status line: ''
  no CI known for * (glob)
  abort: cannot read the log: http://localhost:$HGPORT1/close: bad HTTP status line: ''
  (logs are at the server: set a default path to it)
  ci: showing the results log alone: http://localhost:$HGPORT1/rubbish: bad HTTP status line: * (glob)
  no CI known for * (glob)
  abort: cannot read the log: http://localhost:$HGPORT1/rubbish: bad HTTP status line: * (glob)
  (logs are at the server: set a default path to it)
  ci: showing the results log alone: http://localhost:$HGPORT1/missing: HTTP Error 404: Not Found
  no CI known for * (glob)
  abort: cannot read the log: http://localhost:$HGPORT1/missing: HTTP Error 404: Not Found
  (logs are at the server: set a default path to it)
  ci: showing the results log alone: http://localhost:$HGPORT1/page: 'http://localhost:$HGPORT1/page' does not appear to be an hg repository
  no CI known for * (glob)
  abort: cannot read the log: http://localhost:$HGPORT1/page: 'http://localhost:$HGPORT1/page' does not appear to be an hg repository
  (logs are at the server: set a default path to it)
  ci: showing the results log alone: http://localhost:$HGPORT1/odd-text: expected value at line 1 column 1
  no CI known for * (glob)
  abort: no log of x of *: not an answer of hgci: expected value at line 1 column 1 (glob)
  ci: showing the results log alone: http://localhost:$HGPORT1/odd-short: HTTP request error (incomplete response; expected 106 bytes got 6)
  no CI known for * (glob)
  abort: cannot read the log: http://localhost:$HGPORT1/odd-short: HTTP request error (incomplete response; expected 106 bytes got 6)
  (logs are at the server: set a default path to it)
  [255]
  $ hg -R ssh ci-status 0 --config ui.ssh='sh -c "echo rubbish; exit 1"'
  ci: showing the results log alone: ssh://user@dummy/server: no suitable response from remote hg
  no CI known for * (glob)
  [3]
  $ cat rubbish.log
  ready
