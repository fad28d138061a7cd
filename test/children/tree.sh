#!/bin/sh
# A tree of four: itself, a child in its own group, a grandchild in a session of its own that ignores TERM, and
# below that one more session. Says all four pids, then never ends.
perl -MPOSIX=setsid -e '
  $| = 1;
  print "$$\n";
  if (!fork) {
    setsid();
    $SIG{TERM} = "IGNORE";
    print "$$\n";
    if (!fork) { setsid(); print "$$\n"; print "ready\n"; }
  }
  sleep 100000 while 1;
' &
echo $$
wait
