Beside largefiles, which wraps clones and pulls too and has wire commands of its own.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > largefiles =
  > [largefiles]
  > usercache = $TESTTMP/cache
  > [phases]
  > publish = no
  > [web]
  > push_ssl = no
  > allow-push = *
  > EOF
  $ results() { "$PYTHON" "$TESTDIR/results-log.py" "$@"; }
  $ node() { hg -R "$TESTTMP/served" log -r "$1" -T '{node}'; }

  $ hg init served
  $ cd served
  $ cat >> .hg/hgrc <<EOF
  > [hgci]
  > socket = $TESTTMP/nobody
  > EOF
  $ echo small > small
  $ echo large > large
  $ hg add -q small
  $ hg add -q --large large
  $ hg commit -qm 'one of each'
  ci: daemon not reachable, push recorded; it will be built later
  $ results .hg `node 0` 1 passed build=passed
  $ cd ..
  $ hg serve -R served -p $HGPORT -d --pid-file=hg.pid -E error.log
  $ cat hg.pid >> $DAEMON_PIDS

Clones have the results and the large files

  $ hg clone -q http://localhost:$HGPORT/ overhttp
  $ hg clone -q served copied
  $ hg clone -q --all-largefiles --pull served pulled
  $ for clone in overhttp copied pulled; do
  >     hg -R $clone log -T '{rev} {ci_state}\n'; cat $clone/large
  > done
  0 passed
  large
  0 passed
  large
  0 passed
  large

A push of large files is one push, and its results come with a pull

  $ cd overhttp
  $ echo larger > large
  $ hg commit -qm larger
  $ hg push | grep ci:
  remote: ci: daemon not reachable, push recorded; it will be built later
  $ ls ../served/.hg/hgci/spool | wc -l | tr -d ' '
  2
  $ results ../served/.hg `node 1` 2 failed build=failed
  $ hg pull -q
  $ hg log -T '{rev} {ci_state}\n'
  1 failed
  0 passed
  $ hg ci-status -q
  build
  [1]
  $ cd ..
  $ hg -R copied pull -q -u --all-largefiles
  $ cat copied/large
  larger
  $ hg -R copied log -r 'ci(failed)' -T '{rev}\n'
  1

A pipeline is an ordinary file

  $ echo 'job = 7' > copied/.hgci.toml
  $ hg -R copied commit -qAm malformed
  $ hg -R copied push -q served
  ci: .hgci.toml:1:1: `version` is missing (begin the file with version = 1) (in b0d50a37856c)
  ci: .hgci.toml:1:7: `job`: expected a table, found an integer (in b0d50a37856c)
  ci: daemon not reachable, push recorded; it will be built later
  $ cat error.log

A large file may have the name of a word of ours, and go

  $ cd served
  $ hg update -q
  $ echo 1 > status
  $ hg add -q --large status
  $ hg commit -qm 'a file of that name'
  ci: daemon not reachable, push recorded; it will be built later
  $ hg remove status
  $ hg ci status -m 'and without it'
  ci: daemon not reachable, push recorded; it will be built later
  $ hg log -r tip -T '{desc}: {file_dels}\n'
  and without it: .hglf/status
