What `hg ci-status` shows of the results log of a repository on disk.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > EOF
  $ results() { "$PYTHON" "$TESTDIR/results-log.py" "$@"; }
  $ node() { hg log -r "$1" -T '{node}'; }

  $ hg init widgets
  $ cd widgets
  $ for n in 0 1 2 3 4 5; do echo $n > f$n; hg commit -qAm "change $n"; done

Where nothing is known, the exit status is 3

  $ hg ci-status
  ci: showing the results log alone: there is no default path
  no CI known for * (glob)
  [3]
  $ hg ci-status -T json
  ci: showing the results log alone: there is no default path
  [
  ]
  [3]
  $ hg ci-status --live
  abort: what is queued and running is not known: there is no default path
  (without --live, what the results log has is shown)
  [255]

Exit statuses: 0 for passed, 1 for what went wrong, 2 for what has not ended

  $ export HGCI_TEST_URL=https://ci.example.org/
  $ results .hg `node 0` 10 passed build=passed 'style?=failed'
  $ results .hg `node 1` 11 failed build=passed test:3.9=failed
  $ results .hg `node 2` 12 - build=passed
  $ results .hg `node 3` 13 failed
  $ HGCI_TEST_WHY='no pool has the label mips' results .hg `node 4` 14 passed build=skipped
  $ hg ci-status -r 0
  [0-9a-f]{12} passed build \(3.2s\) (re)
  [0-9a-f]{12} failed style\? \(exit 2, allowed to fail, 3.2s\) (re)
  $ hg ci-status 1
  [0-9a-f]{12} passed build \(3.2s\) (re)
  [0-9a-f]{12} failed test:3.9 \(exit 2, 3.2s, 2 of 43 tests failed\) (re)
  [1]
  $ hg ci-status 2
  ci: showing the results log alone: there is no default path
  [0-9a-f]{12} passed build \(3.2s\) (re)
  [2]
  $ hg ci-status 3
  [0-9a-f]{12} failed - \(.hgci.toml:3:7: unknown key\) (re)
  [1]
  $ hg ci-status 4
  [0-9a-f]{12} skipped build \(no pool has the label mips\) (re)

With several changesets the largest status counts

  $ hg ci-status -q 0 -r 1
  build
  style?
  build
  test:3.9
  [1]
  $ hg ci-status -q 0:2 2> /dev/null
  build
  style?
  build
  test:3.9
  build
  [2]
  $ hg ci-status -q -r 0 -r 5 2> /dev/null
  build
  style?
  [3]
  $ hg ci-status -r 'none()'
  $ hg ci-status -r nowhere
  abort: unknown revision 'nowhere'
  [10]

JSON, templates

  $ hg ci-status -r 1 -T json
  [
   {
    "build": 11,
    "jobs": [{"attempt": 1, "duration": 3.21, "exit": 0, "host": "here/1", "name": "build", "pool": "here", "started": 1763650000.5, "state": "passed", "tests": null, "url": "https://ci.example.org/b/11/build"}, {"attempt": 1, "duration": 3.21, "exit": 2, "host": "here/1", "name": "test:3.9", "pool": "here", "started": 1763650000.5, "state": "failed", "tests": {"failed": 2, "passed": 40, "skipped": 1}, "url": "https://ci.example.org/b/11/test:3.9"}],
    "node": "*", (glob)
    "push": 9,
    "source": "log",
    "state": "failed",
    "url": "https://ci.example.org/b/11"
   }
  ]
  [1]
  $ hg ci-status 0:1 -T '{rev} {state}: {jobs % "{name}={state}:{exit} "}\n'
  0 passed: build=passed:0 style?=failed:2 
  1 failed: build=passed:0 test:3.9=failed:2 
  [1]
  $ hg ci-status 0 -T '{jobs % "{name} {date(started)}\n"}'
  build Thu Nov 20 14:46:40 2025 +0000
  style? Thu Nov 20 14:46:40 2025 +0000
  $ hg ci-status 0 -T '{jobs|json}\n' | grep -o '"started": [^,]*'
  "started": 1763650000.5
  "started": 1763650000.5
  $ hg ci-status 0 -T cbor | "$PYTHON" -c "
  > import sys
  > from mercurial.utils import cborutil
  > [item] = cborutil.decodeall(sys.stdin.buffer.read()[1:-1])
  > print(item[b'jobs'][0][b'duration'], item[b'jobs'][0][b'started'])"
  b'3.210' b'1763650000.500'
  $ hg ci-status 0 -T pickle | "$PYTHON" -c "
  > import pickle, sys
  > sys.modules['hgext3rd'] = None
  > print(pickle.load(sys.stdin.buffer)[0][b'jobs'][0][b'started'])"
  1763650000.5
  $ hg ci-status 3 -T '{state}: {message}\n'
  failed: .hgci.toml:3:7: unknown key
  [1]
  $ hg ci-status 4 -T '{jobs % "{state} {why}\n"}'
  skipped no pool has the label mips

In a terminal: a table, with labels for colours

  $ hg ci-status 1 --config ui.formatted=yes --color never
  [0-9a-f]{12} failed \(build 11, push 9\) (re)
    passed  build     3.2s
    failed  test:3.9  exit 2  3.2s  2 of 43 tests failed
  [1]
  $ hg ci-status 1 --config ui.formatted=yes --color debug
  \[log.changeset\|[0-9a-f]{12}\] \[ci.failed\|failed\] \(build 11, push 9\) (re)
    [ci.passed|passed]  build     3.2s
    [ci.failed|failed]  test:3.9  exit 2  3.2s  2 of 43 tests failed
  [1]
  $ hg ci-status 1 -v --config ui.formatted=yes --color never
  [0-9a-f]{12} failed \(build 11, push 9\) (re)
    https://ci.example.org/b/11
    passed  build     3.2s  here/1  https://ci.example.org/b/11/build
    failed  test:3.9  exit 2  3.2s  2 of 43 tests failed  here/1  https://ci.example.org/b/11/test:3.9
  [1]
  $ hg ci-status 1 --color always --config color.mode=ansi | grep -c '31;1mfailed'
  1

Through the pager, as other commands of hg

  $ hg ci-status 0 --config ui.formatted=yes --config pager.pager="sed 's/^/paged: /'" --color never
  paged: [0-9a-f]{12} passed \(build 10, push 9\) (re)
  paged:   passed  build   3.2s
  paged:   failed  style?  exit 2  allowed to fail  3.2s
  $ hg ci-status 0 --config ui.formatted=yes --config pager.pager="sed 's/^/paged: /'" -T '{state}\n'
  paged: passed

What a name or a reason says is shown, never obeyed

  $ ESC=`printf '\033'`
  $ HGCI_TEST_WHY="${ESC}[2Jgone${ESC}]0;title" results .hg `node 5` 15 errored "a${ESC}[31mb=errored"
  $ hg ci-status 5
  [0-9a-f]{12} errored a \[31mb \( \[2Jgone \]0;title\) (re)
  [1]

A newer build replaces an older one; another daemon's numbers are its own

  $ results .hg `node 1` 16 passed build=passed test:3.9=passed
  $ hg ci-status 1 -T '{build} {state}\n'
  16 passed
  $ HGCI_TEST_DAEMON=e HGCI_TEST_URL= results .hg `node 1` 2 failed build=failed
  $ hg ci-status 1 -T '{build} {state} {jobs % "{name} {url}"}\n'
  2 failed build 
  [1]

A share reads the log of its source

  $ hg --config extensions.share= share -q . ../shared
  $ hg -R ../shared ci-status -q 0
  build
  style?

A log without index, one that is torn and one that is damaged: the rest is served

  $ cp -r .hg/hgci ../saved
  $ rm .hg/hgci/results.idx
  $ hg ci-status -q 0
  build
  style?
  $ echo garbage >> .hg/hgci/results
  $ hg ci-status -q 0
  build
  style?
  $ "$PYTHON" - .hg/hgci/results <<EOF
  > import sys
  > data = bytearray(open(sys.argv[1], "rb").read())
  > data[len(data) // 2] ^= 4
  > open(sys.argv[1], "wb").write(data)
  > EOF
  $ hg ci-status -q 0
  ci: $TESTTMP/widgets/.hg/hgci/results: * (glob)
  build
  style?
  $ echo 'not a log' > .hg/hgci/results
  $ hg ci-status 0
  ci: $TESTTMP/widgets/.hg/hgci/results is not a results log, or its header is destroyed
  ci: showing the results log alone: there is no default path
  no CI known for * (glob)
  [3]
  $ rm -r .hg/hgci && mv ../saved .hg/hgci

A URL that a browser does not only go to is not passed on

  $ HGCI_TEST_URL='javascript:x/' results .hg `node 1` 17 passed build=passed
  $ hg ci-status 1 -v
  [0-9a-f]{12} passed build \(3.2s, here/1\) (re)
  $ hg ci-status 1 -v --config ui.formatted=yes --color never
  [0-9a-f]{12} passed \(build 17, push 9\) (re)
    passed  build  3.2s  here/1
  $ hg ci-status 1 -T '[{url}] {jobs % "[{url}]"} {jobs|json}\n' | sed 's/"attempt.*"url"/"url"/'
  [] [] [{"url": null}]

`hg ci` is hg's commit, so a word of ours after it is a slip, unless a file has that name

  $ echo more >> f0
  $ hg ci status
  abort: no file named 'status'
  (use 'hg ci-status'; 'hg ci' is 'hg commit')
  [10]
  $ hg ci log test
  abort: no file named 'log'
  (use 'hg ci-log'; 'hg ci' is 'hg commit')
  [10]
  $ hg ci try
  abort: no file named 'try'
  ('hg ci' is 'hg commit')
  [10]
  $ echo 1 > status
  $ hg add status
  $ hg ci status -m 'a file of that name'
  $ rm status
  $ hg ci status -m 'it may also go' -A
  $ hg log -r tip -T '{desc}: {files}\n'
  it may also go: status

Help

  $ hg help ci-status | head -3
  hg ci-status [-r] [REV]...
  
  aliases: cistatus
  $ hg help hgci | grep '^ ci-'
   ci-cancel     stop CI jobs of a changeset that are queued or running
   ci-retry      run CI jobs of a changeset again that did not pass
   ci-run        run CI jobs of a changeset, whatever became of them before
   ci-log        show the log of a CI job
   ci-status     show the state of the CI jobs of changesets

What a shell completes

  $ hg debugcomplete ci-
  ci-cancel
  ci-log
  ci-retry
  ci-run
  ci-status
  $ hg debugcomplete --options ci-status | tail -n 6
  -r
  --rev
  --live
  --watch
  -T
  --template
