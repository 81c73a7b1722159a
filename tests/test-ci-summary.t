What hg summary says of CI.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > [ui]
  > ssh = "$PYTHON" "$RUNTESTDIR/dummyssh"
  > [phases]
  > publish = no
  > [devel]
  > # hg leaves the connection of summary --remote open.
  > all-warnings = no
  > EOF
  $ results() { "$PYTHON" "$TESTDIR/results-log.py" "$@"; }
  $ node() { hg -R "$TESTTMP/served" log -r "$1" -T '{node}'; }

  $ hg init served
  $ cd served
  $ for n in 0 1 2 3; do echo $n > f$n; hg commit -qAm "change $n"; done

Nothing where nothing is known, and nothing is written

  $ hg summary | grep ci
  [1]
  $ ls .hg/hgci
  ls: cannot access '?.hg/hgci'?: No such file or directory (re)
  [2]

The state of the parent, beside hg's own lines

  $ results .hg `node 3` 7 failed build=passed test=failed lint=passed docs=passed
  $ hg summary
  parent: 3:* tip (glob)
   change 3
  branch: default
  commit: (clean)
  update: (current)
  phases: 4 draft
  ci:     failed (1 of 4 jobs)
  $ hg summary --color=debug | grep ci:
  ci:     [ci.failed|failed] (1 of 4 jobs)
  $ results .hg `node 2` 6 passed build=passed 'style?=failed'
  $ hg update -q 2
  $ hg summary | grep ci:
  ci:     passed (1 of 2 jobs)
  $ hg summary -q | grep ci:
  [1]
  $ results .hg `node 1` 5 failed
  $ hg update -q 1
  $ hg summary | grep ci:
  ci:     failed

Of two parents, each

  $ hg update -q 2
  $ echo 4 > f4
  $ hg commit -qAm 'change 4'
  $ hg merge -q 3
  $ hg summary | grep ci:
  ci:     [0-9a-f]{12} failed \(1 of 4 jobs\) (re)
  $ hg update -qC 0
  $ hg update -q null
  $ hg summary | grep ci:
  [1]

What has not ended is the server's to say, and is asked with --remote, over hg's own connection

  $ cd ..
  $ hg clone -q ssh://user@dummy/served clone -r 3 --config hgci.exchange=no
  $ cd clone
  $ hg summary | grep ci:
  [1]
  $ hg summary --remote | grep -A1 remote:
  remote: 1 or more incoming
  ci:     failed (1 of 4 jobs)
  $ hg update -q 0
  $ hg summary --remote | grep ci:
  [1]
  $ results ../served/.hg `node 0` 9 - build=passed
  $ hg summary --remote | grep ci:
  ci:     running (1 of 1 jobs ended)
  $ hg pull -q -r 3
  $ hg summary | grep ci:
  [1]

A server that knows nothing of CI, or none that answers, is not our trouble

  $ cat >> ../served/.hg/hgrc <<EOF
  > [extensions]
  > hgci = !
  > EOF
  $ hg summary --remote | grep ci:
  [1]

A log that is destroyed is no secret

  $ echo 'not a log' > ../served/.hg/hgci/results
  $ hg -R ../served update -q 0
  $ hg -R ../served summary --config extensions.hgci= | grep ci:
  ci: $TESTTMP/served/.hg/hgci/results is not a results log, or its header is destroyed
  [1]
