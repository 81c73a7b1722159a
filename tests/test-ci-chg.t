#require no-chg no-windows

By chg, whose server loads extensions once and then forks for each command.

  $ CHG="$RUNTESTDIR/../contrib/chg/chg"
  $ [ -x "$CHG" ] || { echo 'skipped: chg is not built'; exit 80; }
  $ CHGHG=`command -v hg`; export CHGHG
  $ CHGSOCKNAME=$TESTTMP/chg/server; export CHGSOCKNAME
  $ CHGTIMEOUT=`expr $HGTEST_TIMEOUT / 6`; export CHGTIMEOUT
  $ mkdir -m 700 chg
  $ chg() { "$CHG" "$@"; }
  $ results() { "$PYTHON" "$TESTDIR/results-log.py" "$@"; }
  $ node() { hg log -r "$1" -T '{node}'; }

  $ hg init widgets
  $ cd widgets
  $ for n in 0 1; do echo $n > f$n; hg commit -qAm "change $n"; done
  $ results .hg `node 0` 10 passed build=passed

Without the extension, then with it: the server is another one

  $ chg ci-status
  hg: unknown command 'ci-status'
  (did you mean status?)
  [10]
  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > EOF
  $ chg ci-status -q 0
  build
  $ chg log -T '{rev} [{ci_state}]\n'
  1 []
  0 [passed]
  $ results .hg `node 1` 11 failed build=failed
  $ chg log -r 'ci(failed)' -T '{rev} [{ci_state}]\n'
  1 [failed]
  $ chg ci status
  abort: no file named 'status'
  (use 'hg ci-status'; 'hg ci' is 'hg commit')
  [10]

Hooks, by hgrc and by an environment that the server was not started with

  $ echo a > a && chg commit -qAm a
  $ echo b > b && HGCI_SOCKET=$TESTTMP/nobody chg commit -qAm b
  $ ls .hg/hgci
  results
  results.idx
  $ cat >> .hg/hgrc <<EOF
  > [hgci]
  > socket = $TESTTMP/nobody
  > EOF
  $ echo c > c && chg commit -qAm c
  ci: daemon not reachable, push recorded; it will be built later
  $ echo d > d && chg commit -qAm d
  ci: daemon not reachable, push recorded; it will be built later
  $ ls .hg/hgci/spool | wc -l | tr -d ' '
  2

A pull brings results, into a repository that the server has not seen before

  $ chg clone -q --pull . ../clone
  $ chg -R ../clone log -r 'ci()' -T '{rev} {ci_state}\n'
  0 passed
  1 failed
  $ results .hg `node 2` 12 passed build=passed
  $ chg -R ../clone pull -q
  $ chg -R ../clone log -r 'ci()' -T '{rev} {ci_state}\n'
  0 passed
  1 failed
  2 passed

  $ chg --kill-chg-daemon
