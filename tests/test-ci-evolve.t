Beside evolve and topic, on both ends.

  $ hg --config extensions.evolve= help -e evolve > /dev/null 2>&1 || {
  >     echo 'skipped: evolve is not installed'; exit 80
  > }
  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > evolve =
  > topic =
  > rebase =
  > [phases]
  > publish = no
  > [experimental]
  > evolution = all
  > [web]
  > push_ssl = no
  > allow-push = *
  > EOF
  $ results() { "$PYTHON" "$TESTDIR/results-log.py" "$@"; }
  $ node() { hg -R "$TESTTMP/served" log --hidden -r "$1" -T '{node}'; }

  $ hg init served
  $ cat >> served/.hg/hgrc <<EOF
  > [hgci]
  > socket = $TESTTMP/nobody
  > EOF
  $ hg init work
  $ cd work
  $ cat >> .hg/hgrc <<EOF
  > [paths]
  > default = http://localhost:$HGPORT/
  > EOF
  $ echo base > base && hg commit -qAm base
  $ hg serve -R ../served -p $HGPORT -d --pid-file=../hg.pid -E ../error.log
  $ cat ../hg.pid >> $DAEMON_PIDS
  $ hg push | grep ci:
  remote: ci: daemon not reachable, push recorded; it will be built later

A topic

  $ hg topics -q feature
  $ echo one > one && hg commit -qAm one
  $ echo two > two && hg commit -qAm two
  $ hg push -r . | grep ci:
  remote: ci: daemon not reachable, push recorded; it will be built later
  $ results ../served/.hg `node 1` 2 passed build=passed
  $ results ../served/.hg `node 2` 3 failed build=failed
  $ hg pull -q
  $ hg log -G -T '{rev} [{topic}] {ci_state}\n'
  @  2 [feature] failed
  |
  o  1 [feature] passed
  |
  o  0 []
  
  $ hg log -r 'ci(failed) and topic(feature)' -T '{rev}\n'
  2
  $ hg stack
  ### topic: feature
  ### target: default (branch)
  s2@ two (current)
  s1: one
  s0^ base (base)

What is obsolete is hidden, and with it its results; a push of markers is a push as any other

  $ hg amend -qm 'two, better'
  $ hg push -r . | grep ci:
  remote: ci: daemon not reachable, push recorded; it will be built later
  $ hg log -r 'ci(failed)' -T '{rev}\n'
  $ hg --hidden log -r 'ci(failed)' -T '{rev} {desc}\n'
  2 two
  $ results ../served/.hg `node 3` 4 passed build=passed
  $ hg pull -q
  $ hg log -r 'ci(passed)' -T '{rev} [{topic}] {desc}\n'
  1 [feature] one
  3 [feature] two, better
  $ ls ../served/.hg/hgci/spool | wc -l | tr -d ' '
  3

A clone of the server has no results of what is hidden there

  $ hg clone -q http://localhost:$HGPORT/ ../clone
  $ hg -R ../clone log -r 'ci()' -T '{rev} {desc} {ci_state}\n'
  1 one passed
  2 two, better passed
  $ cat ../error.log
