What hgweb shows of CI.

  $ cat >> $HGRCPATH <<EOF
  > [extensions]
  > hgci =
  > [web]
  > push_ssl = no
  > [phases]
  > publish = no
  > EOF
  $ results() { "$PYTHON" "$TESTDIR/results-log.py" "$@"; }
  $ node() { hg -R "$TESTTMP/served" log --hidden -r "$1" -T '{node}'; }
  $ get() { "$PYTHON" "$RUNTESTDIR/get-with-headers.py" $LOCALIP:$HGPORT "$@"; }
  $ status() { get "$@" | sed -n 1p; }
  $ body() { get --bodyfile body "$@" > /dev/null; }
  $ wait_for() {
  >     for _ in `seq 600`; do "$@" 2> /dev/null && return; sleep 0.1; done
  >     echo "in vain: $*"
  > }
  $ serve() {
  >     hg serve -R served -p $HGPORT -d --pid-file=hg.pid -E errors.log "$@"
  >     cat hg.pid >> $DAEMON_PIDS
  >     hg id http://localhost:$HGPORT/ --config extensions.hgci=! > /dev/null
  > }
  $ again() { killdaemons.py hg.pid; serve "$@"; }

  $ hg init served
  $ cd served
  $ for n in 0 1 2 3; do echo $n > f$n; hg commit -qAm "change $n" -d "$n 0"; done
  $ hg tag -q --local -r 1 one
  $ cd ..

Where CI is not known, every page is byte by byte what it is without the extension, but the list
of commands

  $ cat > pages.sh <<'EOF'
  > for style in paper coal gitweb monoblue spartan raw rss atom json; do
  >     for page in shortlog log graph rev/1 summary tags branches bookmarks file/tip/ '?rev=change' log/tip/f1; do
  >         case $page in \?*) url="$page&style=$style";; *) url="$style-$page";; esac
  >         "$PYTHON" "$RUNTESTDIR/get-with-headers.py" $LOCALIP:$HGPORT "$url" > "$1/$style-`echo $page | tr /? __`"
  >     done
  > done
  > true
  > EOF
  $ mkdir without with known
  $ serve --config extensions.hgci=!
  $ sh pages.sh without
  $ again
  $ sh pages.sh with
  $ diff -rq without with

Of a build, and of one that has not ended

  $ results served/.hg `node 1` 10 passed build=passed
  $ results served/.hg `node 2` 11 failed build=passed test:3.9=failed
  $ results served/.hg `node 3` 12 - build=passed

Where it is known, styles for programs stay as they are

  $ sh pages.sh known
  $ diff -rq without known | grep -v 'known/\(paper\|coal\|gitweb\|monoblue\)-'
  Files without/json-_rev=change and known/json-_rev=change differ
  Files without/json-graph and known/json-graph differ
  Files without/json-log and known/json-log differ
  Files without/json-log_tip_f1 and known/json-log_tip_f1 differ
  Files without/json-rev_1 and known/json-rev_1 differ
  Files without/json-shortlog and known/json-shortlog differ
  Files without/json-summary and known/json-summary differ

The state beside the tags, and in the menu of a changeset

  $ for style in paper gitweb monoblue; do
  >     for page in shortlog log graph rev/2; do
  >         echo "- $style $page"; body "$style-$page"; grep -o '<[a-z]* class="citag[^>]*>[a-z]*<\|<a [^>]*>ci<\|cicss' body
  >     done
  > done
  - paper shortlog
  cicss
  <a class="citag ci-running" title="CI" href="/ci/054d4756731e?style=paper">running<
  <a class="citag ci-failed" title="CI" href="/ci/d075ca037050?style=paper">failed<
  <a class="citag ci-passed" title="CI" href="/ci/e1ee6dc86d76?style=paper">passed<
  - paper log
  cicss
  <a class="citag ci-running" title="CI" href="/ci/054d4756731e?style=paper">running<
  <a class="citag ci-failed" title="CI" href="/ci/d075ca037050?style=paper">failed<
  <a class="citag ci-passed" title="CI" href="/ci/e1ee6dc86d76?style=paper">passed<
  - paper graph
  cicss
  <a class="citag ci-running" title="CI" href="/ci/054d4756731e?style=paper">running<
  <a class="citag ci-failed" title="CI" href="/ci/d075ca037050?style=paper">failed<
  <a class="citag ci-passed" title="CI" href="/ci/e1ee6dc86d76?style=paper">passed<
  - paper rev/2
  cicss
  <a href="/ci/d075ca037050?style=paper">ci<
  <a class="citag ci-failed" title="CI" href="/ci/d075ca037050?style=paper">failed<
  - gitweb shortlog
  cicss
  <span class="citag ci-running" title="CI: running">running<
  <a href="/ci/054d4756731e?style=gitweb">ci<
  <span class="citag ci-failed" title="CI: failed">failed<
  <a href="/ci/d075ca037050?style=gitweb">ci<
  <span class="citag ci-passed" title="CI: passed">passed<
  <a href="/ci/e1ee6dc86d76?style=gitweb">ci<
  - gitweb log
  cicss
  <span class="citag ci-running" title="CI: running">running<
  <a href="/ci/054d4756731e?style=gitweb">ci<
  <span class="citag ci-failed" title="CI: failed">failed<
  <a href="/ci/d075ca037050?style=gitweb">ci<
  <span class="citag ci-passed" title="CI: passed">passed<
  <a href="/ci/e1ee6dc86d76?style=gitweb">ci<
  - gitweb graph
  cicss
  <a class="citag ci-running" title="CI" href="/ci/054d4756731e?style=gitweb">running<
  <a class="citag ci-failed" title="CI" href="/ci/d075ca037050?style=gitweb">failed<
  <a class="citag ci-passed" title="CI" href="/ci/e1ee6dc86d76?style=gitweb">passed<
  - gitweb rev/2
  cicss
  <a href="/ci/d075ca037050?style=gitweb">ci<
  <span class="citag ci-failed" title="CI: failed">failed<
  - monoblue shortlog
  cicss
  <span class="citag ci-running" title="CI: running">running<
  <a href="/ci/054d4756731e?style=monoblue">ci<
  <span class="citag ci-failed" title="CI: failed">failed<
  <a href="/ci/d075ca037050?style=monoblue">ci<
  <span class="citag ci-passed" title="CI: passed">passed<
  <a href="/ci/e1ee6dc86d76?style=monoblue">ci<
  - monoblue log
  cicss
  <span class="citag ci-running" title="CI: running">running<
  <span class="citag ci-failed" title="CI: failed">failed<
  <span class="citag ci-passed" title="CI: passed">passed<
  - monoblue graph
  cicss
  <a class="citag ci-running" title="CI" href="/ci/054d4756731e?style=monoblue">running<
  <a class="citag ci-failed" title="CI" href="/ci/d075ca037050?style=monoblue">failed<
  <a class="citag ci-passed" title="CI" href="/ci/e1ee6dc86d76?style=monoblue">passed<
  - monoblue rev/2
  cicss
  <a href="/ci/d075ca037050?style=monoblue">ci<
  <span class="citag ci-failed" title="CI: failed">failed<
  $ get json-log | grep 'ci_state\|"desc"'
    "ci_state": "running",
  "desc": "change 3",
    "ci_state": "failed",
  "desc": "change 2",
    "ci_state": "passed",
  "desc": "change 1",
    "ci_state": null,
  "desc": "change 0",
  $ get json-rev/2 | grep 'ci_state\|"desc"'
    "ci_state": "failed",
  "desc": "change 2",

The page of a changeset

  $ for style in paper coal gitweb monoblue spartan; do
  >     echo "- $style"; body "$style-ci/`node 2`"
  >     sed -n '/<p><span class="citag/,/<\/table>/p' body | sed 's/<td class="age">.*/<td class="age">/'
  > done
  - paper
  <p><span class="citag ci-failed">failed</span>
  build 11, push 9</p>
  
  
  <table class="cijobs">
  <thead><tr><th>job</th><th>state</th><th>details</th><th>started</th><th>host</th></tr></thead>
  <tbody class="stripes2"><tr>
  <td><a href="/ci/d075ca037050/build?style=paper">build</a></td>
  <td><span class="citag ci-passed">passed</span></td>
  <td>3.2s</td>
  <td class="age">
  <td>here/1</td>
  </tr>
  <tr>
  <td><a href="/ci/d075ca037050/test%3A3.9?style=paper">test:3.9</a></td>
  <td><span class="citag ci-failed">failed</span></td>
  <td>exit 2, 3.2s, 2 of 43 tests failed</td>
  <td class="age">
  <td>here/1</td>
  </tr>
  </tbody>
  </table>
  - coal
  <p><span class="citag ci-failed">failed</span>
  build 11, push 9</p>
  
  
  <table class="cijobs">
  <thead><tr><th>job</th><th>state</th><th>details</th><th>started</th><th>host</th></tr></thead>
  <tbody class="stripes2"><tr>
  <td><a href="/ci/d075ca037050/build?style=coal">build</a></td>
  <td><span class="citag ci-passed">passed</span></td>
  <td>3.2s</td>
  <td class="age">
  <td>here/1</td>
  </tr>
  <tr>
  <td><a href="/ci/d075ca037050/test%3A3.9?style=coal">test:3.9</a></td>
  <td><span class="citag ci-failed">failed</span></td>
  <td>exit 2, 3.2s, 2 of 43 tests failed</td>
  <td class="age">
  <td>here/1</td>
  </tr>
  </tbody>
  </table>
  - gitweb
  <p><span class="citag ci-failed">failed</span>
  build 11, push 9</p>
  
  
  <table class="cijobs">
  <thead><tr><th>job</th><th>state</th><th>details</th><th>started</th><th>host</th></tr></thead>
  <tbody class="stripes2"><tr>
  <td><a href="/ci/d075ca037050/build?style=gitweb">build</a></td>
  <td><span class="citag ci-passed">passed</span></td>
  <td>3.2s</td>
  <td class="age">
  <td>here/1</td>
  </tr>
  <tr>
  <td><a href="/ci/d075ca037050/test%3A3.9?style=gitweb">test:3.9</a></td>
  <td><span class="citag ci-failed">failed</span></td>
  <td>exit 2, 3.2s, 2 of 43 tests failed</td>
  <td class="age">
  <td>here/1</td>
  </tr>
  </tbody>
  </table>
  - monoblue
  <p><span class="citag ci-failed">failed</span>
  build 11, push 9</p>
  
  
  <table class="cijobs">
  <thead><tr><th>job</th><th>state</th><th>details</th><th>started</th><th>host</th></tr></thead>
  <tbody class="stripes2"><tr>
  <td><a href="/ci/d075ca037050/build?style=monoblue">build</a></td>
  <td><span class="citag ci-passed">passed</span></td>
  <td>3.2s</td>
  <td class="age">
  <td>here/1</td>
  </tr>
  <tr>
  <td><a href="/ci/d075ca037050/test%3A3.9?style=monoblue">test:3.9</a></td>
  <td><span class="citag ci-failed">failed</span></td>
  <td>exit 2, 3.2s, 2 of 43 tests failed</td>
  <td class="age">
  <td>here/1</td>
  </tr>
  </tbody>
  </table>
  - spartan
  <p><span class="citag ci-failed">failed</span>
  build 11, push 9</p>
  
  
  <table class="cijobs">
  <thead><tr><th>job</th><th>state</th><th>details</th><th>started</th><th>host</th></tr></thead>
  <tbody class="stripes2"><tr>
  <td><a href="/ci/d075ca037050/build?style=spartan">build</a></td>
  <td><span class="citag ci-passed">passed</span></td>
  <td>3.2s</td>
  <td class="age">
  <td>here/1</td>
  </tr>
  <tr>
  <td><a href="/ci/d075ca037050/test%3A3.9?style=spartan">test:3.9</a></td>
  <td><span class="citag ci-failed">failed</span></td>
  <td>exit 2, 3.2s, 2 of 43 tests failed</td>
  <td class="age">
  <td>here/1</td>
  </tr>
  </tbody>
  </table>

Monoblue leaves no margin, so that its page has one of ours

  $ body monoblue-ci/2; grep -A1 cimonoblue body
      <div class="cimonoblue">
  <p><span class="citag ci-failed">failed</span>
  $ get cicss | grep -o '^.cimonoblue > p\b.*margin: [^;]*'
  .cimonoblue > p, .cimonoblue > .cilog { margin: 10px 20px 0

As text and JSON

  $ get raw-ci/2 content-type
  200 Script output follows
  content-type: text/plain; charset=ascii
  
  d075ca037050 passed build (3.2s)
  d075ca037050 failed test:3.9 (exit 2, 3.2s, 2 of 43 tests failed)
  $ get json-ci/2 content-type
  200 Script output follows
  content-type: application/json
  
  {"build": 11, "jobs": [{"attempt": 1, "duration": 3.21, "exit": 0, "host": "here/1", "name": "build", "pool": "here", "started": 1763650000.5, "state": "passed", "tests": null, "url": null}, {"attempt": 1, "duration": 3.21, "exit": 2, "host": "here/1", "name": "test:3.9", "pool": "here", "started": 1763650000.5, "state": "failed", "tests": {"failed": 2, "passed": 40, "skipped": 1}, "url": null}], "node": "d075ca037050f342b50b41f5ab73f30c890c9173", "push": 9, "source": "log", "state": "failed"}
  $ get ci/0 | grep 'No CI'
  <p>No CI is known for this changeset.</p>
  $ status ci/zzz
  404 Not Found
  $ status raw-ci/2/test:3.9
  404 Not Found
  $ status rss-ci/2
  400 Bad Request

A stylesheet of its own

  $ get cicss content-type | head -4
  200 Script output follows
  content-type: text/css
  
  /* States of CI, as tags beside those of hg. */

A browser keeps a page until there is a new result

  $ get --headeronly shortlog etag
  200 Script output follows
  etag: W/"*-????????????????" (glob)
  $ etag=`get --headeronly shortlog etag | sed -n 's/^etag: //p'`
  $ get --headeronly shortlog --requestheader "If-None-Match=$etag"
  304 Not Modified
  $ results served/.hg `node 0` 13 passed build=passed
  $ get --headeronly shortlog --requestheader "If-None-Match=$etag"
  200 Script output follows
  $ get --headeronly ci/2 etag cache-control
  200 Script output follows
  cache-control: no-cache

Secret changesets, and those that are hidden

  $ hg -R served phase --force --secret 3
  $ status ci/`node 3`
  404 Not Found
  $ body paper-shortlog; grep -c citag body
  3
  $ hg -R served phase --draft 3
  $ hg -R served update -q null
  $ hg -R served debugobsolete `node 3` --config experimental.evolution=createmarkers > /dev/null
  $ status ci/`node 3`
  404 Not Found
  $ status json-ci/`node 3`
  404 Not Found

With the daemon: what runs, and logs. Hostile names and bytes do nothing in a browser

  $ cat >> served/.hg/hgrc <<EOF
  > [hgci]
  > socket = $TESTTMP/s
  > EOF
  $ again
  $ body ci/1; grep 'does not answer' body
  <p>The daemon does not answer: what is queued and running is not known.</p>
  $ mkdir daemon
  $ cat > daemon/status.json <<EOF
  > [{"node": "`node 0`", "state": "running", "build": 20, "push": 9, "source": "live",
  >   "message": "<i>no</i>", "url": "javascript:alert(1)",
  >   "jobs": [{"name": "<b>&\"x", "state": "running", "attempt": 2, "duration": 71.5, "pool": "here",
  >             "host": "<u>", "url": "javascript:alert(1)"},
  >            {"name": "docs", "state": "waiting", "attempt": 0, "why": "needs <i>test</i>"}]}]
  > EOF
  $ printf '<script>alert(1)</script>\033[31mred\033[0m\033[2J\377\n</pre>{node}&amp;\n' > 'daemon/<b>&"x'
  $ "$PYTHON" "$TESTDIR/ci-answers.py" "$TESTTMP/s" "$TESTTMP/daemon" > answers.log 2>&1 &
  $ echo $! >> $DAEMON_PIDS
  $ wait_for test -S s
  $ body paper-ci/0; sed -n '/<p><span class="citag/,/<\/table>/p' body
  <p><span class="citag ci-running">running</span>
  build 20, push 9</p>
  
  <p class="citext">&lt;i&gt;no&lt;/i&gt;</p>
  <table class="cijobs">
  <thead><tr><th>job</th><th>state</th><th>details</th><th>started</th><th>host</th></tr></thead>
  <tbody class="stripes2"><tr>
  <td><a href="/ci/1334716f4378/%3Cb%3E%26%22x?style=paper">&lt;b&gt;&amp;&quot;x</a></td>
  <td><span class="citag ci-running">running</span></td>
  <td>1m11s, attempt 2</td>
  <td class="age"></td>
  <td>&lt;u&gt;</td>
  </tr>
  <tr>
  <td>docs</td>
  <td><span class="citag ci-waiting">waiting</span></td>
  <td>needs &lt;i&gt;test&lt;/i&gt;</td>
  <td class="age"></td>
  <td></td>
  </tr>
  </tbody>
  </table>
  $ get json-ci/0 | grep -o '"url": [^,}]*'
  "url": null
  "url": null
  $ job='%3Cb%3E%26%22x'
  $ for style in paper gitweb monoblue spartan; do
  >     body "$style-ci/0/$job?attempt=1"; sed -n '/jobs<\/a>/,/<\/pre>/p' body
  > done
  <p><a href="/ci/1334716f4378?style=paper">jobs</a> /
  <b>&lt;b&gt;&amp;&quot;x</b>, attempt 1,
  <a href="/raw-ci/1334716f4378/%3Cb%3E%26%22x?attempt=1">whole log as text</a></p>
  
  <pre class="cilog">&lt;script&gt;alert(1)&lt;/script&gt;red^[[2J?
  &lt;/pre&gt;{node}&amp;amp;
  </pre>
  <p><a href="/ci/1334716f4378?style=gitweb">jobs</a> /
  <b>&lt;b&gt;&amp;&quot;x</b>, attempt 1,
  <a href="/raw-ci/1334716f4378/%3Cb%3E%26%22x?attempt=1">whole log as text</a></p>
  
  <pre class="cilog">&lt;script&gt;alert(1)&lt;/script&gt;red^[[2J?
  &lt;/pre&gt;{node}&amp;amp;
  </pre>
  <p><a href="/ci/1334716f4378?style=monoblue">jobs</a> /
  <b>&lt;b&gt;&amp;&quot;x</b>, attempt 1,
  <a href="/raw-ci/1334716f4378/%3Cb%3E%26%22x?attempt=1">whole log as text</a></p>
  
  <pre class="cilog">&lt;script&gt;alert(1)&lt;/script&gt;red^[[2J?
  &lt;/pre&gt;{node}&amp;amp;
  </pre>
  <p><a href="/ci/1334716f4378?style=spartan">jobs</a> /
  <b>&lt;b&gt;&amp;&quot;x</b>, attempt 1,
  <a href="/raw-ci/1334716f4378/%3Cb%3E%26%22x?attempt=1">whole log as text</a></p>
  
  <pre class="cilog">&lt;script&gt;alert(1)&lt;/script&gt;red^[[2J?
  &lt;/pre&gt;{node}&amp;amp;
  </pre>
  $ get "raw-ci/0/$job?attempt=1" content-type x-content-type-options
  200 Script output follows
  content-type: text/plain; charset=UTF-8
  x-content-type-options: nosniff
  
  <script>alert(1)</script>red^[[2J\xef\xbf\xbd (esc)
  </pre>{node}&amp;
  $ get "json-ci/0/$job?attempt=1" content-type
  200 Script output follows
  content-type: application/json
  
  {"attempt": 1, "done": false, "job": "\u003cb\u003e&\"x", "log": "\u003cscript\u003ealert(1)\u003c/script\u003ered^[[2J\ufffd\n\u003c/pre\u003e{node}&amp;\n", "next": 61, "node": "1334716f43787091b0ba5dbcd8e380fa6bf3516f", "start": 0}
  $ status ci/0/nothing
  404 Not Found
  $ status "ci/0/$job?attempt=0"
  400 Bad Request
  $ status "ci/0/$job?attempt=x"
  400 Bad Request
  $ status "ci/0/%FF"
  40[04] .* (re)

The end of a long log

  $ "$PYTHON" -c "print('0123456789abcde\n' * 200000, end='')" > daemon/large
  $ touch daemon/large.done
  $ body ci/0/large; grep 'left out' body; grep -c 0123456789abcde body
  <p>3068944 bytes before this are left out.</p>
  8191
  $ get raw-ci/0/large > out; tail -n +3 out | cmp - daemon/large

What is broken at the daemon's side is not told to whoever looks

  $ echo boom > daemon/broken.fails
  $ body raw-ci/0/broken; status raw-ci/0/broken; grep -c boom body
  503 Service Unavailable
  0
  [1]
  $ again --config hgci.socket=nonsense
  $ body raw-ci/0/large; status raw-ci/0/large; grep -c nonsense body
  503 Service Unavailable
  0
  [1]
  $ cat errors.log
