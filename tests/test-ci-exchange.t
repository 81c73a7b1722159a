Results come along with pulls and clones, and are there off line.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > [phases]
  > publish = no
  > [web]
  > push_ssl = no
  > allow-push = *
  > [ui]
  > ssh = "$PYTHON" "$RUNTESTDIR/dummyssh"
  > EOF
  $ results() { "$PYTHON" "$TESTDIR/results-log.py" "$@"; }
  $ node() { hg log --hidden -R "$ROOT/served" -r "$1" -T '{node}'; }
  $ states() { hg log -G -T '{rev} {ci_state}\n' "$@"; }
  $ ROOT=`pwd`

  $ hg init served
  $ cd served
  $ for n in 0 1 2; do echo $n > f$n; hg commit -qAm "change $n"; done
  $ results .hg `node 0` 1 passed build=passed test=passed
  $ results .hg `node 1` 2 failed build=passed test=failed
  $ cd ..

A clone that copies files has them, in files of its own

  $ hg clone -q served copied
  $ cd copied
  $ states
  @  2
  |
  o  1 failed
  |
  o  0 passed
  
  $ find .hg/hgci -name results -links +1
  $ hg ci-status 1 2> /dev/null
  [0-9a-f]{12} passed build \(3.2s\) (re)
  [0-9a-f]{12} failed test \(exit 2, 3.2s, 2 of 43 tests failed\) (re)
  [1]
  $ cd ..

So have one by pulling, and one by ssh

  $ hg clone -q --pull served pulled
  $ states -R pulled
  @  2
  |
  o  1 failed
  |
  o  0 passed
  
  $ hg clone -q ssh://user@dummy/$ROOT/served overssh
  $ states -R overssh
  @  2
  |
  o  1 failed
  |
  o  0 passed
  

And over http, streaming or not

  $ hg serve -R served -p $HGPORT -d --pid-file=hg.pid -A access.log -E error.log \
  >   --config server.uncompressed=yes
  $ cat hg.pid >> $DAEMON_PIDS
  $ hg clone -q http://localhost:$HGPORT/ overhttp
  $ states -R overhttp
  @  2
  |
  o  1 failed
  |
  o  0 passed
  
  $ hg clone -q --stream http://localhost:$HGPORT/ streamed
  $ states -R streamed
  @  2
  |
  o  1 failed
  |
  o  0 passed
  

New results come with the next pull, also where it brings no changesets. Then there is no transaction:
results are no reason for hooks, nor to forget what `hg rollback` could undo. Without new ones nothing
is written

  $ cd overhttp
  $ hg pull --config hooks.txnclose='echo a transaction'
  pulling from http://localhost:$HGPORT/
  searching for changes
  no changes found
  $ results ../served/.hg `node 2` 3 passed build=passed test=passed
  $ hg pull -v --config hooks.txnclose='echo a transaction'
  pulling from http://localhost:$HGPORT/
  searching for changes
  no changes found
  ci: 3 new results
  (sent 3 HTTP requests and * bytes; received * bytes in responses) (glob)
  $ ls -i .hg/hgci/from/*/source > before
  $ hg pull --config hooks.txnclose='echo a transaction'
  pulling from http://localhost:$HGPORT/
  searching for changes
  no changes found
  $ ls -i .hg/hgci/from/*/source | cmp - before
  $ states -r tip
  @  2 passed
  |
  ~

The cost is that of what is new: a request for each call, and no more

  $ grep -c getbundle ../access.log
  5
  $ cat ../error.log

A pull that is told not to brings none, and one that aborts leaves nothing of them

  $ cd ../pulled
  $ results ../served/.hg `node 2` 3 passed build=passed
  $ hg pull -q --config hgci.exchange=no
  $ states -r tip
  @  2
  |
  ~
  $ cat > ../abort.sh <<EOF
  > exit 1
  > EOF
  $ echo 3 > ../served/f3
  $ hg -R ../served commit -qAm 'change 3'
  $ results ../served/.hg `node 3` 4 failed test=failed
  $ find .hg/hgci -type f | sort | xargs cksum > ../before
  $ hg pull -q --config hooks.pretxnclose='sh ../abort.sh'
  transaction abort!
  rollback completed
  abort: pretxnclose hook exited with status 1
  [40]
  $ find .hg/hgci -type f | sort | xargs cksum | cmp - ../before
  $ hg pull -q
  $ states
  o  3 failed
  |
  @  2 passed
  |
  o  1 failed
  |
  o  0 passed
  

What the client may not see is not sent, and comes when it may

  $ cd ../served
  $ hg phase -fs tip
  $ echo 4 > f4
  $ hg commit -qAm 'change 4' --secret
  $ results .hg `node 4` 5 passed secretive=passed
  $ cd ../overhttp
  $ hg pull -q
  $ hg log -r 'ci()' -T '{rev} {ci_state}\n'
  0 passed
  1 failed
  2 passed
  $ grep -r secretive .hg/hgci
  [1]
  $ hg -R ../served phase -d 'secret()'
  $ hg pull -q
  $ hg log -r 'ci()' -T '{rev} {ci_state}\n'
  0 passed
  1 failed
  2 passed
  3 failed
  4 passed
  $ cd ..

A clone passes on what it has, and keeps apart what it has from several places

  $ hg -R pulled pull -q
  $ hg clone -q --pull pulled third
  $ hg -R third log -r 'ci()' -T '{rev} {ci_state}\n'
  0 passed
  1 failed
  2 passed
  3 failed
  4 passed
  $ hg -R third pull -q http://localhost:$HGPORT/
  $ cat third/.hg/hgci/from/*/source | grep -v ' from$' | grep '[/:]' | sort
  $TESTTMP/pulled
  http://localhost:$HGPORT

What the default path says counts first

  $ hg init liar
  $ hg -R liar pull -q -r 0 served
  $ HGCI_TEST_DAEMON=e results liar/.hg `node 0` 99 failed test=failed
  $ hg -R third pull -q liar
  $ hg -R third log -r 0 -T '{ci_state}\n'
  passed
  $ hg -R third log -r 0 -T '{ci_state}\n' --config paths.default=$ROOT/liar
  failed

A share has what its source has, and pulls for it

  $ hg --config extensions.share= share -q overssh shared
  $ hg -R shared log -r 1 -T '{ci_state}\n'
  failed
  $ hg -R shared pull -q
  $ hg -R overssh log -r 'last(ci())' -T '{rev} {ci_state}\n'
  4 passed
  $ ls shared/.hg/hgci
  ls: cannot access '?shared/.hg/hgci'?: No such file or directory (re)
  [2]

A log that is made anew is fetched anew

  $ rm -r served/.hg/hgci
  $ results served/.hg `node 0` 1 passed build=passed test=passed
  $ results served/.hg `node 0` 7 failed build=failed
  $ hg -R overssh pull -v | grep results
  ci: 2 new results
  $ hg -R overssh log -r 'ci()' -T '{rev} {ci_state}\n'
  0 failed
  1 failed
  2 passed
  3 failed
  4 passed

A server, or a client, without the extension is no error

  $ hg -R served serve -p $HGPORT1 -d --pid-file=hg1.pid -A access1.log -E error1.log \
  >   --config extensions.hgci=!
  $ cat hg1.pid >> $DAEMON_PIDS
  $ hg clone -q http://localhost:$HGPORT1/ plain
  $ hg -R plain log -r 'ci()'
  $ hg clone -q http://localhost:$HGPORT/ without --config extensions.hgci=!
  $ ls without/.hg/hgci
  ls: cannot access '?without/.hg/hgci'?: No such file or directory (re)
  [2]
  $ cat error1.log

Results that nobody asked for are not taken in

  $ hg init victim
  $ cat > push-results.py <<EOF
  > from mercurial import bundle2, exchange
  > def uisetup(ui):
  >     order = exchange.b2partsgenorder
  >     @exchange.b2partsgenerator(b'hgci-results')
  >     def results(pushop, bundler):
  >         bundler.newpart(b'hgci-results', data=b'x' * 100000, mandatory=False)
  > EOF
  $ hg -R pulled push -q --config extensions.evil=push-results.py victim
  $ ls victim/.hg/hgci
  ls: cannot access '?victim/.hg/hgci'?: No such file or directory (re)
  [2]

A bundle has no results, and what shares a store has those already

  $ hg -R pulled bundle -q --all pulled.hg
  $ cp -R pulled/.hg/hgci hgci-before
  $ hg -R pulled pull -q pulled.hg
  $ (cd pulled && hg clone -q ../pulled.hg ../from-bundle)
  $ ls from-bundle/.hg/hgci
  ls: cannot access '?from-bundle/.hg/hgci'?: No such file or directory (re)
  [2]
  $ hg --config extensions.share= share -q pulled sharing
  $ hg -R sharing pull -q pulled
  $ diff -r hgci-before pulled/.hg/hgci

Of very many sources those count to which something came last, and the default path's always

  $ hg init many
  $ hg -R many pull -q http://localhost:$HGPORT/
  $ "$PYTHON" - many/.hg/hgci/from <<EOF
  > import os, shutil, sys
  > folder = sys.argv[1]
  > one = os.path.join(folder, os.listdir(folder)[0])
  > for n in range(70):
  >     for prefix in "0f":
  >         copy = os.path.join(folder, "%s%015x" % (prefix, n))
  >         shutil.copytree(one, copy)
  > os.utime(one, (1, 1))
  > EOF
  $ hg -R many log -r 0 -T '{ci_state}\n'
  failed
  $ results served/.hg `node 0` 12 passed build=passed
  $ cat >> many/.hg/hgrc <<EOF
  > [paths]
  > default = http://localhost:$HGPORT/
  > EOF
  $ hg -R many pull -q
  $ "$PYTHON" - many/.hg/hgci/from <<EOF
  > import os, sys
  > for name in os.listdir(sys.argv[1]):
  >     new = name.startswith(("0000", "f000"))
  >     os.utime(os.path.join(sys.argv[1], name), None if new else (1, 1))
  > EOF
  $ hg -R many log -r 0 -T '{ci_state}\n'
  passed

Whatever goes wrong with results fails no pull

  $ hg init unlucky
  $ hg -R unlucky pull -q -r 0 http://localhost:$HGPORT/ --config hgci.exchange=no
  $ cat > full.py <<EOF
  > import tempfile
  > def full(**kwargs):
  >     raise OSError(28, 'No space left on device')
  > tempfile.NamedTemporaryFile = full
  > EOF
  $ hg -R unlucky pull -r 1 http://localhost:$HGPORT/ --config extensions.full=full.py \
  >   2>&1 | grep -v '^new'
  pulling from http://localhost:$HGPORT/
  searching for changes
  adding changesets
  adding manifests
  adding file changes
  ci: no results were received: [Errno 28] No space left on device
  added 1 changesets with 1 changes to 1 files
  (run 'hg update' to get a working copy)
  $ hg -R unlucky log -T '{rev} {ci_state}\n'
  1 
  0 
  $ hg -R unlucky pull -q http://localhost:$HGPORT/
  $ hg -R unlucky log -r 0 -T '{rev} {ci_state}\n'
  0 passed
  $ hg -R unlucky pull -q http://localhost:$HGPORT/ --config hgci.exchange-limit=-1
  $ hg clone -q served negative --config hgci.exchange-limit=-1
  $ "$PYTHON" - unlucky/.hg/hgci/from/*/source <<EOF
  > import sys
  > lines = open(sys.argv[1]).read().splitlines()
  > lines[2] = "02" * 40000
  > open(sys.argv[1], "w").write("\n".join(lines) + "\n")
  > EOF
  $ hg -R unlucky pull http://localhost:$HGPORT/
  pulling from http://localhost:$HGPORT/
  searching for changes
  no changes found

What was stripped and put back is no longer withheld

  $ hg clone -q served stripping --config hgci.exchange=no
  $ results stripping/.hg `node 0` 20 failed build=failed
  $ results stripping/.hg `node 4` 21 passed build=passed
  $ hg -R stripping --config extensions.strip= strip -q -r 4
  $ echo 5 > stripping/f5
  $ hg -R stripping commit -qAm 'change 5'
  $ hg clone -q --pull stripping behind
  $ hg -R stripping --config extensions.strip= strip -q -r tip --no-backup
  $ hg -R stripping unbundle -q stripping/.hg/strip-backup/*.hg
  $ hg -R behind pull -q
  $ hg -R behind log -r 'last(ci())' -T '{desc} {ci_state}\n'
  change 4 passed

More than the limit is left for the next pull

  $ results served/.hg `node 4` 9 passed `"$PYTHON" -c "for n in range(1500): print('job%d=passed' % n)"`
  $ hg init limited
  $ hg -R limited pull http://localhost:$HGPORT/ --config hgci.exchange-limit=1 | grep ci:
  ci: there are more results, for the next pull
  $ hg -R limited log -r 'ci(passed, job1499)' -T '{rev} {ci_state}\n'
  $ hg -R limited pull http://localhost:$HGPORT/ | grep ci:
  [1]
  $ hg -R limited log -r 'ci(passed, job1499)' -T '{rev} {ci_state}\n'
  4 passed
  $ cat error.log
