`hg ci-status --watch` and `hg ci-log -f`: what changes, until it ends.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > [hgci]
  > exchange = no
  > [ui]
  > ssh = "$PYTHON" "$RUNTESTDIR/dummyssh"
  > EOF
  $ results() { "$PYTHON" "$TESTDIR/results-log.py" "$@"; }
  $ wait_for() {
  >     for _ in `seq 600`; do "$@" 2> /dev/null && return; sleep 0.1; done
  >     echo "in vain: $*"
  > }

  $ hg init server
  $ for n in 0 1; do echo $n > server/f; hg -R server commit -qAm "change $n"; done
  $ node=`hg -R server log -r 1 -T '{node}'`
  $ serve() {
  >     hg serve -R server -p $HGPORT -d --pid-file=hg.pid -E errors.log
  >     cat hg.pid >> $DAEMON_PIDS
  >     # Threads of a server that load hg's modules at the same time may find them half loaded,
  >     # which is an error 500.
  >     wait_for hg id http://localhost:$HGPORT/ > /dev/null
  > }
  $ serve
  $ hg clone -q http://localhost:$HGPORT/ http
  $ hg clone -q ssh://user@dummy/server ssh
  $ hg clone -q server path

Without a daemon there is nothing to watch

  $ hg -R ssh ci-status --watch
  abort: what is queued and running is not known: no daemon serves the repository
  (without --watch, what the results log has is shown)
  [255]

  $ cat >> server/.hg/hgrc <<EOF
  > [hgci]
  > socket = $TESTTMP/s
  > EOF
  $ killdaemons.py hg.pid && serve
  $ mkdir daemon
  $ start() {
  >     rm -f s; "$PYTHON" "$TESTDIR/ci-answers.py" "$TESTTMP/s" "$TESTTMP/daemon" > answers.log 2>&1 &
  >     echo $! > answers.pid; cat answers.pid >> $DAEMON_PIDS
  >     wait_for test -S s
  > }
  $ write() {  # STATE JOBS
  >     echo "[{\"node\": \"$node\", \"build\": 7, \"push\": 5, \"source\": \"live\"," > daemon/next
  >     echo " \"state\": \"$1\", \"jobs\": [$2]}]" >> daemon/next
  >     mv daemon/next daemon/status.json
  > }
  $ job() { echo "{\"name\": \"$1\", \"state\": \"$2\", \"attempt\": $3, \"exit\": $4}"; }
  $ echo '[]' > daemon/status.json
  $ start

A changeset that never had CI is not waited for

  $ hg -R ssh ci-status --watch
  no CI known for * (glob)
  [3]

What replaces another changeset has that one's state at the end, as without --watch

  $ cat >> $HGRCPATH <<EOF
  > [experimental]
  > evolution = all
  > EOF
  $ hg clone -q ssh://user@dummy/server amended
  $ cd amended
  $ hg update -q
  $ results .hg $node 3 passed build=passed
  $ hg phase --force --draft .
  $ hg commit -q --amend -m reworded
  $ hg ci-status --watch
  [0-9a-f]{12} passed build \(3.2s, carried over from [0-9a-f]{12}: the same files\) (re)
  $ hg ci-status --watch --config ui.formatted=yes --color never
  \x1b[J* passed (build 3, push 9, carried over from *: the same files) (glob) (esc)
    passed  build  3.2s
  $ echo more >> f
  $ hg commit -q --amend -m changed
  $ hg ci-status --watch
  no CI known for * (glob)
  [0-9a-f]{12} passed build \(3.2s, of its predecessor [0-9a-f]{12}\) (re)
  [3]
  $ cd ..

In a pipe each change is a line. While pushes wait for their plan, one without a build is waited for

  $ watch() {
  >     touch daemon/planning; echo '[]' > daemon/status.json
  >     hg -R $1 ci-status --watch > out & pid=$!
  >     sleep 1
  >     write running "`job build queued 0 null`, `job test waiting 0 null`"; rm daemon/planning
  >     wait_for grep -q 'waiting test' out
  >     write running "`job build running 1 null`, `job test waiting 0 null`"
  >     wait_for grep -q 'running build' out
  >     write running "`job build passed 1 0`, `job test running 1 null`"
  >     wait_for grep -q 'running test' out
  >     write running "`job build passed 1 0`, `job test running 2 null`"
  >     wait_for grep -q 'attempt 2' out
  >     write failed "`job build passed 1 0`, `job test failed 2 3`"
  >     wait $pid; echo "status $?"; cut -d' ' -f2- out
  > }
  $ for repo in server http ssh path; do watch $repo; done
  status 1
  queued build
  waiting test
  running build
  passed build
  running test
  running test (attempt 2)
  failed test (exit 3, attempt 2)
  status 1
  queued build
  waiting test
  running build
  passed build
  running test
  running test (attempt 2)
  failed test (exit 3, attempt 2)
  status 1
  queued build
  waiting test
  running build
  passed build
  running test
  running test (attempt 2)
  failed test (exit 3, attempt 2)
  status 1
  queued build
  waiting test
  running build
  passed build
  running test
  running test (attempt 2)
  failed test (exit 3, attempt 2)

What has ended is shown and not waited for

  $ hg -R http ci-status --watch
  [0-9a-f]{12} passed build (re)
  [0-9a-f]{12} failed test \(exit 3, attempt 2\) (re)
  [1]

With a template, what is known at the end

  $ write running "`job build running 1 null`"
  $ hg -R ssh ci-status --watch -T '{state}: {jobs % "{name}={state}"}\n' > out & pid=$!
  $ sleep 1; cat out
  $ write passed "`job build passed 1 0`"
  $ wait $pid; cat out
  passed: build=passed

In a terminal a table is drawn again in its place, and all of it at the end

  $ write running "`job build running 1 null`, `job test waiting 0 null`"
  $ table() {
  >     env TERM=$1 hg -R ssh ci-status --watch --config ui.formatted=yes --color never
  > }
  $ table xterm > out & pid=$!
  $ wait_for grep -q waiting out
  $ write passed "`job build passed 1 0`, `job test passed 1 0`"
  $ wait $pid; grep -c 'waiting' out; tail -c 200 out | tail -n 6
  1
  \x1b[?7h\x1b[3A\x1b[J\x1b[?7l* passed (build 7, push 5) (glob) (esc)
    passed  build
    passed  test
  \x1b[?7h\x1b[3A\x1b[J* passed (build 7, push 5) (glob) (esc)
    passed  build
    passed  test

In one that can do nothing, lines

  $ table dumb
  [0-9a-f]{12} passed build (re)
  [0-9a-f]{12} passed test (re)

A terminal with few lines

  $ many=$(for n in `seq 30`; do job job$n running 1 null; echo ,; done)
  $ write running "$many `job last running 1 null`"
  $ table xterm > out & pid=$!
  $ wait_for grep -q more out
  $ write passed "$many `job last passed 1 0`"
  $ wait $pid; sed '/more/q' out | tail -n 3; grep -c 'job30' out
    running  job20
    running  job21
    (10 more)
  1

Too many, and what cannot be

  $ hg init many
  $ hg -R many debugbuilddag -q '+101'
  $ hg -R many ci-status --watch 'all()'
  abort: too many changesets to watch: 101
  (name at most 100)
  [10]
  $ node1="`hg -R server log -r 0 -T '{node}'`"
  $ "$PYTHON" "$RUNTESTDIR/get-with-headers.py" $LOCALIP:$HGPORT \
  >     "?cmd=hgci-status&nodes=$node1&wait=-1" content-type | tail -1
  hgci-status: bad arguments (no-eol)

A daemon that is restarted meanwhile, and a server whose connections break

  $ echo first > daemon/slow; rm -f daemon/slow.done
  $ write running "`job build running 1 null`"
  $ cat > ssh.sh <<'EOF'
  > echo $$ >> "$TESTTMP/ssh.pids"
  > eval "exec $2"
  > EOF
  $ cat >> $HGRCPATH <<EOF
  > [ui]
  > ssh = sh "$TESTTMP/ssh.sh"
  > EOF
  $ for repo in http ssh; do
  >     touch ssh.pids; write running "`job build running 1 null`"; rm -f daemon/slow.done; echo first > daemon/slow
  >     hg -R $repo ci-status --watch > $repo-status 2> $repo-said & status=$!
  >     hg -R $repo ci-log -f slow > $repo-log 2>> $repo-said & log=$!
  >     wait_for grep -q running $repo-status; wait_for grep -q first $repo-log
  >     kill `cat answers.pid`; sleep 1
  >     start
  >     echo second >> daemon/slow
  >     wait_for grep -q second $repo-log
  >     for server in `cat hg.pid ssh.pids`; do kill -9 $server 2> /dev/null; done
  >     wait_for test ! -d /proc/`cat hg.pid`
  >     rm -f hg.pid ssh.pids; serve
  >     write passed "`job build passed 1 0`"; echo third >> daemon/slow; touch daemon/slow.done
  >     wait $status; echo $?; wait $log; echo $?
  >     cut -d' ' -f2- $repo-status; cat $repo-log
  > done
  0
  0
  running build
  passed build
  first
  second
  third
  0
  0
  running build
  passed build
  first
  second
  third

A proxy that cuts connections on which nothing comes: each is made anew, and then held shorter

  $ "$PYTHON" "$TESTDIR/ci-proxy.py" $HGPORT2 $HGPORT 0.7 cuts > proxy.log 2>&1 &
  $ echo $! >> $DAEMON_PIDS
  $ wait_for "$PYTHON" -c "import socket; socket.create_connection(('127.0.0.1', $HGPORT2))"
  $ cat > http/.hg/hgrc <<EOF
  > [paths]
  > default = http://127.0.0.1:$HGPORT2/
  > EOF
  $ rm -f daemon/slow.done; echo first > daemon/slow
  $ write running "`job build running 1 null`"
  $ hg -R http ci-status --watch > status 2> said & status=$!
  $ hg -R http ci-log -f slow > log 2>> said & log=$!
  $ wait_for grep -q running status; wait_for grep -q first log
  $ enough() { test `wc -l < cuts` -gt 5; }
  $ wait_for enough
  $ write passed "`job build passed 1 0`"; echo second >> daemon/slow; touch daemon/slow.done
  $ wait $status; echo $?; wait $log; echo $?
  0
  0
  $ cut -d' ' -f2- status; cat log said
  running build
  passed build
  first
  second
