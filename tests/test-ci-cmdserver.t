#require no-chg

In a command server, which keeps a repository open for many commands.

  $ PYTHONPATH="$RUNTESTDIR/../contrib:$PYTHONPATH"; export PYTHONPATH
  $ grep -v '^promptecho ' < $HGRCPATH > $HGRCPATH.new && mv $HGRCPATH.new $HGRCPATH
  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > EOF
  $ hg init widgets
  $ cd widgets
  $ for n in 0 1; do echo $n > f$n; hg commit -qAm "change $n"; done
  $ cat >> .hg/hgrc <<EOF
  > [hgci]
  > socket = $TESTTMP/nobody
  > EOF
  $ RESULTS="$TESTDIR/results-log.py"; export RESULTS

What other processes write is seen by the next command, and a pipeline is looked at in each transaction

  >>> import os, subprocess, sys
  >>> from hgclient import check, readchannel, runcommand, stringio
  >>> def result(server, rev, *words):
  ...     node = stringio()
  ...     runcommand(server, [b'log', b'-r', rev, b'-T', b'{node}'], output=node)
  ...     script = [sys.executable, os.environ['RESULTS'], '.hg']
  ...     subprocess.run([*script, node.getvalue().decode(), *words], check=True)
  >>> @check
  ... def results(server):
  ...     readchannel(server)
  ...     states = [b'log', b'-T', b'{rev} [{ci_state}]\n']
  ...     runcommand(server, states)
  ...     runcommand(server, [b'ci-status', b'0'])
  ...     result(server, b'0', '10', 'passed', 'build=passed')
  ...     runcommand(server, states)
  ...     runcommand(server, [b'ci-status', b'-q', b'0'])
  ...     runcommand(server, [b'log', b'-r', b'ci(passed)', b'-T', b'{rev}\n'])
  ...     result(server, b'1', '11', 'failed', 'build=failed')
  ...     runcommand(server, states)
  ...     runcommand(server, [b'ci-status', b'-q', b'1'])
  *** runcommand log -T {rev} [{ci_state}]
  
  1 []
  0 []
  *** runcommand ci-status 0
  ci: showing the results log alone: $TESTTMP/nobody: not reachable: No such file or directory (os error 2)
  no CI known for 1334716f4378
   [3]
  *** runcommand log -r 0 -T {node}
  *** runcommand log -T {rev} [{ci_state}]
  
  1 []
  0 [passed]
  *** runcommand ci-status -q 0
  ci: showing the results log alone: $TESTTMP/nobody: not reachable: No such file or directory (os error 2)
  build
  *** runcommand log -r ci(passed) -T {rev}
  
  0
  *** runcommand log -r 1 -T {node}
  *** runcommand log -T {rev} [{ci_state}]
  
  1 [failed]
  0 [passed]
  *** runcommand ci-status -q 1
  ci: showing the results log alone: $TESTTMP/nobody: not reachable: No such file or directory (os error 2)
  build
   [1]
  >>> @check
  ... def hooks(server):
  ...     readchannel(server)
  ...     for name in (b'one', b'two'):
  ...         with open(name, 'wb') as file:
  ...             file.write(name)
  ...         runcommand(server, [b'commit', b'-qAm', name])
  ...     with open('.hgci.toml', 'w') as file:
  ...         file.write('version = 1\njob = 7\n')
  ...     runcommand(server, [b'commit', b'-qAm', b'malformed'])
  ...     runcommand(server, [b'phase', b'--public', b'.'])
  ...     runcommand(server, [b'phase', b'--public', b'.'])
  *** runcommand commit -qAm one
  ci: daemon not reachable, push recorded; it will be built later
  *** runcommand commit -qAm two
  ci: daemon not reachable, push recorded; it will be built later
  *** runcommand commit -qAm malformed
  ci: .hgci.toml:2:7: `job`: expected a table, found an integer (in 54fc4f1fe8bb)
  ci: daemon not reachable, push recorded; it will be built later
  *** runcommand phase --public .
  ci: daemon not reachable, push recorded; it will be built later
  *** runcommand phase --public .
  no phases changed

A hint for each transaction, and none twice

  $ ls .hg/hgci/spool | wc -l | tr -d ' '
  4
