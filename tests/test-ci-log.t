`hg ci-log`: the log of a job, from the daemon or over hg's own wire.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > [ui]
  > ssh = "$PYTHON" "$RUNTESTDIR/dummyssh"
  > EOF
  $ wait_for() {
  >     for _ in `seq 600`; do "$@" 2> /dev/null && return; sleep 0.1; done
  >     echo "in vain: $*"
  > }

  $ hg init server
  $ echo 1 > server/f
  $ hg -R server commit -qAm one
  $ cat >> server/.hg/hgrc <<EOF
  > [hgci]
  > socket = $TESTTMP/s
  > EOF
  $ hg clone -q ssh://user@dummy/server ssh
  $ hg clone -q server path
  $ hg serve -R server -p $HGPORT -d --pid-file=hg.pid
  $ cat hg.pid >> $DAEMON_PIDS
  $ hg clone -q http://localhost:$HGPORT/ http

  $ mkdir daemon
  $ printf 'one\033[31mred\033[2J\377\r\nend' > daemon/test:3.9
  $ touch daemon/test:3.9.done

Nobody there

  $ hg -R ssh ci-log test:3.9
  abort: no log of test:3.9 of *: $TESTTMP/s: not reachable: * (glob)
  [255]

Byte by byte where it is not a terminal

  $ "$PYTHON" "$TESTDIR/ci-answers.py" "$TESTTMP/s" "$TESTTMP/daemon" > answers.log 2>&1 &
  $ echo $! >> $DAEMON_PIDS
  $ wait_for test -S s
  $ for repo in server ssh http path; do
  >     hg -R $repo ci-log test:3.9 > out && cmp out daemon/test:3.9 && echo same
  > done
  same
  same
  same
  same

In a terminal colours pass, and are off at the end; nothing else does

  $ hg -R ssh ci-log test:3.9 --config ui.formatted=yes --pager no
  one\x1b[31mred^[[2J\xef\xbf\xbd (esc)
  end\x1b[0m (no-eol) (esc)

A log larger than an answer

  $ "$PYTHON" -c "print('0123456789abcde\n' * 200000, end='')" > daemon/large
  $ touch daemon/large.done
  $ for repo in server ssh http; do
  >     hg -R $repo ci-log large > out && cmp out daemon/large && echo same
  > done
  same
  same
  same

-f goes on until the job ends, without it what there is is shown

  $ echo first > daemon/slow
  $ hg -R ssh ci-log slow
  first
  $ for repo in server ssh http; do
  >     rm -f daemon/slow.done; echo first > daemon/slow
  >     hg -R $repo ci-log -f slow > out & pid=$!
  >     wait_for grep -q first out
  >     echo second >> daemon/slow
  >     wait_for grep -q second out
  >     printf third >> daemon/slow; touch daemon/slow.done
  >     wait $pid && cat out && echo
  > done
  first
  second
  third
  first
  second
  third
  first
  second
  third

Attempts, changesets, jobs that are not there

  $ hg -R ssh ci-log --attempt 1 slow | head -1
  first
  $ hg -R ssh ci-log --attempt 2 slow
  abort: no log of slow of *: no log of this attempt (glob)
  [255]
  $ hg -R ssh ci-log --attempt two slow
  abort: --attempt is not a number of an attempt: two
  [10]
  $ hg -R ssh ci-log nothing
  abort: no log of nothing of *: no log of this attempt (glob)
  [255]
  $ for command in log run retry cancel; do
  >     hg -R ssh ci-$command -r 'wdir()' slow; echo $?
  > done
  abort: working directory revision cannot be specified
  10
  abort: working directory revision cannot be specified
  10
  abort: working directory revision cannot be specified
  10
  abort: working directory revision cannot be specified
  10
  $ hg -R ssh ci-log
  hg ci-log: invalid arguments
  hg ci-log [-f] [-r REV] [--attempt N] JOB
  
  show the log of a CI job
  
  options:
  
   -r --rev REV           the changeset that the job is of
   -f --follow            wait for more until the job ends
      --attempt N         an older attempt of the job
   -T --template TEMPLATE display with template
  
  (use 'hg ci-log -h' to show more help)
  [10]

JSON

  $ hg -R ssh ci-log slow -T json
  [
   {
    "attempt": 1,
    "job": "slow",
    "log": "first\nsecond\nthird",
    "node": "*" (glob)
   }
  ]

JSON is UTF-8, whatever a job wrote; what is not JSON is byte by byte what it wrote

  $ printf 'caf\351 \355\225\234 \355\240\200 \377 snow \342\230\203' > daemon/stray; touch daemon/stray.done
  $ cat > same.py <<'EOF'
  > import json, sys
  > said = json.loads(sys.stdin.buffer.read().decode("utf-8"))
  > log = (said[0] if isinstance(said, list) else said)["log"]
  > print(ascii(log), log == open("daemon/stray", "rb").read().decode("utf-8", "replace"))
  > EOF
  $ for template in json 'json(log, job)' '\{"log": {log|json}}'; do
  >     hg -R ssh ci-log stray -T "$template" | "$PYTHON" same.py
  > done
  'caf\ufffd \ud55c \ufffd\ufffd\ufffd \ufffd snow \u2603' True
  'caf\ufffd \ud55c \ufffd\ufffd\ufffd \ufffd snow \u2603' True
  'caf\ufffd \ud55c \ufffd\ufffd\ufffd \ufffd snow \u2603' True
  $ hg -R ssh ci-log stray -T '{log}' | cmp - daemon/stray
  $ hg -R ssh ci-log stray -T cbor | "$PYTHON" -c "
  > import sys
  > from mercurial.utils import cborutil
  > [item] = cborutil.decodeall(sys.stdin.buffer.read()[1:-1])
  > print(item[b'log'] == open('daemon/stray', 'rb').read())"
  True

Templates have the keywords of the changeset; a log that is followed is no item

  $ hg -R ssh ci-log slow -T '{rev} {desc} {job} {log|splitlines % "[{line}]"}\n'
  0 one slow [first][second][third]
  $ hg -R ssh ci-log -f slow -T json
  abort: cannot use --follow with --template
  [10]
