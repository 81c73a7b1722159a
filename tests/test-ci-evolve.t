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

What replaces a changeset and has no state of its own is shown with that of its predecessor

  $ old=`hg log -r . -T '{node|short}'`
  $ echo more >> two
  $ hg amend -q
  $ hg ci-status 2>&1 | sed "s/$old/OLD/"
  no CI known for * (glob)
  [0-9a-f]{12} failed build \(exit 2, 3.2s, of its predecessor OLD\) (re)
  $ hg ci-status 2> /dev/null
  [0-9a-f]{12} failed build .* (re)
  [3]
  $ hg ci-status -T '{state} {ifeq(predecessor|short, "'$old'", "OLD")} {carried}\n' 2> /dev/null
  failed OLD False
  [3]
  $ hg amend -qm 'two, in other words'
  $ hg ci-status 2> /dev/null | grep -c predecessor
  1
  $ hg ci-status --config ui.formatted=yes --color never --pager no 2> /dev/null | sed "s/$old/OLD/"
  [0-9a-f]{12} failed \(build 3, push 9, of its predecessor OLD\) (re)
    failed  build  exit 2  3.2s

With the same files it is carried over, and counts

  $ hg update -qr $old --hidden 2> /dev/null
  $ hg metaedit -qm 'two, in the same words' 2> /dev/null
  $ hg ci-status 2> /dev/null | sed "s/$old/OLD/"
  [0-9a-f]{12} failed build \(exit 2, 3.2s, carried over from OLD: the same files\) (re)
  $ hg ci-status -q > /dev/null 2>&1
  [1]
  $ hg ci-status -T '{state} {ifeq(predecessor|short, "'$old'", "OLD")} {carried}\n' 2> /dev/null
  failed OLD True
  [1]
  $ hg prune -q .
  $ hg update -q feature

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
  6 [feature] two, better
  $ ls ../served/.hg/hgci/spool | wc -l | tr -d ' '
  3

A clone of the server has no results of what is hidden there

  $ hg clone -q http://localhost:$HGPORT/ ../clone
  $ hg -R ../clone log -r 'ci()' -T '{rev} {desc} {ci_state}\n'
  1 one passed
  2 two, better passed
  $ cat ../error.log

Of what was folded, that with the same files

  $ echo three > three && hg commit -qAm three
  $ top=`hg log -r . -T '{node}'`
  $ results .hg $top 5 passed build=passed
  $ hg fold -q --exact -m 'two and three' -r '.^::.'
  $ hg ci-status 2> /dev/null | sed "s/`echo $top | cut -c1-12`/TOP/"
  [0-9a-f]{12} passed build \(3.2s, carried over from TOP: the same files\) (re)
