Results in hg log: template keywords, a style, revsets.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > [experimental]
  > evolution = all
  > EOF
  $ results() { "$PYTHON" "$TESTDIR/results-log.py" "$@"; }
  $ node() { hg log --hidden -r "$1" -T '{node}'; }

  $ hg init widgets
  $ cd widgets
  $ for n in 0 1 2 3 4; do echo $n > f$n; hg commit -qAm "change $n" -u 'Alice <alice@example.org>'; done

Where nothing is known there is nothing, and no file is made

  $ hg log -r . -T '[{ci_state}] [{ci_url}] [{ci_jobs}]\n'
  [] [] []
  $ hg log -r 'ci()'
  $ hg log -r 'wdir()' -T '[{ci_state}{ci_jobs}{ci_url}]\n'
  []
  $ ls -d .hg/hgci .hg/cache/hgci*
  ls: cannot access '?.hg/hgci'?: No such file or directory (re)
  ls: cannot access '?.hg/cache/hgci\*'?: No such file or directory (re)
  [2]

  $ export HGCI_TEST_URL=https://ci.example.org/
  $ some() {
  >     results .hg `node 0` 10 passed build=passed 'style?=failed'
  >     results .hg `node 1` 11 failed build=passed test:3.9=failed
  >     results .hg `node 2` 12 - build=passed
  >     results .hg `node 3` 13 failed
  > }
  $ some

Templates

  $ hg log -T '{rev} [{ci_state}] {ci_url}\n'
  4 [] 
  3 [failed] https://ci.example.org/b/13
  2 [running] https://ci.example.org/b/12
  1 [failed] https://ci.example.org/b/11
  0 [passed] https://ci.example.org/b/10
  $ hg log -r 0:1 -T '{rev}: {ci_jobs}\n{ci_jobs % "  {name} {state} {attempt} {exit} {host}\n"}'
  0: build passed, style? failed
    build passed 1 0 here/1
    style? failed 1 2 here/1
  1: build passed, test:3.9 failed
    build passed 1 0 here/1
    test:3.9 failed 1 2 here/1
  $ hg log -r 0 -T '{ci_jobs|json}\n'
  \[\{"attempt": 1, "duration": 3.21, "exit": 0, .*"name": "build", .*"state": "passed", "url": "https://ci.example.org/b/10/build"\}, .*\] (re)
  $ hg log -r 0 -T '{ci_jobs|cbor}' | "$PYTHON" -c "
  > import sys
  > from mercurial.utils import cborutil
  > [jobs] = cborutil.decodeall(sys.stdin.buffer.read())
  > print([(job[b'name'], job[b'duration'], job[b'started'], job[b'exit']) for job in jobs])"
  [(b'build', b'3.210', b'1763650000.500', 0), (b'style?', b'3.210', b'1763650000.500', 2)]
  $ hg log -r 0 -T '{ci_jobs % "{name} {started} {date(started)} {started|hgdate}\n"}'
  build 1763650000.5 Thu Nov 20 14:46:40 2025 +0000 1763650000 0
  style? 1763650000.5 Thu Nov 20 14:46:40 2025 +0000 1763650000 0
  $ hg log -r 'ci()' -T '{ci_state|json}\n'
  "passed"
  "failed"
  "running"
  "failed"

A URL of another kind leads nowhere

  $ HGCI_TEST_URL='javascript:x/' results .hg `node 4` 14 passed build=passed
  $ hg log -r 4 -T '[{ci_url}] {ci_jobs % "[{url}]"} {ci_jobs|json}\n' | sed 's/"attempt.*"url"/"url"/'
  [] [] [{"url": null}]
  $ rm -r .hg/hgci && some

The style

  $ hg log -T ci
  [0-9a-f]{12}            change 4 \(alice, tip\) (re)
  [0-9a-f]{12} failed     change 3 \(alice\) (re)
  [0-9a-f]{12} running    change 2 \(alice\) (re)
  [0-9a-f]{12} failed     change 1 \(alice\) (re)
  [0-9a-f]{12} passed     change 0 \(alice\) (re)
  $ hg log -T ci -r 1 --color=debug
  \[log.changeset changeset.draft\|[0-9a-f]{12}\] \[ci.failed\|failed    \] change 1 \(alice\) (re)
  $ hg log -T ci -r 1 --config templates.ci='mine {rev}\n'
  mine 1
  $ hg config templates
  [1]
  $ cat >> .hg/hgrc <<EOF
  > [templates]
  > ci = its own {rev}\n
  > EOF
  $ hg log -T ci -r 1
  its own 1
  $ hg -R . config templates
  templates.ci=its own {rev}\n
  $ rm .hg/hgrc

Revsets

  $ hg log -r 'ci(failed)' -T '{rev}\n'
  1
  3
  $ hg log -r 'reverse(ci())' -T '{rev}\n'
  3
  2
  1
  0
  $ hg log -r 'ci(failed, "test:3.9") + ci(passed, build)' -T '{rev}\n'
  1
  0
  2
  $ hg log -r 'last(ci(passed) and branch(default))' -T '{rev}\n'
  0
  $ hg log -r 'not ci()' -T '{rev}\n'
  4
  $ hg log -r 'ci(passed, nobody)' -T '{rev}\n'
  $ hg log -r 'ci(timed-in)'
  hg: parse error: ci: there is no state 'timed-in'
  (states are running, failed, errored, timed-out, cancelled, superseded, passed, skipped)
  [10]
  $ hg log -r 'ci(passed or failed)'
  hg: parse error: ci requires a state
  [10]
  $ hg log -r 'ci(broken)'
  hg: parse error: ci: there is no state 'broken'
  (states are running, failed, errored, timed-out, cancelled, superseded, passed, skipped)
  [10]
  $ hg log -r 'ci(passed, build, more)'
  hg: parse error: ci takes a state and the name of a job
  [10]
  $ hg update -q 'last(ci(passed))' && hg id -n
  0
  $ hg help revsets 2> /dev/null | grep -A1 'ci('
      "ci([state[, job]])"
        Changesets with CI results: all of them, those whose build is in the
  $ hg help templates 2> /dev/null | grep -c '^ *ci_'
  3

Hidden changesets stay hidden

  $ hg debugobsolete `node 4`
  1 new obsolescence markers
  obsoleted 1 changesets
  $ results .hg `node 4` 14 passed build=passed
  $ hg log -r 'ci(passed)' -T '{rev}\n'
  0
  $ hg log --hidden -r 'ci(passed)' -T '{rev}\n'
  0
  4

A state with a hyphen needs no quotes

  $ results .hg `node 3` 15 timed-out build=timed-out
  $ hg log -r 'ci(timed-out) and ci("timed-out") and ci(timed-out, build)' -T '{rev}\n'
  3
  $ results .hg `node 3` 16 failed

A long log is summed up in the cache, and goes on without it

  $ results .hg `node 4` 17 failed `"$PYTHON" -c "for n in range(12000): print('job%d=passed' % n)"`
  $ hg log -r 'ci(failed)' -T '{rev}\n' --hidden
  1
  3
  4
  $ ls .hg/cache/hgci*
  .hg/cache/hgci-hgci.states
  $ results .hg `node 0` 18 failed build=failed
  $ hg log -r 'ci(failed)' -T '{rev} {ci_state}\n' --hidden
  0 failed
  1 failed
  3 failed
  4 failed
  $ echo rubbish > .hg/cache/hgci-hgci.states
  $ hg log -r 'ci(failed)' -T '{rev}\n' --hidden
  0
  1
  3
  4

A log that is destroyed is no secret, and is told of once

  $ echo 'not a log' > .hg/hgci/results
  $ rm .hg/cache/hgci*
  $ hg log -r 'ci(failed) or ci(passed)' -T '{ci_state}\n'
  ci: $TESTTMP/widgets/.hg/hgci/results is not a results log, or its header is destroyed
  $ hg log -r 1 -T '[{ci_state}] [{ci_jobs}] [{ci_url}]\n'
  ci: $TESTTMP/widgets/.hg/hgci/results is not a results log, or its header is destroyed
  [] [] []
